"""When trials are scored and stopped, how many there are, and how long they take."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from raydrgn.data.ingest import fill_store, prepared_blocks
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import MemoryStore
from raydrgn.errors import ConfigError
from raydrgn.model.device import default_device, free_gpu
from raydrgn.run.config import RunConfig
from raydrgn.sweep.record import TrialRecord
from raydrgn.sweep.space import SearchSpace
from raydrgn.training.assembly import batch_plan, make_steps
from raydrgn.training.fixed_step import CapturedStep
from raydrgn.training.plan import BatchPlan
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.training.steps import Steps

GRID_TRIALS = 12
"""Combinations up to which all are tried."""

DEFAULT_TRIALS = 32

GRACE = 0.25
"""Share of the epochs before which no trial is stopped: while the learning rate is high, ranks mean
little."""

REDUCTION = 3
"""Of the trials that reach an epoch where they are compared, one in this number goes on."""

START_SECONDS = 20.0
"""Start of the processes of a trial."""

MEASURED_PARTICLES = 256
MEASURED_SECONDS = 3.0
FIRST_STEPS = CapturedStep.WARM_UP + 1
"""Not measured: caches are cold, and what a trial compiles is compiled."""


def count_trials(space: SearchSpace, wanted: int | None) -> tuple[int, bool]:
    """Return the number of trials, and whether they are all combinations of a grid.

    Raises:
        ConfigError: If more trials are wanted than there are combinations.
    """
    combinations = space.num_combinations
    if combinations is None:
        return wanted or DEFAULT_TRIALS, False
    if wanted is not None and wanted > combinations:
        raise ConfigError(
            f"--trials is {wanted}, but the values of --search have {combinations} combinations; "
            "give fewer trials, or more values."
        )
    if wanted in (None, combinations) and combinations <= GRID_TRIALS:
        return combinations, True
    return wanted or min(DEFAULT_TRIALS, combinations), wanted == combinations


def grace_epochs(epochs: int) -> int:
    """Return the first epoch at which trials are compared."""
    return max(math.ceil(GRACE * epochs), 1)


def milestones(epochs: int) -> tuple[int, ...]:
    """Return the epochs before the last at which trials are compared."""
    found, epoch = [], grace_epochs(epochs)
    while epoch < epochs:
        found.append(epoch)
        epoch *= REDUCTION
    return tuple(found)


def expected_epochs(count: int, epochs: int, *, halving: bool) -> float:
    """Return the number of epochs of all trials together, if scores come in no order."""
    if not halving:
        return float(count * epochs)
    total, going_on, before = 0.0, float(count), 0
    for milestone in milestones(epochs):
        total += going_on * (milestone - before)
        going_on, before = max(going_on / REDUCTION, 1.0), milestone
    return total + going_on * (epochs - before)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """How long a sweep takes."""

    trials: int
    """That are still to be trained, or to go on."""

    concurrent: int
    seconds: float
    basis: str
    """What the estimate is made of, in words."""


def estimate(
    run: PreparedRun,
    known: Sequence[TrialRecord],
    *,
    count: int,
    concurrent: int,
    halving: bool,
    threads: int,
) -> Estimate:
    """Estimate the time of the trials that have not ended, from those that have or from some steps.

    Args:
        run: Particles, and the settings that no trial changes.
        known: Trials of earlier commands.
        count: Trials in all.
        concurrent: Trials at a time.
        halving: Whether those with low scores are stopped.
        threads: Threads of each.
    """
    ended = [trial for trial in known if trial.has_ended and trial.scores]
    left, epochs = count - len([t for t in known if t.has_ended]), run.config.train.epochs
    if ended:
        seconds = sum(t.seconds for t in ended) / sum(t.epoch for t in ended)
        basis = f"the time of {len(ended)} trials that have ended"
    else:
        rate = measured_rate(run, threads=threads)
        free_gpu()
        seconds = len(run.table) / rate
        basis = (
            f"{MEASURED_SECONDS:g} s of training steps with the settings that no trial changes, on "
            f"this machine with {threads} thread{'s' * (threads > 1)} ({rate:,.0f} particles/s), "
            f"and {START_SECONDS:g} s to start a trial; larger networks among the settings take "
            "longer"
        )
    together = expected_epochs(left, epochs, halving=halving) * seconds
    if not ended:
        together += left * START_SECONDS
    return Estimate(
        trials=left,
        concurrent=concurrent,
        seconds=together / max(min(concurrent, left), 1),
        basis=basis,
    )


def measured_rate(run: PreparedRun, *, threads: int) -> float:
    """Return the particles per second of training steps, on a GPU if there is one."""
    config, table = run.config, run.table.slice_rows(0, min(len(run.table), MEASURED_PARTICLES))
    device = default_device() if config.resources.gpus else torch.device("cpu")
    plan = batch_plan(config, len(table))
    store = MemoryStore((len(table), plan.num_points, 2), config.data.precision, device)
    fill_store(store, prepared_blocks(table, config.data))
    shard = ResidentShard(
        table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=device
    )
    steps = make_steps(_with_as_many_steps(config, plan, len(run.table)), plan, shard, device).steps
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(-(-FIRST_STEPS // plan.num_steps)):
            _run_epoch(steps, plan)
        began, done = time.monotonic(), 0
        while time.monotonic() - began < MEASURED_SECONDS:
            done += _run_epoch(steps, plan)
        return done / (time.monotonic() - began)
    finally:
        torch.set_num_threads(before)


def _with_as_many_steps(config: RunConfig, plan: BatchPlan, num_particles: int) -> RunConfig:
    """Return the configuration with as many epochs of few particles as a trial has steps.

    Whether steps are captured on a GPU depends on their number.
    """
    of_epoch = replace(plan, num_particles=num_particles).num_steps
    epochs = -(-config.train.epochs * of_epoch // plan.num_steps)
    return replace(config, train=replace(config.train, epochs=epochs))


def _run_epoch(steps: Steps, plan: BatchPlan) -> int:
    """Take the steps of the first epoch; return the particles."""
    *_, losses = steps.take(1, 0, plan.batches(1))
    losses.cpu()  # waits for the device
    return plan.num_particles
