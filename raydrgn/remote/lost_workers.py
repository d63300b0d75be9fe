"""Work that is lost with its worker: why, what is done about it, and what is logged.

Workers end for reasons that have nothing to do with their work: a machine fails or is preempted,
or Ray makes room in its memory. Their work is done again by others. Only work that several workers
in a row did not survive is given up.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any

from raydrgn.errors import LostWorkersError, RaydrgnError

log = logging.getLogger(__name__)

MOST_LOSSES = 4
"""Workers that may end while they do one and the same work."""

MEMORY_SIGN = "running low on memory"
"""Ray's words, in any error, for a process that its memory monitor has ended."""

NODE_SIGN = re.compile(r"its node has died|the actor's node was")
"""Ray's words, in the error of an actor, for a machine that was lost."""

MEMORY_REMEDY = "Fewer workers at a time, or machines with more memory, would help."


@dataclass(order=True, slots=True)
class WorkItem:
    """An item of some work, in the order in which the work is begun."""

    number: int
    item: Any = field(compare=False)
    losses: int = field(default=0, compare=False)
    """Workers that ended while they did it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Why a worker was lost."""

    reason: str
    """The rest of a sentence about the worker."""

    remedy: str = ""
    is_memory: bool = False
    """Whether Ray ended it to make room in the memory of its machine."""

    is_of_machine: bool = False
    """Whether its machine was lost, or does not answer."""


def loss_of(error: Exception, host: str = "") -> Loss | None:
    """Return why the worker was lost, or None if it was the work itself that failed.

    Args:
        error: What Ray raised in place of a result.
        host: Machine of the worker, if it is known.
    """
    from ray import exceptions

    if isinstance(error, exceptions.RayTaskError):
        cause: Any = error.cause
        is_of_ray = isinstance(cause, exceptions.RayError) and cause is not error
        return loss_of(cause, host) if is_of_ray else None
    machine = f"its machine ({host})" if host else "its machine"
    if is_monitor_kill(error):
        reason = f"Ray ended it because the memory of {machine} was nearly full"
        return Loss(reason=reason, remedy=MEMORY_REMEDY, is_memory=True)
    if isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError) or (
        isinstance(error, exceptions.ActorDiedError) and NODE_SIGN.search(str(error))
    ):
        return Loss(reason=f"{machine} was lost", is_of_machine=True)
    if isinstance(error, exceptions.ActorUnavailableError | exceptions.GetTimeoutError):
        return Loss(reason=f"{machine} does not answer", is_of_machine=True)
    if isinstance(error, exceptions.ActorDiedError) and error.actor_init_failed:
        return None
    if isinstance(error, exceptions.ActorDiedError | exceptions.WorkerCrashedError):
        return Loss(reason=f"its process{f' on {host}' if host else ''} ended unexpectedly")
    return None


def is_monitor_kill(error: BaseException) -> bool:
    """Return whether Ray's memory monitor has ended a process."""
    from ray import exceptions

    return isinstance(error, exceptions.OutOfMemoryError) or MEMORY_SIGN in str(error)


def own_error(error: Exception) -> Exception:
    """Return a user's mistake as it was raised, without Ray's wrapping and its traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, RaydrgnError) else error


class Losses:
    """The losses in the course of some work: logs them, and when everything has been done again."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._reasons: set[str] = set()
        self._began = 0.0

    def add(self, work: WorkItem, loss: Loss, *, counts: bool = True) -> LostWorkersError | None:
        """Log a loss; return an error if the work is to be given up.

        Args:
            work: What was lost.
            loss: Why.
            counts: Whether it was being done. Work that had only been handed to the worker is no
                cause of its end.
        """
        if not self._open:
            self._began = time.monotonic()
            self._reasons.clear()
        self._open.add(work.number)
        work.losses += counts
        if loss.reason not in self._reasons:
            self._reasons.add(loss.reason)
            text = f"a worker was lost: {loss.reason}. Its work is done again by others."
            log.warning("%s", f"{text} {loss.remedy}".rstrip())
        if work.losses < MOST_LOSSES:
            return None
        return LostWorkersError(
            f"given up after {work.losses} workers in a row ended while they worked on it; of the "
            f"last one: {loss.reason}. {loss.remedy}".rstrip()
        )

    def done(self, work: WorkItem) -> None:
        """Note that some work is finished, or given up."""
        if work.number not in self._open:
            return
        self._open.remove(work.number)
        if not self._open:
            seconds = time.monotonic() - self._began
            log.info("the work of lost workers has been done again, after %.0f s", seconds)
