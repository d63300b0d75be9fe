"""The bare training step against the matrix products that this machine can do.

Everything is measured in one process, steps and limit in turn, so that the ratios hold on a machine
whose speed drifts. The arithmetic is counted, not derived: the matrix products that forward and
backward passes carry out.
"""

import ast
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raydrgn.bench.settings import StepSettings
from raydrgn.ctf import CTFParameters
from raydrgn.data.batch import ParticleBatch
from raydrgn.errors import ConfigError
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.recipe import RECIPES, TrainConfig
from raydrgn.training.ahead import STEPS_AHEAD, StepInput, sent_ahead
from raydrgn.training.fixed_step import CapturedStep, FixedStep, num_parts, require_compiler
from raydrgn.training.gpu_memory import StepMemory
from raydrgn.training.gradients import GradientExchange
from raydrgn.training.optimiser import make_optimiser
from raydrgn.training.plan import BatchPlan
from raydrgn.training.step import SliceLattice, TrainStep, half_type

ROUNDS = 5
ROUND_SECONDS = 2.0
LIMIT_SIZE = {"cpu": 2048, "cuda": 8192}
"""Edge of the square matrices whose product is the limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRate:
    """What a step costs; medians over rounds."""

    device: str
    precision: str
    particles_per_s: float
    flop_per_particle: float
    """Of matrix products, forward and backward."""

    flop_per_s: float
    limit_flop_per_s: float
    """Of one large matrix product in the same precision, measured between rounds."""

    share: float
    """Median of the rounds' ratios, of the faster of the two ways to take a step."""

    compiled_per_s: float | None = None
    """Particles per second of the compiled step; None if it was not compiled."""

    speed_up: float | None = None
    """Of the compiled step over the other; median of the rounds' ratios."""

    compile_s: float | None = None
    """Time of compiling: of the first steps, beyond that of others."""

    memory_bytes: float | None = None
    """Most of a GPU's memory that tensors took; None on a CPU."""

    @property
    def best_per_s(self) -> float:
        """Particles per second as they are trained on: of the faster way."""
        return max(self.particles_per_s, self.compiled_per_s or 0.0)


def run(settings: StepSettings) -> StepRate:
    """Time the bare step of the benchmark's network.

    Raises:
        ConfigError: If an assignment does not name a setting of ``model`` or ``train``, or there is
            no compiler.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model, train = configs(
        settings.assignments,
        width=settings.width,
        layers=settings.layers,
        batch_size=settings.batch_size,
        amp=settings.amp,
    )
    if settings.compile and device == "cpu":
        require_compiler()
    return measure(
        model,
        train,
        box=settings.box,
        device=torch.device(device),
        with_compiled=settings.compile,
    )


def configs(
    assignments: Sequence[str], *, width: int, layers: int, batch_size: int, amp: bool
) -> tuple[ModelConfig, TrainConfig]:
    """Return network and training of the benchmark: the protocol's, with all points.

    Raises:
        ConfigError: If an assignment does not name a setting of ``model`` or ``train``.
    """
    model = ModelConfig(
        encoder_width=width, decoder_width=width, encoder_layers=layers, decoder_layers=layers
    )
    train = replace(TrainConfig(**RECIPES["protocol"]), batch_size=batch_size, amp=amp)
    sections: dict[str, Any] = {"model": model, "train": train}
    for text in assignments:
        name, _, value = text.partition("=")
        section, _, key = name.partition(".")
        known = {f.name for f in fields(sections[section])} if section in sections else set()
        if key not in known:
            raise ConfigError(
                f"--set {text}: this benchmark takes fields of the sections model and train only, "
                "as train.points_fraction=0.25."
            )
        sections[section] = replace(sections[section], **{key: _value(text, value)})
    return sections["model"], sections["train"]


def _value(text: str, value: str) -> Any:
    """Read a value without YAML, which may not be installed where a step is timed."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if value.isidentifier():
            return value
        raise ConfigError(f"--set {text}: {value!r} is neither a number nor a word.") from None


def measure(
    model: ModelConfig,
    train: TrainConfig,
    *,
    box: int,
    device: torch.device,
    with_compiled: bool = False,
) -> StepRate:
    """Time training steps on made-up particles.

    Args:
        model: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute.
        with_compiled: Whether to time the compiled step too, in turn with the other.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    step = make_step(model, train, box=box, device=device)
    flop = flop_of(step) / train.batch_size
    ways, compile_s = [step], None
    if with_compiled:
        ways.append(make_fixed_step(model, train, box=box, device=device, is_compiled=True))
        compile_s = _seconds(ways[1], 4 + CapturedStep.WARM_UP, device)
    for _ in range(3):  # caches
        step()
    half = half_type(device, amp=train.amp)
    limit = product(half or torch.float32, device)
    limit()
    rates: list[list[float]] = [[] for _ in ways]
    limits = []
    for _ in range(ROUNDS):
        limits.append(2 * LIMIT_SIZE[device.type] ** 3 * calls_per_second(limit, device))
        for way, found in zip(ways, rates, strict=True):
            found.append(train.batch_size * calls_per_second(way, device))
    best = [max(pair) for pair in zip(*rates, strict=True)]
    rate, compiled = median(rates[0]), median(rates[1]) if with_compiled else None
    if compile_s is not None and compiled:
        compile_s = max(compile_s - 7 * train.batch_size / compiled, 0.0)
    return StepRate(
        device=device_name(device),
        precision="bfloat16" if half else "float32",
        particles_per_s=rate,
        flop_per_particle=flop,
        flop_per_s=max(rate, compiled or 0.0) * flop,
        limit_flop_per_s=median(limits),
        share=median(r * flop / p for r, p in zip(best, limits, strict=True)),
        compiled_per_s=compiled,
        speed_up=median(c / e for e, c in zip(*rates, strict=True)) if with_compiled else None,
        compile_s=compile_s,
        memory_bytes=float(torch.cuda.max_memory_allocated(device)) if on_gpu else None,
    )


def flop_of(step: Callable[[], object]) -> int:
    """Return the arithmetic of the matrix products of a step, counted as it is taken."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _seconds(step: Callable[[], object], count: int, device: torch.device) -> float:
    """Return the time of the first steps."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


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
    exchange: GradientExchange | None = None,
) -> Callable[[], None]:
    """Return a function that takes one step of fixed shapes on made-up particles.

    Args:
        network: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute.
        is_compiled: Whether the step is captured on a GPU, or compiled on a CPU.
        exchange: With other workers.
    """
    torch.manual_seed(train.seed)
    lattice = SliceLattice.of_box(box, device=device)
    vae = HeterogeneousVAE(network, box=box, num_pixels=2 * lattice.num_points).to(device)
    plan, count = _plan(train, lattice.num_points), train.batch_size
    batch = made_up_batch(count, lattice.num_points, device)
    half = half_type(device, amp=train.amp)
    fixed = FixedStep(
        vae,
        make_optimiser(vae.parameters(), rate=torch.zeros((), device=device)),
        lattice,
        lambda rows, of_batch: batch.chosen(rows),
        plan.noise(1, network.zdim).to(device),
        beta=train.kl_weight(network.zdim),
        half=half,
        exchange=exchange,
    )
    memory = StepMemory.of(
        vae, num_points=lattice.num_points, num_compared=plan.num_chosen, half=bool(half)
    )
    fixed.num_parts = num_parts(memory, count, num_compared=plan.num_chosen, device=device)
    take: Callable[[StepInput], object] = fixed
    if is_compiled and device.type == "cuda":
        take = CapturedStep(fixed)
    elif is_compiled:
        fixed.compile()
    rate = train.peak_rate(network.decoder_width)
    endless = _plan(train, lattice.num_points, steps=1 << 30)
    inputs = itertools.chain.from_iterable(
        sent_ahead(
            endless,
            [torch.arange(count)] * STEPS_AHEAD,
            epoch=1,
            first=first,
            size=count,
            rate=lambda *_: rate,
            device=device,
        )
        for first in itertools.count(step=STEPS_AHEAD)
    )

    def step() -> None:
        take(next(inputs))

    return step


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


def product(dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """Return the matrix product that is the limit."""
    size = LIMIT_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)

    return multiply


def calls_per_second(call: Callable[[], object], device: torch.device) -> float:
    """Call for about a second, and return how often."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    began, calls = time.perf_counter(), 0
    while True:
        for _ in range(max(calls, 1)):  # doubling, so that waiting is rare
            call()
        calls += max(calls, 1)
        wait()
        elapsed = time.perf_counter() - began
        if elapsed > ROUND_SECONDS / 2:
            return calls / elapsed


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
