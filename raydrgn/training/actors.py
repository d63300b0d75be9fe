"""The actors of a run, its writer and its progress board, and the guard that watches them.

Both may be killed at any time and are started again. The writer finds on the disk what it had
written; the driver sends the board again what the workers must know.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydrgn.errors import RaydrgnError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.lost_workers import is_monitor_kill
from raydrgn.remote.progress import ProgressBoard
from raydrgn.run.claim import ClaimTicket
from raydrgn.run.directory import Position
from raydrgn.run.writer import RunWriter
from raydrgn.training.beginning import cut_off_line
from raydrgn.training.failures import raised_by_actor

log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 20  # for the writer to add the last line of the log
SILENCE_SECONDS = 60.0
"""Time without an answer after which it is reported that an actor is waited for."""


@dataclass(frozen=True, slots=True)
class RunActors:
    """Writer and board of a run, and what it takes to write without them."""

    writer: Any
    board: Any
    root: Uri
    num_particles: int
    claim: ClaimTicket | None

    def log(self, message: str) -> None:
        """Add a line to the run's log without waiting for it."""
        self.writer.log.remote(message)

    def newest_position(self) -> Position | None:
        """Return the position of the newest checkpoint, None if the writer does not answer."""
        try:
            found: Position = ray.get(
                self.writer.newest_position.remote(), timeout=LAST_WORDS_SECONDS
            )
        except ray.exceptions.RayError:
            return None
        return found

    def log_last(self, message: str) -> None:
        """Add the last line to the log, from here if the writer is gone.

        Where that fails too, the error before it matters more.
        """
        try:
            ray.get(self.writer.log.remote(message), timeout=LAST_WORDS_SECONDS)
            ray.get(self.writer.flush.remote(), timeout=LAST_WORDS_SECONDS)
        except ray.exceptions.RayTaskError:  # the writer's own error: the folder is not to be had
            return
        except ray.exceptions.RayError:
            here = RunWriter(self.root, num_particles=self.num_particles, claim=self.claim)
            with suppress(RaydrgnError):
                here.log(message)


def call_actor(method: Any, *arguments: Any) -> Any:
    """Call a method of an actor and wait for what it returns; raise what it raised."""
    with raised_by_actor():
        return ray.get(method.remote(*arguments))


@contextmanager
def started_actors(
    root: Uri, num_particles: int, claim: ClaimTicket | None, *, keep_epochs: int = 1
) -> Iterator[RunActors]:
    """Start writer and board, and end them; what ends training early is the log's last line."""
    actors = _start(root, num_particles, claim, keep_epochs)
    try:
        yield actors
    except BaseException as error:
        actors.log_last(cut_off_line(error))
        raise
    finally:
        for actor in (actors.writer, actors.board):
            ray.kill(actor)


def _start(root: Uri, num_particles: int, claim: ClaimTicket | None, keep_epochs: int) -> RunActors:
    """Start the writer and the board; the writer on this node if the run is a local path."""
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    place = {"scheduling_strategy": here}
    writer_class: Any = ray.remote(RunWriter)
    board_class: Any = ray.remote(ProgressBoard)
    writer_place = place if storage.is_local(root) else {}
    title = f"{storage.name(root)}-{uuid4().hex[:6]}"  # names are unique on a cluster
    writer = writer_class.options(name=f"writer-{title}", **options, **writer_place).remote(
        root, num_particles=num_particles, claim=claim, keep_epochs=keep_epochs
    )
    board = board_class.options(name=f"progress-{title}", **options, **place).remote()
    return RunActors(writer, board, root, num_particles, claim)


class ActorGuard:
    """Calls an actor's method now and then, never waits, and reports when the actor is killed.

    The calls are not repeated by Ray, so that one which is cut off tells why the actor was killed.
    Between two calls, another process is how it is seen.
    """

    def __init__(self, name: str, method: Any, *, process: Callable[[Any], int]) -> None:
        """Describe the actor.

        Args:
            name: What it is, in words.
            method: Method to call.
            process: Gets the number of the actor's process from an answer.
        """
        self._name = name
        self._method = method.options(max_task_retries=0)
        self._process_of = process
        self._process: int | None = None
        self._pending: Any = None
        self._asked = self._reported = 0.0
        self._is_away = False

    def poll(self, **arguments: Any) -> Any:
        """Call again if the last call is answered; return its answer, None if there is none."""
        now = time.monotonic()
        answer = None
        if self._pending is not None:
            ready, _ = ray.wait([self._pending], timeout=0)
            if not ready:
                self._report_silence(now)
                return None
            answer = self._answer(self._pending)
        self._pending = self._method.remote(**arguments)
        self._asked = self._reported = now
        return answer

    def _answer(self, pending: Any) -> Any:
        try:
            answer = ray.get(pending)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, RaydrgnError) else error) from None
        except ray.exceptions.RayError as error:
            if not self._is_away:
                by = " by Ray's memory monitor, since memory was full"
                self._report_kill(by if is_monitor_kill(error) else "")
            self._is_away = True
            return None
        process = self._process_of(answer)
        if self._process not in (None, process) and not self._is_away:
            self._report_kill("")
        self._process, self._is_away = process, False
        return answer

    def _report_kill(self, by: str) -> None:
        log.warning("%s was killed%s; it is started again", self._name, by)

    def _report_silence(self, now: float) -> None:
        if now - self._reported >= SILENCE_SECONDS:
            self._reported = now
            log.warning("%s has not answered for %.0f s", self._name, now - self._asked)
