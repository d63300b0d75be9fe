"""A training step as workers are added, and what a run costs beside its steps.

The number of particles per worker and step stays the same, so that without any cost of exchange a
step would take the same time on any number of workers. All numbers of workers are timed in turn by
one group of processes, with the exchange of gradients and without it, so that the ratios hold on a
machine whose speed drifts.
"""

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import LoggingConfig
from ray.train.torch import TorchTrainer

from raydrgn.bench.run_parts import PartCosts, measure_parts
from raydrgn.bench.settings import ScalingSettings
from raydrgn.bench.step import configs
from raydrgn.bench.worker_steps import StepScaling, TimedNetwork, measure
from raydrgn.model.config import ModelConfig
from raydrgn.model.device import gpu_problem
from raydrgn.quiet_threads import QUIET_THREADS
from raydrgn.remote import metrics
from raydrgn.remote.allocation import Wanted
from raydrgn.remote.reservation import reserve
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import connected
from raydrgn.run.recipe import TrainConfig
from raydrgn.run.writer import RunWriter
from raydrgn.training.progress_log import TrainProgress, training_gauges
from raydrgn.training.reduction import MetricReduction
from raydrgn.training.worker_group import scaling_config, torch_config

REPORTS = 100
ROUND_SECONDS = 2.0


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
        reduced = reduction.reduce(reduction.losses(), are_weights_finite=True)
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


def _measure(config: dict[str, Any]) -> list[StepScaling]:
    """Time the steps of each number of workers in turn, on all workers of the group."""
    job: _Job = config["job"]
    torch.set_num_threads(job.cpus)
    device = ray.train.torch.get_device()
    network = TimedNetwork(
        model=job.model,
        train=job.train,
        box=job.box,
        round_s=job.round_s,
        has_fixed_shapes=device.type == "cuda",
    )
    return measure(network, device=device)
