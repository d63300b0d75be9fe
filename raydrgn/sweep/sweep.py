"""A sweep from prepared particles to the record of all its trials."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from raydrgn.errors import ConfigError
from raydrgn.evaluation.truth import check_truth
from raydrgn.inputs.resolution import density_mask
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.model.device import gpu_problem
from raydrgn.remote.allocation import Allocation, Cluster, Wanted
from raydrgn.remote.executor import Executor
from raydrgn.remote.job_queue import Amount
from raydrgn.remote.progress import Progress
from raydrgn.remote.reservation import read_cluster, reserve, this_machine
from raydrgn.remote.resources import cores_here
from raydrgn.remote.turn import times_within_limits
from raydrgn.run.claim import ClaimTicket
from raydrgn.run.status import find_run
from raydrgn.shapes import Float
from raydrgn.sweep.concurrency import Concurrency, concurrent_trials
from raydrgn.sweep.consensus import consensus_map
from raydrgn.sweep.half_sets import agreement
from raydrgn.sweep.held_out import HeldOutImages
from raydrgn.sweep.networks import read_network
from raydrgn.sweep.ranking import FINALISTS, ranked
from raydrgn.sweep.record import SweepRecord, TrialRecord
from raydrgn.sweep.schedule import Estimate, estimate, milestones
from raydrgn.sweep.scores import HeldOutScorer, Scorer, TruthScorer
from raydrgn.sweep.space import SearchSpace
from raydrgn.sweep.trials import HALVES, Trial, TrialPlan
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.training.sharing import start_keeper
from raydrgn.wording import counted

log = logging.getLogger(__name__)

LEAST_HELD_OUT = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """All that decides the outcome of a sweep."""

    root: Uri
    base: PreparedRun
    shared: Mapping[str, Any]
    """What is the same for all commands of this sweep; ``particles`` says which they are, prepared
    in which way."""

    space: SearchSpace
    count: int
    is_grid: bool
    halving: bool
    score: str
    truth: Uri | None
    default_rate: bool
    record: SweepRecord
    claim: ClaimTicket | None = None
    """This command's claim to the folder; None if nothing is written."""

    @property
    def pending(self) -> int:
        """Trials that have not ended."""
        return self.count - sum(trial.has_ended for trial in self.record.trials)


def checksum(base: PreparedRun) -> str:
    """Return what is the same for the same particles, prepared in the same way."""
    held_out = b"" if base.held_out is None else base.held_out.to_bytes()
    return storage.checksum(base.table.to_bytes() + held_out + repr(base.config.data).encode())


def estimate_time(sweep: Sweep, executor: Executor) -> Estimate:
    """Estimate how long the trials take that have not ended."""
    if executor.has_cluster:
        with executor.connected():
            side_by_side = _concurrency(sweep, read_cluster())
    else:
        side_by_side = _concurrency(sweep, this_machine())
    return estimate(
        sweep.base,
        sweep.record.trials,
        count=sweep.count,
        concurrent=side_by_side.trials,
        halving=sweep.halving,
        threads=min(side_by_side.allocation.cpus, cores_here()),
    )


def run_sweep(sweep: Sweep, executor: Executor, progress: Progress) -> bool:
    """Run the trials that have not ended; return False if they were interrupted.

    Raises:
        ConfigError: If there are too few held-out particles to score with.
        ClusterError: If the cluster has no room for a trial, not in time either.
        ClaimError: If another command has taken the sweep over, as after a suspension.
    """
    images, volume = None, None
    if sweep.truth is None:
        images = _held_out(sweep.base)
        volume = consensus_map(sweep.base.table, sweep.base.config)
    scorer = _scorer(sweep, images, volume)
    with executor.connected():
        _await_room(sweep, executor.wait_seconds)
        sweep.record.begin(sweep.shared, sweep.claim)
        keeper = start_keeper()
        try:
            if not _run_all(sweep, scorer, keeper, progress):
                return False
            if sweep.score == "halves" and images is not None and volume is not None:
                return _compare_halves(sweep, images, volume, keeper, progress)
            return True
        finally:
            ray.kill(keeper)


def _held_out(base: PreparedRun) -> HeldOutImages:
    count = 0 if base.held_out is None else len(base.held_out)
    if base.held_out is None or count < LEAST_HELD_OUT:
        total = len(base.table) + count
        share = min(math.ceil(100 * LEAST_HELD_OUT / total) / 100, 0.5)
        raise ConfigError(
            f"{count:,} of {total:,} particles are held out, too few to score with; hold out more "
            f"with --set train.held_out_fraction={share:g}."
        )
    return HeldOutImages.prepare(base.held_out, base.config)


def _scorer(
    sweep: Sweep, images: HeldOutImages | None, volume: Float[np.ndarray, "d d d"] | None
) -> Scorer:
    if images is None or volume is None:
        assert sweep.truth is not None
        config = sweep.base.config
        particles = config.source.particles
        check_truth(sweep.truth, sweep.base.table, particles=particles, box=config.data.box)
        return TruthScorer(sweep.truth)
    return HeldOutScorer(images, images.errors_of_map(volume))


def _await_room(sweep: Sweep, wait_seconds: float | None) -> None:
    """Wait until the first trial has room; the others wait by themselves."""
    wanted = Wanted(resources=sweep.base.config.resources)
    reserve(wanted, wait_seconds=wait_seconds, gpu_problem=gpu_problem).release()


def _concurrency(sweep: Sweep, cluster: Cluster, count: int | None = None) -> Concurrency:
    return concurrent_trials(sweep.base.config.resources, cluster, count=count or sweep.pending)


def _side_by_side(sweep: Sweep, count: int) -> Concurrency:
    """Return how many trials the connected cluster has room for, and its limits allow."""
    found = _concurrency(sweep, read_cluster(), count)
    workers, cpus, gpus = found.allocation.num_workers, found.allocation.cpus, found.allocation.gpus
    trials = times_within_limits(Amount(workers * cpus, workers * gpus), found.trials)
    return found._replace(trials=trials)


def _plan(sweep: Sweep, scorer: Scorer | None, keeper: object, allocation: Allocation) -> TrialPlan:
    epochs = sweep.base.config.train.epochs
    given = {"resources.num_workers": allocation.num_workers, "resources.cpus": allocation.cpus}
    return TrialPlan(
        root=sweep.root,
        base=replace(sweep.base, config=sweep.base.config.with_values(given)),
        particles=sweep.shared["particles"],
        default_rate=sweep.default_rate,
        scorer=scorer,
        milestones=milestones(epochs) if sweep.halving else (),
        keeper=keeper,
        cpus=allocation.cpus,
        seconds={trial.number: trial.seconds for trial in sweep.record.trials},
    )


def _run_all(sweep: Sweep, scorer: Scorer, keeper: object, progress: Progress) -> bool:
    from raydrgn.sweep.proposals import Proposals
    from raydrgn.sweep.tuner import run_trials

    if not sweep.pending:
        return True
    side_by_side = _side_by_side(sweep, sweep.pending)
    log.info(
        "%s, %d at a time with %s for each worker",
        counted(sweep.pending, "trial"),
        side_by_side.trials,
        counted(side_by_side.allocation.cpus, "CPU"),
    )
    proposals = Proposals(
        sweep.space,
        count=sweep.count,
        is_grid=sweep.is_grid,
        seed=int(sweep.base.config.train.seed),
        known=sweep.record.trials,
        epochs=sweep.base.config.train.epochs,
    )
    return run_trials(
        _plan(sweep, scorer, keeper, side_by_side.allocation),
        proposals,
        sweep.record,
        count=sweep.pending,
        concurrent=side_by_side.trials,
        halving=sweep.halving,
        progress=progress,
    )


def _compare_halves(
    sweep: Sweep,
    images: HeldOutImages,
    volume: Float[np.ndarray, "d d d"],
    keeper: object,
    progress: Progress,
) -> bool:
    """Train the settings of the best trials on both halves of the particles, and compare these."""
    from raydrgn.sweep.tuner import run_trials

    best = [t for t in ranked(sweep.record.trials) if t.state == "finished"][:FINALISTS]
    best = [trial for trial in best if trial.agreement is None]
    halves = [
        Trial(number=trial.number, values=trial.values, half=half)
        for trial in best
        for half in HALVES
    ]
    if not halves:
        return True
    log.info("training the settings of the best %d on both halves of the particles", len(best))
    side_by_side = _side_by_side(sweep, len(halves))
    whole = run_trials(
        _plan(sweep, None, keeper, side_by_side.allocation),
        halves,
        sweep.record,
        count=len(halves),
        concurrent=side_by_side.trials,
        halving=False,
        progress=progress,
    )
    if not whole:
        return False
    mask = density_mask(volume, pixel_size_angstrom=sweep.base.config.pixel_size_angstrom)
    for trial in best:
        _record_agreement(sweep, trial, images, mask)
    return True


def _record_agreement(
    sweep: Sweep, trial: TrialRecord, images: HeldOutImages, mask: Float[np.ndarray, "d d d"]
) -> None:
    epochs = sweep.base.config.train.epochs
    roots = [
        storage.join(sweep.root, Trial(number=trial.number, values={}, half=half).name)
        for half in HALVES
    ]
    for root in roots:
        status = find_run(root)
        if status is None or not status.is_finished:
            log.warning("%s could not be trained, and %s has no agreement", root, trial.name)
            return
    first, second = (read_network(root, epochs) for root in roots)
    values = agreement((first, second), images, mask)
    sweep.record.update(
        trial.number,
        agreement=float(values.mean()),
        agreement_error=float(values.std(ddof=1) / np.sqrt(len(values))),
    )
