"""One head for all tests that submit jobs."""

import pytest

import job_cluster


@pytest.fixture(scope="session")
def cluster():
    with job_cluster.head() as found:
        yield found
