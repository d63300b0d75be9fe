"""Attempts at training a run to its end: Ray Train, started again after each loss or change.

The loop is here and not in Ray Train, whose count of failures cannot begin anew where the run has
got further, and whose elastic policy does not ask the workers for a checkpoint.
"""

import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import fields, replace

import ray
import ray.train
from ray.train import (
    ControllerError,
    FailureConfig,
    LoggingConfig,
    PreemptionError,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from raydrgn.errors import LostWorkersError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.quiet_threads import QUIET_THREADS
from raydrgn.remote import metrics
from raydrgn.remote.allocation import Allocation
from raydrgn.remote.reservation import release_groups
from raydrgn.remote.session import session_log_folder
from raydrgn.training.actors import RunActors
from raydrgn.training.budget import MAX_FAILURES, FailureBudget
from raydrgn.training.elastic import wait_for_room, workers_in_words
from raydrgn.training.failures import (
    attempt_message,
    final_failure_of_attempt,
    is_preemption,
    raised_by_actor,
)
from raydrgn.training.worker import TrainingJob, train_worker
from raydrgn.training.worker_group import scaling_config, torch_config

log = logging.getLogger(__name__)

FAILURES = (
    WorkerGroupError,
    PreemptionError,
    ControllerError,
    ray.exceptions.RayActorError,
    ray.exceptions.OutOfMemoryError,
)
"""How ``fit`` ends where workers, or Ray Train's controller, are lost."""


class Attempts(threading.Thread):
    """Trains in a thread, so that the main one is free for progress and Ctrl-C."""

    def __init__(
        self,
        job: TrainingJob,
        share: Allocation,
        actors: RunActors,
        *,
        fewest: int,
        uses_ray_data: Callable[[Allocation], bool],
    ) -> None:
        """Describe the work.

        Args:
            job: What every worker is given.
            share: What each worker gets, and the largest number of workers.
            actors: Writer and board.
            fewest: Smallest number of workers.
            uses_ray_data: Whether tasks all over the cluster prepare the particles.
        """
        super().__init__(name="attempts", daemon=True)
        self._job = job
        self._share = share
        self._actors = actors
        self._fewest = fewest
        self._uses_ray_data = uses_ray_data
        self._budget = FailureBudget()
        self._is_stopping = threading.Event()
        self.number = 0
        self.stop_through = 0
        """Last of the attempts that are to end with a checkpoint."""

        self.num_workers = 0
        """Workers of the present attempt; 0 while there is none."""

        self.error: BaseException | None = None
        self.finished = False
        self._has_ended = threading.Event()

    def stop(self) -> None:
        """Let training end with a checkpoint."""
        self._is_stopping.set()
        self.stop_through = self.number + 1  # the one that may be about to start, too

    def resize(self) -> None:
        """Let the workers keep a checkpoint, and go on with as many as there is room for."""
        self.stop_through = max(self.stop_through, self.number)

    def run(self) -> None:
        """Train until the run is finished, stopped, or cannot go on."""
        try:
            with tempfile.TemporaryDirectory(prefix="raydrgn-train-") as folder:
                while not self._is_stopping.is_set() and not self.finished:
                    self._run_once(folder)
        except BaseException as error:  # raised again in the main thread
            self.error = error
        finally:
            self._has_ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of training; return whether it has come.

        Not by ``join``: before Python 3.13, a thread whose ``join`` Ctrl-C interrupts is taken for
        ended, and training would be torn down before its checkpoint.
        """
        return self._has_ended.wait(seconds)

    def _run_once(self, folder: str) -> None:
        allocation = wait_for_room(
            self._share, fewest=self._fewest, is_stopping=self._is_stopping, report=self._report
        )
        if allocation is None:
            return
        self.number += 1
        self.num_workers = allocation.num_workers
        if self.number > 1 or self._fewest < self._share.num_workers:
            self._report(
                f"training with {workers_in_words(allocation.num_workers)}, each with "
                f"{allocation.worker}"
            )
        try:
            result = self._trainer(allocation, folder).fit()
            self.finished = bool((result.return_value or {}).get("finished"))
            if not self.finished and self.stop_through < self.number:
                self._report("a node of the workers is being preempted; a checkpoint is kept")
        except FAILURES as error:
            self._release_room()
            self._judge(error)
        finally:
            self.num_workers = 0

    def _release_room(self) -> None:
        """Give back the room of workers whose controller was lost.

        Ray Train has an actor for that, which does nothing on a machine with two Ray clusters.
        """
        with raised_by_actor():
            release_groups(ray.get(self._actors.board.placement_groups.remote()))

    def _judge(self, error: Exception) -> None:
        """Return if an attempt is worth another one, else raise why not."""
        final = final_failure_of_attempt(error)
        if final is not None:
            raise final
        if isinstance(error, ControllerError):
            cause = error.controller_failure
            if isinstance(cause, WorkerGroupStartupTimeoutError):  # somebody was quicker
                self._report("there was no room for the workers after all")
                return
        if self._is_stopping.is_set():
            return
        message = attempt_message(error)
        if not is_preemption(error):
            with raised_by_actor():
                position = ray.get(self._actors.writer.newest_position.remote())
            if not self._budget.allows_another_try(position):
                raise LostWorkersError(
                    f"Training ended early: {message}, for the {MAX_FAILURES + 1}th time without a "
                    "new checkpoint. The last checkpoint is kept; the same command with --resume "
                    f"goes on. More is in {session_log_folder()}/train of this machine."
                ) from error
        self._report(f"{message}; starting the workers again")
        metrics.count("restarts", 1, run=self._job.root)

    def _report(self, message: str) -> None:
        log.warning("%s", message)
        self._actors.log(message)

    def _trainer(self, allocation: Allocation, folder: str) -> TorchTrainer:
        job = replace(self._job, attempt=self.number, use_ray_data=self._uses_ray_data(allocation))
        return TorchTrainer(
            train_worker,
            train_loop_config={field.name: getattr(job, field.name) for field in fields(job)},
            scaling_config=scaling_config(allocation),
            torch_config=torch_config(allocation),
            run_config=ray.train.RunConfig(
                name=_train_name(self._job.root, self.number),
                storage_path=folder,  # never used: checkpoints go through the run's writer
                failure_config=FailureConfig(
                    max_failures=0, max_preemption_failures=0, controller_failure_limit=0
                ),
                logging_config=LoggingConfig(log_level="ERROR"),
                worker_runtime_env={"env_vars": QUIET_THREADS},
            ),
        )


def _train_name(root: Uri, number: int) -> str:
    """Return the name of an attempt in the Train tab of Ray's dashboard: the run directory's.

    Ray labels gauges of its own with it.
    """
    name = metrics.ascii_label(storage.name(root))
    return f"{name}-attempt-{number}" if number > 1 else name
