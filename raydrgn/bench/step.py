"""The bare training step against the matrix products that this machine can do.

Everything is measured in one process, step and limit in turn, so that the ratio holds on a machine
whose speed drifts. The arithmetic is counted, not derived: the matrix products that forward and
backward passes carry out.
"""

import ast
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
from raydrgn.training.plan import BatchPlan
from raydrgn.training.step import SliceLattice, TrainStep

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
    """Median of the rounds' ratios."""


def run(settings: StepSettings) -> StepRate:
    """Time the bare step of the benchmark's network.

    Raises:
        ConfigError: If an assignment does not name a setting of ``model`` or ``train``.
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
    return measure(model, train, box=settings.box, device=torch.device(device))


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


def measure(model: ModelConfig, train: TrainConfig, *, box: int, device: torch.device) -> StepRate:
    """Time training steps on made-up particles.

    Args:
        model: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute.
    """
    step = make_step(model, train, box=box, device=device)
    with FlopCounterMode(display=False) as counter:
        step()
    flop_per_particle = counter.get_total_flops() / train.batch_size
    for _ in range(3):  # compilation, caches
        step()
    half = train.amp and device.type == "cuda"
    limit = product(torch.bfloat16 if half else torch.float32, device)
    limit()
    rates, limits = [], []
    for _ in range(ROUNDS):
        limits.append(2 * LIMIT_SIZE[device.type] ** 3 * calls_per_second(limit, device))
        rates.append(train.batch_size * calls_per_second(step, device))
    rate, peak = median(rates), median(limits)
    return StepRate(
        device=device_name(device),
        precision="bfloat16" if half else "float32",
        particles_per_s=rate,
        flop_per_particle=flop_per_particle,
        flop_per_s=rate * flop_per_particle,
        limit_flop_per_s=peak,
        share=median(r * flop_per_particle / p for r, p in zip(rates, limits, strict=True)),
    )


def make_step(
    network: ModelConfig,
    train: TrainConfig,
    *,
    box: int,
    device: torch.device,
    wrap: Callable[[nn.Module], nn.Module] = lambda vae: vae,
) -> Callable[[], None]:
    """Return a function that takes one step on made-up particles.

    Args:
        network: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute.
        wrap: Makes of the network the model that is called, as for several workers.
    """
    torch.manual_seed(train.seed)
    lattice = SliceLattice.of_box(box, device=device)
    vae = HeterogeneousVAE(network, box=box, num_pixels=2 * lattice.num_points).to(device)
    train_step = TrainStep(
        wrap(vae),
        torch.optim.Adam(vae.parameters(), fused=True),
        lattice,
        beta=train.kl_weight(network.zdim),
        amp=train.amp,
    )
    count = train.batch_size
    plan = BatchPlan(
        num_particles=count,
        batch_size=count,
        num_points=lattice.num_points,
        points_fraction=train.points_fraction,
        seed=train.seed,
    )
    batch = _made_up_batch(count, lattice.num_points, device)
    noise = plan.noise(1, network.zdim).to(device)
    taken = 0

    def step() -> None:
        nonlocal taken
        points = plan.points(1, taken)
        train_step(
            batch,
            noise=noise,
            points=None if points is None else points.to(device, non_blocking=True),
            batch_count=count,
            learning_rate=train.peak_rate(network.decoder_width),
        )
        taken += 1

    return step


def _made_up_batch(count: int, num_points: int, device: torch.device) -> ParticleBatch:
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
