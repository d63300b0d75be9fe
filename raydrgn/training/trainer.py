"""The driver of a training run: actors, Ray Train, retries, progress."""

import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
from raydrgn.model.device import gpu_problem
from raydrgn.remote.allocation import Allocation
from raydrgn.remote.progress import Progress, ProgressBoard, silent
from raydrgn.remote.reservation import WorkersWait, reserve
from raydrgn.remote.session import QUIET_THREADS
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.writer import RunWriter
from raydrgn.training.failures import out_of_memory_message, raised_by_actor
from raydrgn.training.prepare_run import PreparedRun, image_megabytes, wanted
from raydrgn.training.result import TrainResult
from raydrgn.training.sharing import SharedShards
from raydrgn.training.worker import TrainingJob, train_worker

log = logging.getLogger(__name__)

MAX_WORKER_FAILURES = 3
MAX_CONTROLLER_FAILURES = 2
POLL_SECONDS = 0.3
ABANDON_SECONDS = 20  # for workers to end by themselves, once they cannot go on
LAST_WORDS_SECONDS = 20  # for the writer to add the last line of the log
COLLECTIVE_TIMEOUT_S = 600  # a rank that hangs, or prepares much more slowly than the others


class TrainingDefect(Exception):
    """A defect of ours in a worker; carries the worker's traceback."""


@dataclass(frozen=True, slots=True)
class _Actors:
    writer: Any
    board: Any


def train(
    run: PreparedRun,
    *,
    progress: Progress = silent,
    wait_seconds: float | None = None,
    shards: SharedShards | None = None,
) -> TrainResult:
    """Train a run to its last epoch, going on from its latest checkpoint, on the connected cluster.

    The configuration is written, and the particles of a new run.
    Ctrl-C asks the workers to keep a checkpoint and end; a second Ctrl-C ends at once.

    Args:
        run: The run.
        progress: Called with how much is done.
        wait_seconds: How long to wait for room on the cluster; None waits without limit.
        shards: Prepared particles that several runs share; None prepares them for this run alone.

    Raises:
        ClusterError: If there are too few CPUs or GPUs, not in time either, or workers keep dying.
        RaydrgnError: If the particles or the run directory do not allow it.
        TrainingDefect: If our own code failed on a worker.
    """
    config, num_particles = run.config, len(run.table)
    reservation = reserve(
        wanted(config, num_particles), wait_seconds=wait_seconds, gpu_problem=gpu_problem
    )
    allocation = reservation.allocation
    use_ray_data = shards is None and _uses_ray_data(config, run.table, allocation)
    with _started_actors(run.root, num_particles) as actors:
        _begin(run, allocation, actors)
        job = TrainingJob(
            config=config.to_dict(),
            table=ray.put(run.table.table),
            cpus=allocation.cpus,
            use_ray_data=use_ray_data,
            writer=actors.writer,
            board=actors.board,
            shards=shards,
        )
        attempt = _Attempt(job, allocation, actors)
        reservation.release()  # Ray Train reserves for itself, and waits again if need be
        attempt.start()
        try:
            _watch(attempt, actors, run, progress)
        finally:
            attempt.is_abandoned = True
        ending = (
            f"training finished: {config.train.epochs} epochs of {num_particles:,} particles"
            if attempt.finished
            else "training stopped on request; the checkpoint is kept, and --resume goes on"
        )
        _log_last(actors, ending)
    return TrainResult.of(run, finished=attempt.finished)


def _begin(run: PreparedRun, allocation: Allocation, actors: _Actors) -> None:
    """Write what the run directory needs before training."""
    config, writer = run.config, actors.writer
    is_new = not storage.exists(RunDirectory(run.root).config)
    with raised_by_actor():
        if run.initial is not None:
            ray.get(writer.save_checkpoint.remote(run.initial.to_bytes(), run.initial.position))
        particles = run.table.to_bytes() if is_new else None
        held_out = run.held_out.to_bytes() if is_new and run.held_out else None
        ray.get(writer.begin.remote(config.to_yaml().encode(), particles, held_out))
        message = (
            f"training on {len(run.table):,} particles of {config.data.box} px to epoch "
            f"{config.train.epochs}; workers: {allocation.num_workers}, CPUs of each: "
            f"{allocation.cpus}, GPUs of each: {allocation.gpus:g}"
        )
        ray.get(writer.log.remote(message))
        if run.note:
            log.info("%s", run.note)
            ray.get(writer.log.remote(run.note))


@contextmanager
def _started_actors(root: Uri, num_particles: int) -> Iterator[_Actors]:
    """Start writer and board, and end them; what ends training early is the log's last line."""
    actors = _start_actors(root, num_particles)
    try:
        yield actors
    except BaseException as error:
        _log_last(actors, f"training ended early: {str(error) or type(error).__name__}")
        raise
    finally:
        for actor in (actors.writer, actors.board):
            ray.kill(actor)


def _log_last(actors: _Actors, message: str) -> None:
    """Add the last line to the log; where that fails, the error before it matters more."""
    with suppress(ray.exceptions.RayError):
        ray.get(actors.writer.log.remote(message), timeout=LAST_WORDS_SECONDS)
        ray.get(actors.writer.flush.remote(), timeout=LAST_WORDS_SECONDS)


def _uses_ray_data(config: RunConfig, table: ParticleTable, allocation: Allocation) -> bool:
    """Return whether tasks over the cluster are worth their start, and there are CPUs for them."""
    megabytes = image_megabytes(config, len(table)) / allocation.num_workers
    if megabytes < config.resources.local_ingest_mb:
        return False
    cores = ray.cluster_resources().get("CPU", 0)
    if cores < allocation.num_workers * allocation.cpus + 1:
        raise ClusterError(
            f"The workers take all {cores:g} CPUs of the cluster, and none is left for the tasks "
            f"that prepare {megabytes:.0f} MB of images per worker. Give workers fewer with "
            "--cpus-per-worker, or let each prepare its own with --set resources.local_ingest_mb="
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


class _ReportFailures(UserCallback):
    """Reports workers that died; ends the run where they would die again."""

    def __init__(self, actors: _Actors) -> None:
        self._actors = actors

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Name the ranks that failed, unless the board has the reason already."""
        for error in worker_exceptions.values():
            message = out_of_memory_message(error)  # of a worker that Ray's monitor has killed
            if message is not None:
                ray.get(self._actors.board.fail.remote(message))
        if ray.get(self._actors.board.failure.remote()) is not None:
            return
        ranks = ", ".join(map(str, sorted(worker_exceptions)))
        first = next(iter(worker_exceptions.values()))
        reason = (str(first).strip().splitlines() or [type(first).__name__])[-1]
        message = f"worker {ranks} failed ({reason}); starting the workers again"
        self._actors.writer.log.remote(message)
        self._actors.board.note.remote(message)


class _Attempt(threading.Thread):
    """Runs Ray Train, so that the main thread is free for progress and Ctrl-C."""

    def __init__(self, job: TrainingJob, allocation: Allocation, actors: _Actors) -> None:
        super().__init__(daemon=True)
        self._job = job
        self.allocation = allocation
        self._actors = actors
        self.error: BaseException | None = None
        self.finished = False
        self.is_abandoned = False
        """Whether nobody waits for it any more: then nothing is started again."""

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
                        if failures == MAX_CONTROLLER_FAILURES or self.is_abandoned:
                            raise
                        self._actors.board.note.remote("Ray Train's controller died; trying again")
        except BaseException as error:  # raised again in the main thread
            self.error = error

    def _trainer(self, folder: str, number: int) -> TorchTrainer:
        share = self.allocation
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
            torch_config=TorchConfig(
                # NCCL refuses two processes on one GPU.
                backend="gloo" if 0 < share.gpus < 1 else None,
                timeout_s=COLLECTIVE_TIMEOUT_S,
            ),
            run_config=ray.train.RunConfig(
                name=f"attempt-{number}",
                storage_path=folder,  # never used: checkpoints go through the run's writer
                failure_config=FailureConfig(
                    max_failures=MAX_WORKER_FAILURES, controller_failure_limit=3
                ),
                callbacks=[_ReportFailures(self._actors)],
                logging_config=LoggingConfig(log_level="ERROR"),
                worker_runtime_env={"env_vars": QUIET_THREADS},
            ),
        )


def _watch(attempt: _Attempt, actors: _Actors, run: PreparedRun, progress: Progress) -> None:
    """Show progress until the attempt ends; turn its end into an error with the remedy."""
    stopping, shown = False, dict[str, Any]()
    workers = WorkersWait(attempt.allocation)
    while True:
        try:
            if waiting := workers.message():
                log.warning("%s", waiting)
                actors.writer.log.remote(waiting)
            latest, notes = ray.get(actors.board.read.remote())
            for note in notes:
                log.warning("%s", note)
            if latest != shown:
                _show(latest, run, progress)
                shown = latest
            failure: tuple[str, bool] | None = ray.get(actors.board.failure.remote())
            if failure is not None:
                attempt.join(timeout=ABANDON_SECONDS)
                _raise_failure(*failure)
            if not attempt.is_alive():
                break
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            if stopping or workers.is_waiting:
                raise
            stopping = True
            log.warning(
                "stopping: a checkpoint is being written; press Ctrl-C again to end at once"
            )
            actors.board.ask_to_stop.remote()
    if attempt.error is not None:
        reason = str(attempt.error).strip().splitlines()[-1:] or [type(attempt.error).__name__]
        raise ClusterError(
            f"Training ended early: {reason[0].rstrip('.')}. The last checkpoint is kept; the same "
            "command with --resume goes on. More is in session_latest/logs/train of Ray's folder, "
            "which is `ray` in RAY_TMPDIR, TMPDIR or /tmp."
        ) from attempt.error


def _show(latest: Mapping[str, Any], run: PreparedRun, progress: Progress) -> None:
    """Report what the board knows: particles read, or particles trained on in all epochs."""
    if latest.get("phase") == "reading":
        progress("reading particles", latest["done"], latest["of"], unit="particles")
        return
    num_particles, epochs = len(run.table), run.config.train.epochs
    progress(
        "training",
        (latest["epoch"] - 1) * num_particles + latest["particles"],
        epochs * num_particles,
        unit="particles",
        rate=latest["rate"],
        extra=f"epoch {latest['epoch']}/{epochs} loss {latest['total']:.4f} KL {latest['kl']:.2f}",
    )


def _raise_failure(message: str, is_defect: bool) -> NoReturn:
    raise TrainingDefect(message) if is_defect else RaydrgnError(message)
