"""The explorer is measured as it is used: a process that answers what its page asks."""

import pytest

from raydrgn.bench import explore, tables
from raydrgn.bench.settings import ExploreBenchSettings

pytest.importorskip("uvicorn", reason="the explorer is not installed: raydrgn[explore]")


def test_the_explorer_is_measured_from_its_start_to_its_end(monkeypatch):
    monkeypatch.setattr(explore, "draw_in_browser", lambda address: None)
    steps = []
    count = 20_000
    found = explore.run(
        ExploreBenchSettings(num_particles=count),
        progress=lambda what, done, total, **_: steps.append((what, done, total)),
    )
    assert [done for _, done, _ in steps] == [1, 2, 3, 4, 5]
    points = 5 * 4 * count / explore.MEGABYTE  # rows, numbers and three columns
    assert points < found.sent_megabytes < points + 1.5
    assert 0 < found.lasso < 20
    assert found.memory_megabytes > 50
    assert ("page drawn, in Chromium", "no browser") in tables.explore_rows(found)
