"""A command's turn on a shared cluster: waited for before workers are, kept, and given back."""

import logging
import os
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from raydrgn.errors import ClusterError
from raydrgn.remote.job_queue import Amount, Claim, JobQueue, Turn
from raydrgn.remote.metrics import JOB_ID
from raydrgn.remote.own_job import submitted
from raydrgn.remote.process import user_name

log = logging.getLogger(__name__)

QUEUE_NAME = "raydrgn-queue-2"
"""Of the actor; another number where what is asked of it changes."""

HEAD_RESOURCE = "node:__internal_head__"
"""Of a cluster's head alone, by which Ray calls it."""

ASK_SECONDS, LOG_SECONDS, ANSWER_SECONDS = 2.0, 60.0, 30.0
"""Time between two questions, and between two messages; time in which the queue answers."""


@dataclass(slots=True)
class _Held:
    """The claim of this process, as long as it is connected."""

    claim: Claim
    queue: Any
    is_kept: bool = True
    asking: threading.Lock = field(default_factory=threading.Lock)
    """Held while the queue is asked, and while the turn is given back."""


_held: list[_Held] = []


def wait_for_turn(
    *,
    workers: Amount,
    held: Amount,
    capacity: Amount | None,
    wait_seconds: float | None = None,
) -> None:
    """Wait until this command may ask the connected cluster for its workers.

    A command has its turn until it leaves the cluster, and so have its actors, such as trials of a
    sweep. What is waited for, and behind whom, is logged every minute.

    Args:
        workers: Of all workers together.
        held: What a job keeps for its command.
        capacity: All that the cluster has; None if it can grow.
        wait_seconds: How long to wait; None waits without limit.

    Raises:
        ClusterError: If the limits of the cluster do not allow so much, or the time is up.
    """
    import ray

    if ray.get_runtime_context().get_actor_id() is not None:
        return
    if _held:  # a command that goes on to its next pool
        most = Amount(*map(max, workers, _held[0].claim.amount))
        claim = _claim(most, held, capacity)
        turn = _ask(_held[0].queue, claim, has_begun=True)
        if turn.state == "never":
            raise ClusterError(turn.reason)
        _held[0].claim = claim
        return
    claim = _claim(workers, held, capacity)
    queue = _queue()
    began = time.monotonic()
    due = began + ASK_SECONDS
    while (turn := _ask(queue, claim)).state != "begin":
        if turn.state == "never":
            raise ClusterError(turn.reason)
        if wait_seconds is not None and time.monotonic() - began >= wait_seconds:
            raise ClusterError(
                f"Nothing was begun, after {wait_seconds:.0f} seconds of waiting (--wait): "
                f"{turn.reason}."
            )
        if time.monotonic() > due:
            log.warning("%s", turn.reason)
            due = time.monotonic() + LOG_SECONDS
        time.sleep(ASK_SECONDS)
    _held[:] = [_Held(claim, queue)]
    threading.Thread(target=_keep, args=(_held[0], ray), daemon=True, name="raydrgn-turn").start()


def times_within_limits(each: Amount, most: int) -> int:
    """Return how many times the limits of the cluster let this command have an amount at a time.

    Where they allow fewer than ``most``, all of these count as its own from then on; elsewhere what
    it has waited for, so that other commands get what comes free in between.
    """
    if not _held:
        return most
    held = _held[0]
    for number in range(most, 1, -1):
        amount = Amount(number * each.cpus, number * each.gpus)
        claim = replace(held.claim, amount=amount)
        if _ask(held.queue, claim, has_begun=True).state != "never":
            if number < most:
                held.claim = claim
            return number
    return 1


def leave() -> None:
    """Give the turn back, before this process leaves the cluster."""
    import ray

    if not _held:
        return
    held = _held.pop()
    held.is_kept = False
    is_quiet = held.asking.acquire(timeout=ASK_SECONDS)
    try:
        ray.get(held.queue.leave.remote(held.claim.job_id), timeout=ASK_SECONDS)
    except ray.exceptions.RayError:
        log.debug("the queue did not answer; it forgets this command by itself")
    finally:
        if is_quiet:
            held.asking.release()


def _ask(queue: Any, claim: Claim, *, has_begun: bool = False) -> Turn:
    """Ask the queue; while it does not answer, everybody waits."""
    import ray

    try:
        answer: Turn = ray.get(queue.ask.remote(claim, has_begun=has_begun), timeout=ANSWER_SECONDS)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return Turn("wait", "waiting for the queue of the cluster, which does not answer")
    return answer


def _keep(held: _Held, ray: Any) -> None:
    """Repeat what this command has, so that the queue knows that it goes on."""
    try:
        while ray.is_initialized():
            with held.asking:  # no question may come after that by which `leave` gives it back
                if not held.is_kept:
                    break
                _ask(held.queue, held.claim, has_begun=True)
            time.sleep(ASK_SECONDS)
    except ray.exceptions.RayError as error:
        log.debug("the turn is not kept any more: %s", error)
    finally:
        if held in _held:  # Ray was left by another way than `leave`
            _held.remove(held)


def _queue() -> Any:
    import ray

    queue_class: Any = ray.remote(JobQueue)
    return queue_class.options(
        name=QUEUE_NAME,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        resources={HEAD_RESOURCE: 0.001},
        max_restarts=-1,
    ).remote()


def _claim(workers: Amount, held: Amount, capacity: Amount | None) -> Claim:
    import ray

    metadata = submitted().get("metadata", {})
    return Claim(
        job_id=os.environ.get(JOB_ID) or f"command {ray.get_runtime_context().get_job_id()}",
        user=metadata.get("raydrgn.user") or user_name(),
        priority=int(metadata.get("raydrgn.priority") or 0),
        submitted=float(metadata.get("raydrgn.submitted") or BEGAN),
        amount=workers,
        held=held,
        capacity=capacity,
    )


BEGAN = time.time()
"""When this process began; the time of submission of a command that is no job."""
