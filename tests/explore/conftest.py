"""A browser, and a visit of the page of a test module's ``server``."""

import pytest

from explorer_page import Visit, started_browser


@pytest.fixture(scope="module")
def browser():
    with started_browser() as found:
        yield found


@pytest.fixture
def visit(browser, server):
    found = Visit(browser, server)
    yield found
    assert found.errors == []
    found.context.close()
