"""The training of one trial: a run like any other, scored at some epochs while it goes on."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from raydrgn.errors import ClusterError, RaydrgnError
from raydrgn.run.claim import ClaimError, RunClaim
from raydrgn.run.claim_watch import PATIENCE_SECONDS
from raydrgn.run.directory import RunDirectory
from raydrgn.run.manifest import Manifest
from raydrgn.sweep.scores import Scorer
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.training.sharing import SharedShards, release

STOP_SECONDS = 20.0
"""Time for a training to end by itself."""

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """A score of a trial, in the plain values that Tune passes on."""

    epoch: int
    score: float
    """Minus infinity if the trial cannot go on."""

    error: float
    parts: list[float]
    seconds: float
    """Since training began, with the time of earlier commands."""

    is_last: bool
    failure: str = ""


class TrialTraining:
    """Trains in a thread of its own, and scores epochs in the thread that asks for them."""

    def __init__(
        self,
        run: PreparedRun,
        *,
        scorer: Scorer,
        milestones: Sequence[int],
        shards: SharedShards | None,
        cpus: int,
        seconds_before: float = 0.0,
        is_trained: bool = False,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            run: The run, new or to go on with.
            scorer: Of its epochs.
            milestones: Epochs to score beside the last one, ascending.
            shards: Prepared particles that trials share.
            cpus: Cores for scoring.
            seconds_before: Time that the trial has taken before.
            is_trained: Whether all epochs are done already.
        """
        self._is_trained = is_trained
        self._run, self._scorer, self._shards, self._cpus = run, scorer, shards, cpus
        self._milestones = [e for e in milestones if e < run.config.train.epochs]
        self._began = time.monotonic() - seconds_before
        self._epoch = 0  # that is being trained
        self._stop = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def next_result(self) -> TrialResult:
        """Wait for the next epoch to score, and score it; the last result is of the last epoch.

        Raises:
            ClusterError: If workers were lost too often; the trial can be tried again.
        """
        if self._thread is None:
            torch.set_num_threads(self._cpus)
            self._thread = threading.Thread(target=self._train, daemon=True)
            self._thread.start()
        while self._milestones:
            milestone = self._milestones[0]
            if self._is_finished(milestone):
                del self._milestones[0]
                return self._result(milestone, is_last=False)
            if not self._thread.is_alive():
                break
            time.sleep(POLL_SECONDS)
        self._thread.join()
        if self._error is not None:
            if isinstance(self._error, ClusterError):
                raise self._error
            return self._failed(self._error)
        return self._result(self._run.config.train.epochs, is_last=True)

    def stop(self) -> None:
        """Ask the training to keep a checkpoint and end; wait a while."""
        self._stop = True
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _train(self) -> None:
        from raydrgn.training import trainer

        if self._is_trained:
            return
        try:
            with RunClaim(self._run.root) as claim:
                self._take(claim)
                if self._shards is not None:  # what an earlier process was killed with
                    release(self._shards.keeper, self._shards.run)
                trainer.train(self._run, claim=claim, progress=self._follow, shards=self._shards)
        except BaseException as error:  # raised again, or reported, by the thread that asks
            self._error = error

    def _take(self, claim: RunClaim) -> None:
        """Claim the run, which an earlier process of the same trial may be about to leave.

        Tune starts a trial again as soon as Ray counts its process as lost; on a node that was cut
        off it may live a little longer.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                claim.take()
                return
            except ClaimError:
                if self._stop or time.monotonic() > end:
                    raise
                time.sleep(POLL_SECONDS)

    def _follow(self, what: str, done: float, total: float, **_: Any) -> None:
        if what == "training":
            self._epoch = int(done // len(self._run.table)) + 1
        if self._stop:
            self._stop = False
            raise KeyboardInterrupt  # as Ctrl-C does in `train`: the checkpoint is kept

    def _is_finished(self, epoch: int) -> bool:
        """Return whether weights and latents of an epoch are there."""
        if self._epoch <= epoch and self._thread is not None and self._thread.is_alive():
            return False
        manifest = RunDirectory(self._run.root).manifest
        return epoch in Manifest.read(manifest).finished_epochs()

    def _result(self, epoch: int, *, is_last: bool) -> TrialResult:
        score = self._scorer(self._run.root, epoch)
        return TrialResult(
            epoch=epoch,
            score=score.mean,
            error=score.standard_error,
            parts=score.parts.tolist(),
            seconds=time.monotonic() - self._began,
            is_last=is_last,
        )

    def _failed(self, error: BaseException) -> TrialResult:
        text = str(error).strip() if isinstance(error, RaydrgnError) else repr(error)
        epochs: list[int] = [0]
        with suppress(RaydrgnError):
            manifest = RunDirectory(self._run.root).manifest
            epochs += Manifest.read(manifest).finished_epochs()
        return TrialResult(
            epoch=epochs[-1],
            score=float("-inf"),
            error=0.0,
            parts=[],
            seconds=time.monotonic() - self._began,
            is_last=True,
            failure=text,
        )
