"""More workers change the speed of training, and nothing else."""

import itertools

import numpy as np
import pytest

from group import train_group
from plain import latents, small_run, weights
from raydrgn.run.directory import Position
from raydrgn.run.metrics import epoch_rows, read_metrics

STEPS = 26  # of an epoch of 203 particles in batches of 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def alone(data):
    """A run of one worker, and the rows of its batches."""
    run = small_run(data, data / "alone", **{"train.epochs": 2})
    return data / "alone", train_group(run, 1)


def losses(root):
    rows = [row for row in read_metrics(str(root / "metrics.jsonl")) if not row["done"]]
    return np.array([[row["total"], row["reconstruction"], row["kl"]] for row in rows])


@pytest.mark.parametrize("world", [2, 3])
def test_the_first_fifty_losses_and_their_particles_are_the_same(data, alone, tmp_path, world):
    root, taken = alone
    run = small_run(data, tmp_path, **{"train.epochs": 2})
    assert train_group(run, world) == taken
    first, second = losses(root)[:50], losses(tmp_path)[:50]
    assert first.shape == (50, 3)
    np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-5)
    # in a batch of a real size, rounding is all that differs after an epoch
    np.testing.assert_allclose(latents(tmp_path, 1), latents(root, 1), atol=1e-3)


@pytest.mark.clusters
def test_stopped_on_three_and_resumed_on_two_every_particle_is_seen_once(data, alone, tmp_path):
    root, taken = alone
    run = small_run(data, tmp_path, **{"train.epochs": 2})
    stop = Position(2, 11)
    before = train_group(run, 3, stop_after=stop)
    after = train_group(run, 2)
    steps = before[1] + after[0]
    assert 11 <= len(before[1]) < STEPS  # the request takes a step to reach all
    assert steps == taken[1]
    assert sorted(itertools.chain(*steps)) == list(range(203))
    assert [row["epoch"] for row in epoch_rows(str(tmp_path / "metrics.jsonl"))] == [1, 2]
    assert latents(tmp_path, 2).shape == (203, 2)
    np.testing.assert_allclose(losses(tmp_path), losses(root), rtol=1e-4, atol=1e-4)
    assert weights(tmp_path, 2).keys() == weights(root, 2).keys()
