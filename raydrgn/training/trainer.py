"""The driver of a training run: what is written first and last, progress, and requests to stop."""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from operator import itemgetter
from typing import Any

import ray

from raydrgn.errors import ClusterError, LostWorkersError, RaydrgnError
from raydrgn.io.particles import ParticleTable
from raydrgn.remote import metrics
from raydrgn.remote.allocation import Allocation, leaves_cpu
from raydrgn.remote.progress import Progress, silent
from raydrgn.remote.reservation import read_cluster
from raydrgn.remote.session import session_log_folder
from raydrgn.remote.sigterm import sigterm_as_interrupt
from raydrgn.run.claim import RunClaim
from raydrgn.run.config import RunConfig
from raydrgn.training.actors import ActorGuard, RunActors, call_actor, started_actors
from raydrgn.training.attempts import Attempts
from raydrgn.training.beginning import begin_run, last_line
from raydrgn.training.elastic import GrowthWatch, first_share, is_draining
from raydrgn.training.failures import TrainingDefect
from raydrgn.training.prepare_run import PreparedRun, image_megabytes, wanted
from raydrgn.training.progress_log import show_progress, stop_message
from raydrgn.training.result import TrainResult
from raydrgn.training.sharing import SharedShards
from raydrgn.training.worker import TrainingJob

log = logging.getLogger(__name__)

POLL_SECONDS = 0.3
PING_SECONDS = 2.0
LAST_READ_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""Time without a report of the workers after which a warning names what is waited for."""


def train(
    run: PreparedRun,
    *,
    claim: RunClaim | None = None,
    progress: Progress = silent,
    wait_seconds: float | None = None,
    shards: SharedShards | None = None,
) -> TrainResult:
    """Train a run to its last epoch, going on from its latest checkpoint, on the connected cluster.

    The configuration is written, and the particles of a new run.
    Ctrl-C, SIGTERM, and a machine of the workers that is preempted, ask the workers to keep a
    checkpoint; the first two end training then, and a second one ends it at once.

    Args:
        run: The run.
        claim: This command's claim to the run, where other commands may know of its directory.
        progress: Called with the particles read, and then with those trained on.
        wait_seconds: How long to wait for room at first; None waits without limit.
        shards: Prepared particles that several runs share; None prepares them for this run alone.

    Raises:
        ClusterError: If there are too few CPUs or GPUs, not in time either.
        LostWorkersError: If workers keep dying.
        RaydrgnError: If the particles or the run directory do not allow it.
        TrainingDefect: If our own code failed on a worker.
    """
    config, num_particles = run.config, len(run.table)
    with metrics.queue_wait(run=run.root):
        reservation = first_share(
            config.resources, wanted(config, num_particles), wait_seconds=wait_seconds
        )
    share, fewest = reservation.allocation, config.resources.fewest
    uses_ray_data = partial(_uses_ray_data, config, run.table) if shards is None else _never
    ticket, keep_epochs = claim.ticket if claim else None, config.train.keep_epochs
    with ExitStack() as reserved:
        reserved.callback(reservation.release)
        uses_ray_data(share)  # refused before anything is written
        with started_actors(run.root, num_particles, ticket, keep_epochs=keep_epochs) as actors:
            workers = _workers_in_words(config, share)
            begin_run(run, workers, claim, writer=actors.writer, call=call_actor)
            attempts = Attempts(
                _training_job(run, share, actors, shards),
                share,
                actors,
                fewest=fewest or share.num_workers,
                uses_ray_data=uses_ray_data,
            )
            reserved.close()  # Ray Train reserves for itself, and room is waited for again
            watch = _Watch(run, attempts, actors, share, claim, progress)
            attempts.start()
            try:
                with sigterm_as_interrupt():
                    watch.until_the_end()
            finally:
                watch.close()
                attempts.stop()
                metrics.forget(run=run.root)
            kept = actors.newest_position()
            result = TrainResult.of(
                run, finished=attempts.finished, stopped=watch.is_stopping, kept=kept
            )
            actors.log_last(last_line(result))
    return result


def _workers_in_words(config: RunConfig, share: Allocation) -> str:
    """Return the line of the run's log on the workers it begins with."""
    resources = config.resources
    number = f"{resources.fewest} to " if resources.is_elastic else ""
    return f"workers: {number}{share.num_workers}, each with {share.worker}"


def _training_job(
    run: PreparedRun, share: Allocation, actors: RunActors, shards: SharedShards | None
) -> TrainingJob:
    """Return what every worker is given, with the particles in the object store."""
    return TrainingJob(
        root=run.root,
        config=run.config.to_dict(),
        table=ray.put(run.table.table),
        cpus=share.cpus,
        gpus=share.gpus,
        use_ray_data=False,
        writer=actors.writer,
        board=actors.board,
        shards=shards,
    )


def _uses_ray_data(config: RunConfig, table: ParticleTable, allocation: Allocation) -> bool:
    """Return whether tasks over the cluster are worth their start, and there are CPUs for them."""
    megabytes = image_megabytes(config, len(table)) / allocation.num_workers
    if megabytes < config.resources.local_ingest_mb:
        return False
    cluster = read_cluster()
    if cluster.is_this_machine or leaves_cpu(allocation, cluster):  # this machine's has spare CPUs
        return True
    if config.resources.is_elastic:  # slower, but nothing that a run must end for
        return False
    raise ClusterError(
        f"The workers take all CPUs that {cluster} has for them, and none is left for the tasks "
        f"that prepare {megabytes:.0f} MB of images per worker. Give workers fewer with "
        "--cpus-per-worker, or let each prepare its own with --set resources.local_ingest_mb="
        f"{megabytes + 1:.0f}."
    )


def _never(allocation: Allocation) -> bool:
    """Return that no tasks prepare particles: they are shared."""
    return False


class _Watch:
    """Shows progress until the attempts end, and passes on what they must know."""

    def __init__(
        self,
        run: PreparedRun,
        attempts: Attempts,
        actors: RunActors,
        share: Allocation,
        claim: RunClaim | None,
        progress: Progress,
    ) -> None:
        self._run = run
        self._attempts = attempts
        self._actors = actors
        self._claim = claim
        self._progress = progress
        self._growth = GrowthWatch(share)
        self._board = ActorGuard("the progress board", actors.board.read, process=itemgetter(2))
        self._writer = ActorGuard("the run's writer", actors.writer.process, process=int)
        self._node = ray.get_runtime_context().get_node_id()
        self._shown: Mapping[str, Any] = {}
        self._heard = self._checked = time.monotonic()
        self.is_stopping = False

    def until_the_end(self) -> None:
        """Return when training is finished or stopped; raise why it cannot go on."""
        has_ended = False
        while not has_ended:
            try:
                self._poll()
                has_ended = self._attempts.wait(POLL_SECONDS)
            except KeyboardInterrupt:
                if self.is_stopping:
                    raise
                self._stop(stop_message(self._run.config))
        self._raise_lost_claim()
        with suppress(ray.exceptions.RayError):  # what the workers have reported last
            last = self._actors.board.read.remote(stop_through=self._attempts.stop_through)
            self._read_board(ray.get(last, timeout=LAST_READ_SECONDS))
        error = self._attempts.error
        if isinstance(error, RaydrgnError | TrainingDefect):
            raise error
        if error is not None:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise LostWorkersError(
                f"Training ended early: {reason[0].rstrip('.')}. The last checkpoint is kept; the "
                f"same command with --resume goes on. More is in {session_log_folder()}/train of "
                "this machine."
            ) from error

    def close(self) -> None:
        """Ask for no more workers."""
        self._growth.close()

    def _poll(self) -> None:
        self._raise_lost_claim()
        self._read_board(self._board.poll(stop_through=self._attempts.stop_through))
        now = time.monotonic()
        if now - self._heard >= SILENCE_SECONDS and self._attempts.num_workers:
            log.warning("the workers have not reported for %.0f s", SILENCE_SECONDS)
            self._heard = now
        if now - self._checked < PING_SECONDS:
            return
        self._checked = now
        self._writer.poll()
        if not self.is_stopping:
            self._check_nodes()

    def _check_nodes(self) -> None:
        """Ask for a checkpoint where this node is preempted, or there is room for more workers."""
        if is_draining(self._node):
            self._stop("this node is being preempted: a checkpoint is being written")
            return
        workers = self._attempts.num_workers
        has_begun = self._shown.get("attempt") == self._attempts.number
        room = self._growth.room_for_more(workers) if workers and has_begun else 0
        if room:
            log.warning("there is room for %d workers: going on with them after a checkpoint", room)
            self._attempts.resize()

    def _stop(self, message: str) -> None:
        self.is_stopping = True
        log.warning("%s", message)
        self._attempts.stop()

    def _raise_lost_claim(self) -> None:
        if self._claim is not None and self._claim.lost is not None:
            raise self._claim.lost

    def _read_board(self, found: tuple[Mapping[str, Any], list[str], int] | None) -> None:
        if found is None:
            return
        latest, notes, _ = found
        for note in notes:
            log.warning("%s", note)
        if latest and latest != self._shown:
            self._shown, self._heard = latest, time.monotonic()
            show_progress(self._progress, self._run, latest)
