"""The driver of a training run: actors, Ray Train, retries, progress."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import ray
import ray.train
from ray.train import FailureConfig, LoggingConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydrgn.errors import ClusterError, RaydrgnError
from raydrgn.io import storage
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.remote.progress import ProgressBoard
from raydrgn.remote.session import QUIET_THREADS, Allocation, reserve
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.writer import RunWriter
from raydrgn.training.worker import TrainingJob, train_worker

log = logging.getLogger(__name__)

MAX_WORKER_FAILURES = 3
MAX_CONTROLLER_FAILURES = 2
POLL_SECONDS = 0.3
ABANDON_SECONDS = 20  # for workers to end by themselves, once they cannot go on
COLLECTIVE_TIMEOUT_S = 600  # a rank that hangs, or prepares much more slowly than the others

Display = Callable[[Mapping[str, Any]], None]
"""Shown what is known of the run, several times a second."""


class TrainingDefect(Exception):
    """A defect of ours in a worker; carries the worker's traceback."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command's part of a run ended."""

    finished: bool
    """False if it was stopped before its last epoch."""


@dataclass(frozen=True, slots=True)
class _Actors:
    writer: Any
    board: Any


def train(
    config: RunConfig, table: ParticleTable, root: Uri, *, display: Display | None = None
) -> Ending:
    """Train a run to its last epoch, going on from its newest state, on the connected cluster.

    The run directory's particles and configuration are written if they are not there or differ.
    Ctrl-C asks the workers to keep their state and end; a second one ends at once.

    Raises:
        ClusterError: If there are too few CPUs or GPUs, or workers keep dying.
        RaydrgnError: If the particles or the run directory do not allow it.
        TrainingDefect: If our own code failed on a worker.
    """
    allocation = reserve(config.resources)
    use_ray_data = _uses_ray_data(config, table, allocation)
    actors = _start_actors(root, len(table))
    run = RunDirectory(root)
    if not storage.exists(run.particles):
        ray.get(actors.writer.write_file.remote(run.particles, table.to_bytes()))
    # After the particles: a directory with a configuration is a run that can go on.
    ray.get(actors.writer.write_file.remote(run.config, config.to_yaml().encode()))
    ray.get(
        actors.writer.say.remote(
            f"training on {len(table)} particles of {config.data.box} px with "
            f"{allocation.num_workers} workers of {allocation.cpus} CPUs and {allocation.gpus:g} GPUs"
        )
    )
    job = TrainingJob(
        config=config.to_dict(),
        table=ray.put(table.table),
        cpus=allocation.cpus,
        use_ray_data=use_ray_data,
        writer=actors.writer,
        board=actors.board,
    )
    attempt = _Attempt(job, allocation, actors)
    attempt.start()
    try:
        _watch(attempt, actors, display)
    finally:
        for actor in (actors.writer, actors.board):
            ray.kill(actor)
    return Ending(finished=attempt.finished)


def _uses_ray_data(config: RunConfig, table: ParticleTable, allocation: Allocation) -> bool:
    """Tell whether tasks over the cluster are worth their start, and there are CPUs for them."""
    megabytes = 4e-6 * config.data.box**2 * len(table) / allocation.num_workers
    if megabytes < config.resources.local_ingest_mb:
        return False
    cores = ray.cluster_resources().get("CPU", 0)
    if cores < allocation.num_workers * allocation.cpus + 1:
        raise ClusterError(
            f"The workers take all {cores:g} CPUs of the cluster, and none is left for the tasks "
            f"that prepare {megabytes:.0f} MB of images per worker. Give workers fewer with --set "
            "resources.cpus, or let each prepare its own with --set resources.local_ingest_mb="
            f"{megabytes + 1:.0f}."
        )
    return True


def _start_actors(root: Uri, num_particles: int) -> _Actors:
    """Start the writer and the board; the writer on this node if the run is a local path."""
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    place = {"scheduling_strategy": here}
    writer_class: Any = ray.remote(RunWriter)
    board_class: Any = ray.remote(ProgressBoard)
    writer_place = place if storage.is_local(root) else {}
    writer = writer_class.options(**options, **writer_place).remote(
        root, num_particles=num_particles
    )
    # Without restarts: a fresh board would not know that the run has failed or is to stop.
    board = board_class.options(num_cpus=0, **place).remote()
    return _Actors(writer, board)


class _TellRestarts(UserCallback):
    """Says in the log and to the user that workers died."""

    def __init__(self, actors: _Actors) -> None:
        self._actors = actors

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Name the ranks that failed."""
        ranks = ", ".join(map(str, sorted(worker_exceptions)))
        first = next(iter(worker_exceptions.values()))
        reason = (str(first).strip().splitlines() or [type(first).__name__])[-1]
        message = f"worker {ranks} failed ({reason}); starting the workers again"
        self._actors.writer.say.remote(message)
        self._actors.board.note.remote(message)


class _Attempt(threading.Thread):
    """Runs Ray Train, so that the main thread is free for progress and Ctrl-C."""

    def __init__(self, job: TrainingJob, allocation: Allocation, actors: _Actors) -> None:
        super().__init__(daemon=True)
        self._job = job
        self._allotment = allocation
        self._actors = actors
        self.error: BaseException | None = None
        self.finished = False

    def run(self) -> None:
        """Fit; a controller that dies is started again, since Ray does not."""
        try:
            with tempfile.TemporaryDirectory(prefix="raydrgn-train-") as folder:
                for failures in range(MAX_CONTROLLER_FAILURES + 1):
                    try:
                        result = self._trainer(folder, failures).fit()
                        self.finished = bool((result.return_value or {}).get("finished"))
                        return
                    except ray.exceptions.RayActorError:
                        if failures == MAX_CONTROLLER_FAILURES:
                            raise
                        self._actors.board.note.remote("Ray Train's controller died; trying again")
        except BaseException as error:  # raised again in the main thread
            self.error = error

    def _trainer(self, folder: str, number: int) -> TorchTrainer:
        share = self._allotment
        return TorchTrainer(
            train_worker,
            train_loop_config={
                name: getattr(self._job, name) for name in TrainingJob.__dataclass_fields__
            },
            scaling_config=ScalingConfig(
                num_workers=share.num_workers,
                use_gpu=share.gpus > 0,
                resources_per_worker={
                    "CPU": share.cpus,
                    **({"GPU": share.gpus} if share.gpus else {}),
                },
            ),
            torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
            run_config=ray.train.RunConfig(
                name=f"attempt-{number}",
                storage_path=folder,  # never used: states go through the run's writer
                failure_config=FailureConfig(
                    max_failures=MAX_WORKER_FAILURES, controller_failure_limit=3
                ),
                callbacks=[_TellRestarts(self._actors)],
                logging_config=LoggingConfig(log_level="ERROR"),
                worker_runtime_env={"env_vars": QUIET_THREADS},
            ),
        )


def _watch(attempt: _Attempt, actors: _Actors, display: Display | None) -> None:
    """Show progress until the attempt ends; turn its end into an error that says what to do."""
    stopping = False
    while True:
        try:
            latest, notes = ray.get(actors.board.read.remote())
            for note in notes:
                log.warning("%s", note)
            if latest and display:
                display(latest)
            failure: tuple[str, bool] | None = ray.get(actors.board.failure.remote())
            if failure is not None:
                attempt.join(timeout=ABANDON_SECONDS)
                _raise_failure(*failure, actors)
            if not attempt.is_alive():
                break
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            log.warning("stopping: the state is being kept; press Ctrl-C again to end at once")
            actors.board.ask_to_stop.remote()
    if attempt.error is not None:
        reason = str(attempt.error).strip().splitlines()[-1:] or [type(attempt.error).__name__]
        raise ClusterError(
            f"Training ended early: {reason[0]} The last state is kept; the same command with "
            "--resume goes on. Ray's logs say more: /tmp/ray/session_latest/logs/train."
        ) from attempt.error


def _raise_failure(message: str, is_defect: bool, actors: _Actors) -> NoReturn:
    ray.get(actors.writer.say.remote(message))
    raise TrainingDefect(message) if is_defect else RaydrgnError(message)
