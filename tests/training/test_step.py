"""Gradients of a global batch, however it is shared or cut."""

import copy

import numpy as np
import pytest
import torch

from phantoms import table_of
from plain import assemble, small_run
from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import make_store
from raydrgn.geometry.rotations import random_rotations
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.model.vae import Reconstruction
from raydrgn.training import step as step_module
from raydrgn.training.optimiser import make_optimiser
from raydrgn.training.plan import BatchPlan
from raydrgn.training.step import SliceLattice, TrainStep, evaluate_losses


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
    train_step = TrainStep(parts.vae, optimiser, parts.lattice, beta=0.3, amp=False, world=world)
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


BLOBS_ANGSTROM = np.random.default_rng(1).normal(scale=12.0, size=(20, 3))


@pytest.mark.parametrize("rate", [None, torch.tensor(0.5)])
def test_a_step_on_a_cpu_asks_no_gpu_of_the_machine(monkeypatch, rate):
    """To ask one takes memory of it, which others may have filled."""
    accelerator = {
        "current_accelerator": lambda check_available=False: torch.device("cuda"),
        "current_stream": lambda: pytest.fail("the GPU is asked for its stream"),
    }
    for name, value in accelerator.items():
        monkeypatch.setattr(torch.accelerator, name, value)
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = make_optimiser([weight], rate=rate)
    weight.sum().backward()
    optimiser.step()
    assert (weight < 1).all()


def structure(freqs):
    """Return (Re, Im) of the transform of Gaussian blobs of SD 2 Å, by its formula; at 1/Å."""
    phase = -2 * np.pi * (freqs @ torch.from_numpy(BLOBS_ANGSTROM).T)
    values = torch.polar(torch.ones_like(phase), phase).sum(-1)
    return torch.view_as_real(values * torch.exp(-8 * np.pi**2 * freqs.square().sum(-1)))


class KnownVolume(torch.nn.Module):
    """The structure on pixels of some size, in place of the network."""

    def __init__(self, pixel_size_angstrom):
        super().__init__()
        self._pixel_size = pixel_size_angstrom

    def forward(self, hartley, points, noise):
        values = structure(points.double() / self._pixel_size).float()
        return Reconstruction(values, torch.zeros_like(noise), torch.zeros_like(noise))


def test_images_of_two_pixel_sizes_fit_one_volume(monkeypatch):
    """The error of the right volume is zero for both groups; it is not if they are taken alike."""
    count, box, cpu = 12, 16, torch.device("cpu")
    sizes = np.repeat([3.0, 3.4], count // 2)
    rotations = random_rotations(count, generator=np.random.default_rng(0)).astype(np.float32)
    table = table_of(count, pixel_size_angstrom=sizes, rotation=rotations.reshape(-1, 9))
    lattice = SliceLattice.of_box(box, device=cpu)
    plane = lattice.plane.double() / torch.from_numpy(sizes)[:, None, None]
    optics = np.stack([table.column(name) for name in CTF_COLUMNS], axis=-1).astype(np.float32)
    ctf = contrast_transfer(
        plane[..., :2].float(), CTFParameters.from_columns(torch.from_numpy(optics))
    )
    observed = structure(plane @ torch.from_numpy(rotations).double()) * ctf[..., None]
    store = make_store("host", observed.shape, precision="float32", device=cpu)
    store.write(np.arange(count), observed.float().numpy())
    noise = torch.zeros(count, 1)

    def error(volume, shard, rows):
        return evaluate_losses(
            volume, shard.batch(rows), lattice, noise=noise[rows], beta=0.0, points=None
        ).reconstruction.item()

    power = observed.square().sum(-1).mean(1).sum().item()
    for reference in (3.0, 3.4):
        shard = ResidentShard(table, store, pixel_size_angstrom=reference, device=cpu)
        assert error(KnownVolume(reference), shard, torch.arange(count)) < 1e-6 * power
    monkeypatch.setattr(
        "raydrgn.data.shard.pixel_size_factors", lambda table, _: np.ones(len(table), np.float32)
    )
    shard = ResidentShard(table, store, pixel_size_angstrom=3.0, device=cpu)
    fine, coarse = torch.arange(count).split(count // 2)
    assert error(KnownVolume(3.0), shard, fine) < 1e-6 * power
    assert error(KnownVolume(3.0), shard, coarse) > 0.1 * power


class Recorder(torch.nn.Module):
    """Keeps the points that it is asked for."""

    def forward(self, hartley, points, noise):
        self.points = points
        predicted = torch.zeros(*points.shape[:2], 2)
        return Reconstruction(predicted, torch.zeros_like(noise), torch.zeros_like(noise))


def test_points_of_slices_are_exact_where_products_are_in_bfloat16(parts):
    """In bfloat16 a point at 0.4 cycles per pixel would be off by a thousandth of one."""
    batch, model = parts.shard.batch(torch.arange(5)), Recorder()
    evaluate_losses(
        model,
        batch,
        parts.lattice,
        noise=torch.zeros(5, 2),
        beta=1.0,
        points=None,
        amp_dtype=torch.bfloat16,
    )
    assert torch.equal(model.points, parts.lattice.plane @ batch.rotations)


def test_losses_in_bfloat16_are_nearly_those_in_single_precision(parts):
    batch, noise = parts.shard.batch(torch.arange(20)), torch.zeros(20, 2)
    single, half = (
        evaluate_losses(
            parts.vae, batch, parts.lattice, noise=noise, beta=1.0, points=None, amp_dtype=half
        )
        for half in (None, torch.bfloat16)
    )
    assert half.total.dtype == torch.float32
    torch.testing.assert_close(half.total, single.total, rtol=5e-3, atol=0)
