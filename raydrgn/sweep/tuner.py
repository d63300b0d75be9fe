"""Trials on Ray Tune.

Tune starts trials, up to as many as the cluster has room for, and stops those whose scores at an
early epoch are low. A trial is a training like that of ``train``: Tune's process for it starts the
workers, follows them and scores them. What Tune keeps of its own goes into a temporary folder and
is never read: a sweep goes on from its record, and a trial from its run directory.
"""

import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.progress import Progress
from raydrgn.run.directory import RunDirectory
from raydrgn.run.metrics import read_metrics
from raydrgn.sweep.record import SweepRecord, TrialRecord
from raydrgn.sweep.schedule import REDUCTION, grace_epochs
from raydrgn.sweep.trial_training import STOP_SECONDS
from raydrgn.sweep.trials import Trial, TrialPlan
from raydrgn.training.sharing import release

log = logging.getLogger(__name__)

TRIAL_FAILURES = 3
"""Times that a trial is tried again after its process, or too many of its workers, were lost."""

RELEASE_SECONDS = STOP_SECONDS + 10
"""Time after which what a trial that has ended still holds is taken from it."""

PROGRESS_SECONDS, REPORT_SECONDS = 2.0, 60.0

ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints tables whatever the verbosity
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class SweepTrial(tune.Trainable):
    """A trial as Tune knows it: each step trains up to the next epoch to score."""

    def setup(self, config: dict[str, Any], *, plan: TrialPlan) -> None:
        """Prepare the run of a trial."""
        self._training = plan.training(Trial(**config["trial"]))

    def step(self) -> dict[str, Any]:
        """Train up to the next epoch to score, and score it."""
        result = self._training.next_result()
        return asdict(result) | {"done": result.is_last}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep nothing: a trial goes on from its run directory."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take nothing back."""

    def cleanup(self) -> None:
        """End the training, if Tune stops it, with a checkpoint."""
        self._training.stop()


class Halving(ASHAScheduler):
    """Asynchronous successive halving that knows the scores of trials of earlier commands.

    References:
        Li et al. (2020), MLSys (ASHA).
    """

    def __init__(self, epochs: int, known: Sequence[TrialRecord]) -> None:
        # With max_t at the last epoch, trials that are finished would be stopped instead.
        super().__init__(
            time_attr="epoch",
            max_t=epochs + 1,
            grace_period=grace_epochs(epochs),
            reduction_factor=REDUCTION,
            stop_last_trials=False,
        )
        [bracket] = self._brackets
        for trial in known:
            if not trial.has_ended:  # it will report its scores again
                continue
            for epoch, score in sorted(trial.scores.items()):
                bracket.on_result(SimpleNamespace(trial_id=trial.name), epoch, score)


class FollowTrials(tune.Callback):
    """Keeps the record of the trials, and releases what those that have ended still hold.

    A training that is cut off leaves the placement group of its workers: Ray Train's own cleaner
    of such groups fails on machines with a second Ray, and the CPUs would be held until the end.
    """

    def __init__(self, record: SweepRecord, keeper: Any, count: int, progress: Progress) -> None:
        self._record, self._keeper = record, keeper
        self._count, self._progress = count, progress
        self._ended: dict[str, float] = {}
        self._shown = 0.0
        self._reported = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Keep nothing in what Tune writes of itself, which is never read."""
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Begin a record."""
        what = Trial(**trial.config["trial"])
        if not what.half:
            self._record.update(what.number, values=what.values)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep a score, or why there is none."""
        what = Trial(**trial.config["trial"])
        if result["failure"]:
            log.warning("%s failed: %s", what.name, result["failure"])
        if what.half:
            return
        if result["failure"]:
            self._record.update(
                what.number,
                state="failed",
                failure=result["failure"],
                seconds=result["seconds"],
            )
            return
        record = self._record.add_score(what.number, result)
        log.info(
            "%s, epoch %d: score %.4g ± %.2g", what.name, record.epoch, record.score, record.error
        )

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that a trial is finished, or was stopped for its score."""
        what = Trial(**trial.config["trial"])
        self._ended[what.name] = time.monotonic()
        if what.half or not trial.last_result:
            return
        if not trial.last_result["failure"]:
            state = "finished" if trial.last_result["is_last"] else "stopped"
            self._record.update(what.number, state=state)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that a trial could not be trained."""
        what = Trial(**trial.config["trial"])
        self._ended[what.name] = time.monotonic()
        reason = _reason(trial)
        log.warning("%s failed: %s", what.name, reason)
        if not what.half:
            self._record.update(what.number, state="failed", failure=reason)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Release what trials left behind a while ago, and show how far the sweep is."""
        now = time.monotonic()
        for name in [n for n, since in self._ended.items() if now - since > RELEASE_SECONDS]:
            del self._ended[name]
            release(self._keeper, name)
        running = [Trial(**t.config["trial"]) for t in trials if not t.is_finished()]
        if now - self._shown > PROGRESS_SECONDS:
            self._shown, done = now, len(trials) - len(running)
            extra = f"{len(running)} running"
            self._progress("trials", done, self._count, unit="trials", extra=extra)
        if running and now - self._reported > REPORT_SECONDS:
            self._reported = now
            log.info("running: %s", ", ".join(map(self._position, running)))

    def _position(self, trial: Trial) -> str:
        """Return how far a trial is, in words."""
        files = RunDirectory(storage.join(self._record.root, trial.name))
        rows = read_metrics(files.metrics)
        if not rows:
            return f"{trial.name}, whose workers start or wait for CPUs"
        return f"{trial.name} in epoch {rows[-1]['epoch']}"

    def release_all(self) -> None:
        """Release what any trial left behind; none may be running."""
        for name in self._ended:
            release(self._keeper, name)
        self._ended.clear()


def run_trials(
    plan: TrialPlan,
    search: Searcher | Sequence[Trial],
    record: SweepRecord,
    *,
    count: int,
    concurrent: int,
    halving: bool,
    progress: Progress,
) -> bool:
    """Run trials; return False if they were interrupted.

    Args:
        plan: What they share.
        search: Proposes them, or lists them.
        record: Where their scores go.
        count: Their number.
        concurrent: Trials at a time.
        halving: Whether to stop those with low scores.
        progress: Called with the number that have ended.
    """
    os.environ |= ENVIRONMENT
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are reported here
    follow = FollowTrials(record, plan.keeper, count, progress)
    scheduler: TrialScheduler = FIFOScheduler()
    if halving:
        scheduler = Halving(plan.base.config.train.epochs, record.trials)
    listed = None if isinstance(search, Searcher) else [asdict(trial) for trial in search]
    with tempfile.TemporaryDirectory(prefix="raydrgn-sweep-") as folder:
        results = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(SweepTrial, plan=plan), _place_of_trials(plan.root)
            ),
            param_space={"trial": tune.grid_search(listed)} if listed else {},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                num_samples=1 if listed else count,
                search_alg=None if listed else search,
                scheduler=scheduler,
                max_concurrent_trials=concurrent,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=TRIAL_FAILURES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[follow],
            ),
        ).fit()
    follow.release_all()
    ended = [result for result in results if result.error or (result.metrics or {}).get("done")]
    return len(ended) >= count


def _place_of_trials(root: Uri) -> dict[str, float]:
    """Return what a trial's own process asks for: no CPU, since its workers have those.

    Run directories with a local path are written on the node of the command, as in ``train``.
    """
    if not storage.is_local(root):
        return {"memory": 1.0}  # next to nothing, but Tune does not take nothing
    here = ray.get_runtime_context().get_node_id()
    [node] = [node for node in ray.nodes() if node["NodeID"] == here]
    return {f"node:{node['NodeManagerAddress']}": 1e-3}


def _reason(trial: Any) -> str:
    """Return the last line of the error of a trial."""
    error = trial.get_error() or "its process was lost"
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
