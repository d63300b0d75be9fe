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


@given(st.integers(1, 7), st.integers(0, 60), st.integers(0, 20))
def test_an_epoch_takes_each_particle_once(world, more_particles, more_batch):
    num_particles, batch_size = world + more_particles, world + more_batch
    taken = []
    for plan in plans(world, num_particles, batch_size):
        start, stop = plan.rows
        order = plan.order(epoch=2)
        assert sorted(order.tolist()) == list(range(stop - start))
        shares = [order[slice(*plan.share(step))] + start for step in range(plan.num_steps)]
        taken.append(torch.cat(shares))
    assert sorted(torch.cat(taken).tolist()) == list(range(num_particles))


@given(st.integers(1, 7), st.integers(0, 60), st.integers(0, 20))
def test_shares_of_a_step_add_up_to_its_global_batch(world, more_particles, more_batch):
    num_particles, batch_size = world + more_particles, world + more_batch
    group = plans(world, num_particles, batch_size)
    for step in range(group[0].num_steps):
        sizes = [stop - start for start, stop in (plan.share(step) for plan in group)]
        assert sum(sizes) == group[0].batch_count(step)
        assert max(sizes) - min(sizes) <= 1
    assert sum(group[0].batch_count(step) for step in range(group[0].num_steps)) == num_particles


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


@pytest.mark.parametrize("epoch", [1, 2])
def test_orders_differ_between_epochs_and_repeat(epoch):
    [plan] = plans(1, 50, 8)
    assert torch.equal(plan.order(epoch), plans(1, 50, 8)[0].order(epoch))
    assert not torch.equal(plan.order(epoch), plan.order(epoch + 1))
