"""The bare training step against the matrix products that this machine can do.

Everything is measured in one process, steps and limit in turn, so that the ratios hold on a machine
whose speed drifts. The arithmetic is counted, not derived: the matrix products that forward and
backward passes carry out.
"""

import ast
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from raydrgn.bench.settings import StepSettings
from raydrgn.bench.synthetic_steps import make_fixed_step, make_step
from raydrgn.errors import ConfigError
from raydrgn.model.config import ModelConfig
from raydrgn.model.device import default_device, free_gpu
from raydrgn.run.recipe import RECIPES, TrainConfig
from raydrgn.training.fixed_step import CapturedStep, require_compiler
from raydrgn.training.step import choose_amp_dtype

log = logging.getLogger(__name__)

ROUNDS = 5
ROUND_SECONDS = 2.0
FIRST_STEPS = 4 + CapturedStep.WARM_UP
"""Steps taken before those that are timed."""

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

    fused_per_s: float | None = None
    """Particles per second of a captured step whose kernels ``torch.compile`` has fused.

    Training takes none: it is measured after all others, which its failure must not disturb. None
    if it was not asked for, on a CPU, where the compiled step is one, and where it cannot be
    compiled.
    """

    memory_bytes: float | None = None
    """Most of a GPU's memory that tensors of the step took that is trained on; None on a CPU."""

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
    device = torch.device(settings.device) if settings.device else default_device()
    model, train = configs(
        settings.assignments,
        width=settings.width,
        layers=settings.layers,
        batch_size=settings.batch_size,
        amp=settings.amp,
    )
    if settings.compile and device.type == "cpu":
        require_compiler()
    return measure(
        model,
        train,
        box=settings.box,
        device=device,
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
    with_fused: bool = False,
) -> StepRate:
    """Time training steps on made-up particles.

    Args:
        model: Network.
        train: Batch, share of points, precision.
        box: Edge of the images in pixels.
        device: Where to compute.
        with_compiled: Whether to time the compiled step too, in turn with the other.
        with_fused: Whether to time on a GPU, after them, the captured step with fused kernels, of
            which ``torch.compile`` takes up to a minute.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        free_gpu()
        torch.cuda.reset_peak_memory_stats(device)
    made = partial(make_fixed_step, model, train, box=box, device=device, is_compiled=True)
    bare = partial(make_step, model, train, box=box, device=device)
    trained = made() if with_compiled else bare()
    began_s = _seconds(trained, FIRST_STEPS, device)
    memory = float(torch.cuda.max_memory_allocated(device)) if on_gpu else None
    step = bare() if with_compiled else trained
    ways = [step, trained] if with_compiled else [step]
    flop = flop_of(step) / train.batch_size
    for _ in range(3):  # caches
        step()
    amp_dtype = choose_amp_dtype(device, amp=train.amp)
    limit = product(amp_dtype or torch.float32, device)
    limit()
    rates, limits = _rates_in_turn(ways, limit, device, batch_size=train.batch_size)
    best = [max(pair) for pair in zip(*rates, strict=True)]
    rate, compiled = median(rates[0]), median(rates[1]) if with_compiled else None
    compile_s = max(began_s - FIRST_STEPS * train.batch_size / compiled, 0.0) if compiled else None
    return StepRate(
        device=device_name(device),
        precision="bfloat16" if amp_dtype else "float32",
        particles_per_s=rate,
        flop_per_particle=flop,
        flop_per_s=max(rate, compiled or 0.0) * flop,
        limit_flop_per_s=median(limits),
        share=median(r * flop / p for r, p in zip(best, limits, strict=True)),
        compiled_per_s=compiled,
        speed_up=median(c / e for e, c in zip(*rates, strict=True)) if with_compiled else None,
        compile_s=compile_s,
        fused_per_s=_fused_rate(made, device, train.batch_size) if with_fused and on_gpu else None,
        memory_bytes=memory,
    )


def _rates_in_turn(
    steps: Sequence[Callable[[], None]],
    limit: Callable[[], object],
    device: torch.device,
    *,
    batch_size: int,
) -> tuple[list[list[float]], list[float]]:
    """Return particles per second of each step, and the limit's flop per second, in each round."""
    rates: list[list[float]] = [[] for _ in steps]
    limits = []
    for _ in range(ROUNDS):
        limits.append(2 * LIMIT_SIZE[device.type] ** 3 * calls_per_second(limit, device))
        for step, found in zip(steps, rates, strict=True):
            found.append(batch_size * calls_per_second(step, device))
    return rates, limits


def _fused_rate(
    made: Callable[..., Callable[[], None]], device: torch.device, batch_size: int
) -> float | None:
    """Return particles per second of the captured step with fused kernels; None if there is none.

    Args:
        made: Makes the step.
        device: Where to compute.
        batch_size: Particles of a step.
    """
    try:
        step = made(is_fused=True)
        _seconds(step, FIRST_STEPS, device)
        return median(batch_size * calls_per_second(step, device) for _ in range(ROUNDS))
    except Exception as problem:  # of torch's compiler, of the one that it calls, or of CUDA
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        log.warning("torch.compile cannot compile the step (%s): it is not compared", reason)
        return None


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
