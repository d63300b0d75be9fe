"""Gradients of a global batch, however it is shared or cut."""

import copy

import pytest
import torch

from plain import assemble, small_run
from raydrgn.training import step as step_module
from raydrgn.training.plan import BatchPlan
from raydrgn.training.step import TrainStep


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    run = small_run(folder, folder / "run", num_particles=53)
    return assemble(run)


class Record(torch.optim.Optimizer):
    """Keeps gradients instead of stepping."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.0})

    def step(self):
        self.gradients = [
            p.grad.clone() for p in self.param_groups[0]["params"] if p.grad is not None
        ]


def gradients(parts, *, rank: int = 0, world: int = 1, step: int = 2) -> list[torch.Tensor]:
    plan = BatchPlan(
        num_particles=53,
        batch_size=10,
        num_points=parts.lattice.num_points,
        points_fraction=0.5,
        seed=1,
        rank=rank,
        world=world,
    )
    optimiser = Record(parts.vae.parameters())
    train_step = TrainStep(parts.vae, optimiser, parts.lattice, beta=0.3, amp=True, world=world)
    # The same global batch for every world: rows by position, not by each world's permutation.
    everyone = torch.arange(plan.batch_count(step)) * 5
    rows = everyone[rank::world]
    noise = torch.randn(53, 2, generator=torch.Generator().manual_seed(4))
    train_step(
        parts.shard.batch(rows),
        noise=noise[rows],
        points=plan.points(1, step),
        batch_count=plan.batch_count(step),
        learning_rate=1.0,
    )
    return optimiser.gradients


@pytest.mark.parametrize("world", [2, 3])
def test_gradients_do_not_depend_on_the_number_of_workers(parts, world):
    alone = gradients(parts)
    shared = [gradients(parts, rank=rank, world=world) for rank in range(world)]
    for one, *several in zip(alone, *shared, strict=True):
        mean = torch.stack(several).mean(0)  # what DistributedDataParallel makes of them
        scale = one.abs().max().item() + 1e-12
        assert (mean - one).abs().max().item() / scale < 1e-5


def test_gradients_do_not_depend_on_micro_batches(parts, monkeypatch):
    whole = gradients(parts)
    monkeypatch.setattr(step_module, "CACHE_ROWS", 1)
    for one, other in zip(whole, gradients(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * one.abs().max().item())


def test_a_step_moves_weights_by_the_learning_rate(parts):
    # The first step of Adam is lr·g/|g| for each weight with a gradient.
    vae = copy.deepcopy(parts.vae)
    optimiser = torch.optim.Adam(vae.parameters())
    before = [p.detach().clone() for p in vae.parameters()]
    train_step = TrainStep(vae, optimiser, parts.lattice, beta=0.3, amp=False)
    rows = torch.arange(10)
    train_step(
        parts.shard.batch(rows),
        noise=torch.zeros(10, 2),
        points=None,
        batch_count=10,
        learning_rate=1e-3,
    )
    moves = torch.cat(
        [(p.detach() - b).flatten() for p, b in zip(vae.parameters(), before, strict=True)]
    )
    assert moves.abs().max().item() == pytest.approx(1e-3, rel=1e-3)
