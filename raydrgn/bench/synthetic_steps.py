"""Training steps on made-up particles, as training takes them."""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import nn

from raydrgn.ctf import CTFParameters
from raydrgn.data.batch import ParticleBatch
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.recipe import TrainConfig
from raydrgn.training.fixed_step import CapturedStep, FixedStep, num_parts
from raydrgn.training.gpu_memory import StepMemory
from raydrgn.training.gradients import GradientExchange
from raydrgn.training.optimiser import make_optimiser
from raydrgn.training.plan import BatchPlan
from raydrgn.training.prefetch import PREFETCHED_STEPS, StepInput, prefetched
from raydrgn.training.step import SliceLattice, TrainStep, choose_amp_dtype


def _alone(vae: nn.Module) -> nn.Module:
    """Return the network as it is."""
    return vae


def make_step(
    network: ModelConfig,
    train: TrainConfig,
    *,
    box: int,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] = _alone,
) -> Callable[[], None]:
    """Return a function that takes one step on made-up particles, as training takes it.

    Args:
        network: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute; on a GPU in fixed shapes, kernel by kernel.
        wrap: Makes of the network the model that is called, as for several workers of CPUs.
    """
    if device.type != "cpu":
        return make_fixed_step(network, train, box=box, device=device, is_compiled=False)
    torch.manual_seed(train.seed)
    lattice = SliceLattice.of_box(box, device=device)
    vae = HeterogeneousVAE(network, box=box, num_pixels=2 * lattice.num_points).to(device)
    train_step = TrainStep(
        wrap(vae),
        make_optimiser(vae.parameters()),
        lattice,
        beta=train.kl_weight(network.zdim),
        amp=train.amp,
    )
    plan, count = _plan(train, lattice.num_points), train.batch_size
    batch = made_up_batch(count, lattice.num_points, device)
    noise = plan.noise(1, network.zdim).to(device)
    taken = 0

    def step() -> None:
        nonlocal taken
        train_step(
            batch,
            noise=noise,
            points=plan.points(1, taken),
            batch_count=count,
            learning_rate=train.peak_rate(network.decoder_width),
        )
        taken += 1

    return step


def make_fixed_step(
    network: ModelConfig,
    train: TrainConfig,
    *,
    box: int,
    device: torch.device,
    is_compiled: bool,
    is_fused: bool = False,
    exchange: GradientExchange | None = None,
) -> Callable[[], None]:
    """Return a function that takes one step of fixed shapes on made-up particles.

    Args:
        network: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute.
        is_compiled: Whether the step is captured on a GPU, or compiled on a CPU.
        is_fused: Whether ``torch.compile`` fuses kernels of what is captured, on a GPU.
        exchange: With other workers.
    """
    torch.manual_seed(train.seed)
    lattice = SliceLattice.of_box(box, device=device)
    vae = HeterogeneousVAE(network, box=box, num_pixels=2 * lattice.num_points).to(device)
    plan, count = _plan(train, lattice.num_points), train.batch_size
    batch = made_up_batch(count, lattice.num_points, device)
    amp_dtype = choose_amp_dtype(device, amp=train.amp)
    fixed = FixedStep(
        vae,
        make_optimiser(vae.parameters(), rate=torch.zeros((), device=device)),
        lattice,
        lambda rows, of_batch: batch.chosen(rows),
        plan.noise(1, network.zdim).to(device),
        beta=train.kl_weight(network.zdim),
        amp_dtype=amp_dtype,
        exchange=exchange,
    )
    memory = StepMemory.of(
        vae,
        num_points=lattice.num_points,
        num_compared=plan.num_chosen,
        uses_amp=amp_dtype is not None,
    )
    fixed.num_parts = num_parts(
        memory, count, num_compared=plan.num_chosen, device=device, amp_dtype=amp_dtype
    )
    take: Callable[[StepInput], object] = fixed
    if is_fused or (is_compiled and device.type != "cuda"):
        fixed.compile()
    if is_compiled and device.type == "cuda":
        take = CapturedStep(fixed)
    rate = train.peak_rate(network.decoder_width)
    inputs = _endless_inputs(train, lattice.num_points, rate, device)

    def step() -> None:
        take(next(inputs))

    return step


def _endless_inputs(
    train: TrainConfig, num_points: int, rate: float, device: torch.device
) -> Iterator[StepInput]:
    """Yield the inputs of steps on the same particles, prefetched as in training."""
    endless = _plan(train, num_points, steps=1 << 30)
    for first in itertools.count(step=PREFETCHED_STEPS):
        yield from prefetched(
            endless,
            [torch.arange(train.batch_size)] * PREFETCHED_STEPS,
            epoch=1,
            first=first,
            size=train.batch_size,
            rate=lambda *_: rate,
            device=device,
        )


def _plan(train: TrainConfig, num_points: int, *, steps: int = 1) -> BatchPlan:
    """Return the draws of an epoch of some steps."""
    return BatchPlan(
        num_particles=steps * train.batch_size,
        batch_size=train.batch_size,
        num_points=num_points,
        points_fraction=train.points_fraction,
        seed=train.seed,
    )


def made_up_batch(count: int, num_points: int, device: torch.device) -> ParticleBatch:
    """Return particles of noise, with optics, in any orientation."""
    rotations, _ = torch.linalg.qr(torch.randn(count, 3, 3))
    columns = torch.tensor([15_000.0, 14_500.0, 30.0, 300.0, 2.7, 0.1, 0.0]).expand(count, 7)
    return ParticleBatch(
        coefficients=torch.randn(count, num_points, 2).to(device),
        rotations=rotations.to(device),
        pixel_size_angstrom=torch.full((count,), 3.0).to(device),
        ctf=CTFParameters.from_columns(columns.to(device)),
    )
