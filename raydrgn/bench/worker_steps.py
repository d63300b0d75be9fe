"""Steps of some workers of a group, timed with their exchange of gradients and without it."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from raydrgn.bench.synthetic_steps import make_fixed_step, make_step
from raydrgn.model.config import ModelConfig
from raydrgn.run.recipe import TrainConfig
from raydrgn.training.gradients import GradientExchange

ROUNDS = 5
WARM_UP = 4  # DistributedDataParallel lays out its buckets, and a GPU captures its graph


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScaling:
    """A step on some number of workers; medians over rounds."""

    workers: int
    step_s: float
    compute_s: float
    """The same without the exchange of gradients, on as many workers at once."""

    cpu_s: float
    """CPU time of the first worker's process in such a step; other work does not lengthen it."""

    exchange_cpu_s: float
    """What of this the exchange takes."""

    sent_bytes: float | None
    """What the first worker sends per step; None where it does not go through sockets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedNetwork:
    """What is trained, and how long a round of steps takes."""

    model: ModelConfig
    train: TrainConfig
    box: int
    round_s: float
    has_fixed_shapes: bool
    """Whether steps are of fixed shapes, as on a GPU; otherwise those of a CPU are taken."""


def numbers_of_workers(most: int) -> list[int]:
    """Return 1, 2, 4, …, and the largest number itself."""
    doubled = [1 << k for k in range(most.bit_length())]
    return doubled if doubled[-1] == most else [*doubled, most]


def measure(network: TimedNetwork, *, device: torch.device) -> list[StepScaling]:
    """Time the steps of each number of workers in turn; called by all workers of a group.

    Args:
        network: What is trained.
        device: Where this worker computes.
    """
    timers = [
        _Timer(network, workers, device)
        for workers in numbers_of_workers(distributed.get_world_size())
    ]
    for _ in range(ROUNDS):
        for timer in timers:
            timer.take(with_exchange=False)
            timer.take(with_exchange=True)
    return [timer.found() for timer in timers]


class _OptionalExchange(GradientExchange):
    """Adds up gradients unless that is left out."""

    _is_on = True

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums, or leave them."""
        if self._is_on:
            super().add_up(parameters)

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Leave gradients as they are within a block."""
        self._is_on = False
        try:
            yield
        finally:
            self._is_on = True


class _Timer:
    """Times steps of the first so many workers, while the others wait."""

    def __init__(self, network: TimedNetwork, workers: int, device: torch.device) -> None:
        self._workers = workers
        self._device = device
        self._parallel: DistributedDataParallel | None = None
        self._steps, self._computes = list[float](), list[float]()
        self._cpu, self._compute_cpu = list[float](), list[float]()
        self._sent = list[float]()
        self._group = distributed.new_group(list(range(workers)))
        self._exchange = _OptionalExchange(self._group)
        self._step: Callable[[], None] = lambda: None
        if distributed.get_rank() < workers:
            self._step = self._made(network)
        for _ in range(WARM_UP):
            self._step()
        self._repeats = self._calibrated(network.round_s)

    def take(self, *, with_exchange: bool) -> None:
        """Time one round, on all workers that take part at once."""
        distributed.barrier()
        before, cpu = sent_bytes(), time.process_time()
        with nullcontext() if with_exchange else self._without_exchange():
            seconds = self._seconds(self._repeats) / self._repeats
        after, cpu = sent_bytes(), (time.process_time() - cpu) / self._repeats
        distributed.barrier()
        if not with_exchange:
            self._computes.append(seconds)
            self._compute_cpu.append(cpu)
            return
        self._steps.append(seconds)
        self._cpu.append(cpu)
        if before is not None and after is not None:
            self._sent.append((after - before) / self._repeats)

    def found(self) -> StepScaling:
        """Return the medians of the rounds."""
        through_sockets = self._device.type == "cpu" and self._sent
        pairs = zip(self._cpu, self._compute_cpu, strict=True)
        return StepScaling(
            workers=self._workers,
            step_s=median(self._steps),
            compute_s=median(self._computes),
            cpu_s=median(self._cpu),
            exchange_cpu_s=median(whole - compute for whole, compute in pairs),
            sent_bytes=median(self._sent) if through_sockets else None,
        )

    def _made(self, network: TimedNetwork) -> Callable[[], None]:
        """Return a step as training takes it."""
        if network.has_fixed_shapes:
            return make_fixed_step(
                network.model,
                network.train,
                box=network.box,
                device=self._device,
                is_compiled=self._device.type == "cuda",
                exchange=self._exchange,
            )
        return make_step(
            network.model, network.train, box=network.box, device=self._device, wrap=self._wrapped
        )

    def _wrapped(self, vae: nn.Module) -> nn.Module:
        if self._workers == 1:
            return vae
        self._parallel = DistributedDataParallel(
            vae, process_group=self._group, broadcast_buffers=False, gradient_as_bucket_view=True
        )
        return self._parallel

    def _without_exchange(self) -> AbstractContextManager[None]:
        if self._parallel is not None:
            return self._parallel.no_sync()
        return self._exchange.left_out()

    def _calibrated(self, seconds: float) -> int:
        """Return how many steps fill a round, by the clock of the first worker."""
        distributed.barrier()
        wanted = [max(round(seconds / max(self._seconds(2) / 2, 1e-6)), 1)]
        distributed.broadcast_object_list(wanted, src=0)
        return wanted[0]

    def _seconds(self, repeats: int) -> float:
        began = time.perf_counter()
        for _ in range(repeats):
            self._step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


def sent_bytes() -> int | None:
    """Return how much this process has written so far, to sockets and files; None if unknown."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))
