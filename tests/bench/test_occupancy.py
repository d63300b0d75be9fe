"""The bench of occupancies: what it scores, and that every number of its table is measured."""

import dataclasses

import numpy as np
import pytest

from finished_run import make_run
from raydrgn.bench import occupancy
from raydrgn.bench.settings import OccupancyBenchSettings


def test_made_up_masks_are_balls_that_differ():
    masks = occupancy.made_up_masks(20, 32)
    sizes = np.diff(masks.weights.indptr)
    expected = 4 / 3 * np.pi * (occupancy.MASK_RADIUS * 32) ** 3
    np.testing.assert_allclose(sizes.mean(), expected, rtol=0.05)
    assert len(np.unique(masks.weights.indices)) > 5 * expected


@pytest.mark.ray
@pytest.mark.long
def test_all_rates_are_measured(ray_session, tmp_path, monkeypatch):
    monkeypatch.setattr(occupancy, "ROUNDS", 2)
    monkeypatch.setattr(occupancy, "VOLUMES_PER_ROUND", 16)
    make_run(tmp_path / "run", np.random.default_rng(0).normal(size=(30, 2)))
    seen = []
    settings = OccupancyBenchSettings(
        run=str(tmp_path / "run"), num_volumes=100, num_masks=5, box=8, workers=2
    )
    rates = occupancy.run(
        settings, progress=lambda what, done, total, **_: seen.append((done, total))
    )
    assert seen[-1] == (100, 100)
    assert all(np.isfinite(value) for value in dataclasses.astuple(rates))
    assert min(rates.decode, rates.score, rates.workers, rates.whole) > 0
    assert rates.own_growth_megabytes < 100
