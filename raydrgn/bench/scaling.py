"""A training step as workers are added, and what a run costs beside its steps.

The number of particles per worker and step stays the same, so that without any cost of exchange a
step would take the same time on any number of workers. All numbers of workers are timed in turn by
one group of processes, with the exchange of gradients and without it, so that the ratios hold on a
machine whose speed drifts.
"""

import math
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import LoggingConfig
from ray.train.torch import TorchTrainer
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from raydrgn.bench.run_parts import PartCosts, measure_parts
from raydrgn.bench.settings import ScalingSettings
from raydrgn.bench.step import configs, make_step
from raydrgn.model.config import ModelConfig
from raydrgn.model.device import gpu_problem
from raydrgn.remote import metrics
from raydrgn.remote.allocation import Wanted
from raydrgn.remote.reservation import reserve
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import QUIET_THREADS, connected
from raydrgn.run.recipe import TrainConfig
from raydrgn.run.writer import RunWriter
from raydrgn.training.progress_log import TrainProgress, training_gauges
from raydrgn.training.reduction import MetricReduction
from raydrgn.training.worker_group import scaling_config, torch_config

REPORTS = 100
ROUNDS = 5
ROUND_SECONDS = 2.0
WARM_UP = 3  # DistributedDataParallel lays out its buckets after the first step


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScaling:
    """A step on some number of workers; medians over rounds."""

    workers: int
    step_s: float
    compute_s: float
    """The same without the exchange of gradients, on as many workers at once."""

    cpu_s: float
    """CPU time of the first worker's process in such a step; other work does not lengthen it."""

    sent_bytes: float | None
    """What the first worker sends per step; None where it does not go through sockets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingRates:
    """What was measured."""

    steps: list[StepScaling]
    parts: PartCosts
    metrics_s: float
    """CPU time of what is reported about a second of training: losses, gauges, metrics.jsonl."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What every worker is given."""

    model: ModelConfig
    train: TrainConfig
    box: int
    cpus: int
    round_s: float


def run(settings: ScalingSettings) -> ScalingRates:
    """Time steps on 1, 2, 4, … workers through Ray Train, and the other parts in this process.

    Raises:
        RaydrgnError: If a setting of the network is not possible, or the cluster has too few CPUs.
    """
    model, train = configs(
        settings.assignments,
        width=settings.width,
        layers=settings.layers,
        batch_size=settings.batch_size,
        amp=True,
    )
    parts = measure_parts(model, box=settings.box, num_particles=settings.num_particles)
    with connected(settings.address), tempfile.TemporaryDirectory() as folder:
        wanted = Wanted(resources=Resources(num_workers=settings.workers, cpus=1))
        reservation = reserve(wanted, gpu_problem=gpu_problem)
        share = reservation.allocation
        reservation.release()  # Ray Train reserves for itself
        trainer = TorchTrainer(
            _measure,
            train_loop_config={
                "job": _Job(
                    model=model,
                    train=train,
                    box=settings.box,
                    cpus=share.cpus,
                    round_s=ROUND_SECONDS,
                )
            },
            scaling_config=scaling_config(share),
            torch_config=torch_config(share),
            run_config=ray.train.RunConfig(
                storage_path=folder,
                logging_config=LoggingConfig(log_level="ERROR"),
                worker_runtime_env={"env_vars": QUIET_THREADS},
            ),
        )
        steps = trainer.fit().return_value
        metrics_s = report_seconds(Path(folder), steps_per_s=math.ceil(1 / steps[0].step_s))
    return ScalingRates(steps=steps, parts=parts, metrics_s=metrics_s)


def report_seconds(folder: Path, *, steps_per_s: int) -> float:
    """Return the CPU time that reporting a second of training takes, on the connected cluster.

    The losses of its steps are added up, a row goes to metrics.jsonl, and gauges are set, as by a
    worker, the writer and the command, and then by the one that repeats them.

    Args:
        folder: Where metrics.jsonl is written.
        steps_per_s: Steps in a second.
    """
    reduction = MetricReduction(torch.device("cpu"))
    writer = RunWriter(str(folder / "reported"), num_particles=1)
    loss = torch.zeros(3)

    def report(number: int) -> None:
        for _ in range(steps_per_s):
            reduction.add(loss, 16)
        reduced = reduction.reduce(reduction.losses())
        total, reconstruction, kl = reduced.sums / reduced.particles
        row = asdict(
            TrainProgress(
                epoch=1,
                step=number,
                particles=16 * number,
                total=total,
                reconstruction=reconstruction,
                kl=kl,
                learning_rate=1e-4,
                rate=reduced.rate,
                seconds=float(number),
            )
        )
        writer.add_metrics(row, None)
        gauges = training_gauges(row, 20, 1_000_000)
        for _ in range(2):
            metrics.record(gauges, run="bench")

    report(0)
    began = time.process_time()
    for number in range(REPORTS):
        report(number)
    seconds = (time.process_time() - began) / REPORTS
    metrics.forget(run="bench")
    return seconds


def numbers_of_workers(most: int) -> list[int]:
    """Return 1, 2, 4, …, and the largest number itself."""
    doubled = [1 << k for k in range(most.bit_length())]
    return doubled if doubled[-1] == most else [*doubled, most]


def _measure(config: dict[str, Any]) -> list[StepScaling]:
    """Time the steps of each number of workers in turn, on all workers of the group."""
    job: _Job = config["job"]
    torch.set_num_threads(job.cpus)
    device = ray.train.torch.get_device()
    rank = ray.train.get_context().get_world_rank()
    world = ray.train.get_context().get_world_size()
    timers = [_Timer(job, workers, rank, device) for workers in numbers_of_workers(world)]
    for _ in range(ROUNDS):
        for timer in timers:
            timer.take(with_exchange=False)
            timer.take(with_exchange=True)
    return [timer.found() for timer in timers]


class _Timer:
    """Times steps of the first so many workers, while the others wait."""

    def __init__(self, job: _Job, workers: int, rank: int, device: torch.device) -> None:
        self._workers = workers
        self._takes_part = rank < workers
        self._device = device
        self._parallel: DistributedDataParallel | None = None
        self._steps, self._computes = list[float](), list[float]()
        self._cpu, self._sent = list[float](), list[float]()
        group = distributed.new_group(list(range(workers))) if workers > 1 else None

        def wrap(vae: nn.Module) -> nn.Module:
            if group is None:
                return vae
            self._parallel = DistributedDataParallel(
                vae, process_group=group, broadcast_buffers=False, gradient_as_bucket_view=True
            )
            return self._parallel

        self._step: Callable[[], None] = lambda: None
        if self._takes_part:
            self._step = make_step(job.model, job.train, box=job.box, device=device, wrap=wrap)
        for _ in range(WARM_UP):
            self._step()
        self._repeats = self._calibrated(job.round_s)

    def take(self, *, with_exchange: bool) -> None:
        """Time one round, on all workers that take part at once."""
        _wait_for_all()
        before, cpu = sent_bytes(), time.process_time()
        with nullcontext() if with_exchange or self._parallel is None else self._parallel.no_sync():
            seconds = self._seconds(self._repeats) / self._repeats
        after, cpu = sent_bytes(), time.process_time() - cpu
        _wait_for_all()
        if not with_exchange:
            self._computes.append(seconds)
            return
        self._steps.append(seconds)
        self._cpu.append(cpu / self._repeats)
        if before is not None and after is not None:
            self._sent.append((after - before) / self._repeats)

    def found(self) -> StepScaling:
        """Return the medians of the rounds."""
        through_sockets = self._device.type == "cpu" and self._sent
        return StepScaling(
            workers=self._workers,
            step_s=median(self._steps),
            compute_s=median(self._computes),
            cpu_s=median(self._cpu),
            sent_bytes=median(self._sent) if through_sockets else None,
        )

    def _calibrated(self, seconds: float) -> int:
        """Return how many steps fill a round, by the clock of the first worker."""
        _wait_for_all()
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


def _wait_for_all() -> None:
    distributed.barrier()


def sent_bytes() -> int | None:
    """Return how much this process has written so far, to sockets and files; None if unknown."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))
