"""Every particle once, whatever the number of workers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydrgn.training.plan import NOISE_BLOCK, BatchPlan


def plans(
    world: int, num_particles: int, batch_size: int, fraction: float = 1.0
) -> list[BatchPlan]:
    return [
        BatchPlan(
            num_particles=num_particles,
            batch_size=batch_size,
            num_points=100,
            points_fraction=fraction,
            seed=3,
            rank=rank,
            world=world,
        )
        for rank in range(world)
    ]


def batches(group: list[BatchPlan], epoch: int, step: int) -> list[int]:
    """Return the table rows of a step of all workers, in the order of workers."""
    parts = [plan.batches(epoch)[step] + plan.rows[0] for plan in group]
    return torch.cat(parts).tolist()


@given(st.integers(1, 7), st.integers(0, 60), st.integers(0, 20))
def test_an_epoch_takes_each_particle_once(world, more_particles, more_batch):
    num_particles, batch_size = world + more_particles, world + more_batch
    group = plans(world, num_particles, batch_size)
    taken = []
    for plan in group:
        start, stop = plan.rows
        own = torch.cat(plan.batches(epoch=2))
        assert sorted(own.tolist()) == list(range(stop - start))
        taken.append(own + start)
    assert sorted(torch.cat(taken).tolist()) == list(range(num_particles))
    assert [plan.rows[0] for plan in group[1:]] == [plan.rows[1] for plan in group[:-1]]


@given(st.integers(1, 7), st.integers(0, 60), st.integers(0, 20))
def test_parts_of_a_step_add_up_to_its_global_batch(world, more_particles, more_batch):
    num_particles, batch_size = world + more_particles, world + more_batch
    group = plans(world, num_particles, batch_size)
    steps = range(group[0].num_steps)
    for step in steps:
        sizes = [len(plan.batches(1)[step]) for plan in group]
        assert sum(sizes) == group[0].batch_count(step)
        # strata are as even as they go; those that have a particle left in the last step too
        assert max(sizes) - min(sizes) <= 1 + (step == steps[-1])
    assert sum(group[0].batch_count(step) for step in steps) == num_particles
    assert all(group[0].batch_count(step) == group[0].num_strata for step in steps[:-1])


@pytest.mark.parametrize(("num_particles", "batch_size"), [(203, 8), (200, 8), (41, 16), (6, 16)])
@pytest.mark.parametrize("world", [2, 3, 4, 5])
def test_batches_are_the_same_for_every_number_of_workers(num_particles, batch_size, world):
    alone, shared = (plans(count, num_particles, batch_size) for count in (1, world))
    assert alone[0].num_steps == shared[0].num_steps
    for epoch in (1, 7):
        for step in range(alone[0].num_steps):
            assert batches(shared, epoch, step) == batches(alone, epoch, step)


def test_a_run_stopped_on_three_workers_and_resumed_on_two_takes_each_particle_once():
    three, two = plans(3, 1000, 32), plans(2, 1000, 32)
    stopped = 13
    taken = [batches(three, 4, step) for step in range(stopped)]
    taken += [batches(two, 4, step) for step in range(stopped, two[0].num_steps)]
    assert sorted(row for batch in taken for row in batch) == list(range(1000))


def test_a_batch_takes_one_particle_of_each_stratum_in_a_new_order_each_epoch():
    [plan] = plans(1, 1000, 10)
    for step in range(plan.num_steps):
        assert [row // 100 for row in plan.batches(1)[step].tolist()] == list(range(10))
    first, second = (torch.stack(plan.batches(epoch)) for epoch in (1, 2))  # (steps strata)
    # of 1000 places, a random order leaves 10 ± 3 unchanged
    assert (first == second).sum() < 30
    # and strata do not share an order
    assert (first[:, 0] == first[:, 1] - 100).sum() < 10


def test_fewer_particles_than_the_batch_size_are_one_step():
    [plan] = plans(1, 6, 16)
    assert plan.num_steps == 1
    assert plan.batch_count(0) == 6


def test_noise_belongs_to_the_particle_not_to_the_worker():
    count = NOISE_BLOCK + 905  # a worker's rows may begin within a block
    [alone] = plans(1, count, 8)
    shared = torch.cat([plan.noise(4, 3) for plan in plans(3, count, 8)])
    assert torch.equal(alone.noise(4, 3), shared)
    assert not torch.equal(alone.noise(5, 3), shared)


def test_noise_is_standard_normal():
    [plan] = plans(1, 20_000, 8)
    noise = plan.noise(1, 4).numpy()
    # standard errors of mean and variance: 1/√n and √(2/n), n = 80,000
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)


def test_all_workers_compare_the_same_points_and_each_step_others():
    first, second = (plan.points(1, 0) for plan in plans(2, 50, 8, fraction=0.25))
    assert first is not None
    assert len(first) == 25
    assert len(torch.unique(first)) == 25
    assert torch.equal(first, second)
    [plan] = plans(1, 50, 8, fraction=0.25)
    assert not torch.equal(plan.points(1, 1), first)
    # every point has its turn: P(a point is missed by 60 steps) = 0.75⁶⁰ ≈ 3e-8
    assert len(torch.unique(torch.cat([plan.points(1, step) for step in range(60)]))) == 100


def test_all_points_need_no_choice():
    [plan] = plans(1, 50, 8)
    assert plan.points(1, 0) is None


def test_the_order_of_an_epoch_repeats():
    [first], [second] = plans(1, 50, 8), plans(1, 50, 8)
    for one, other in zip(first.batches(3), second.batches(3), strict=True):
        assert torch.equal(one, other)
