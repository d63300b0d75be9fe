"""Parallel work with a bound; a failure is an outcome, and what is lost is done again."""

import heapq
import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from raydrgn.remote.lost_workers import Loss, Losses, WorkItem, loss_of, own_error

if TYPE_CHECKING:
    from ray import ObjectRef

log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """One finished piece of work: its item, and either its value or its error."""

    item: T
    value: Any = None
    error: Exception | None = None


def fan_out(
    submit: Callable[[T], "ObjectRef[Any]"],
    items: Iterable[T],
    *,
    max_in_flight: int,
    in_order: bool = False,
    while_waiting: Callable[[], None] | None = None,
) -> Generator[Outcome[T], None, None]:
    """Submit items as tasks, and yield each outcome as it finishes.

    Results exist of at most ``max_in_flight`` items at a time, of twice as many with ``in_order``,
    so memory does not grow with the number of items. A task that raises becomes an outcome with its
    error; the rest goes on. One that is lost with its worker is submitted again; if Ray has ended
    it for lack of memory, there is one less at a time from then on.

    If the caller stops, by an error or an interrupt, tasks that run are ended.

    Args:
        submit: Submits a task that Ray does not try again by itself.
        items: One task for each.
        max_in_flight: Tasks at a time.
        in_order: Yield outcomes in the order of the items.
        while_waiting: Called every second that nothing finishes.
    """
    import ray

    to_do = [WorkItem(number, item) for number, item in enumerate(items)]  # a heap: it is sorted
    running: dict[ObjectRef[Any], WorkItem] = {}
    early: dict[int, Outcome[T]] = {}
    losses, turn, most = Losses(), 0, max_in_flight
    try:
        while to_do or running:
            window = turn + 2 * max_in_flight if in_order else float("inf")
            while to_do and len(running) < max_in_flight and to_do[0].number < window:
                work = heapq.heappop(to_do)
                running[submit(work.item)] = work
            ready, _ = ray.wait(list(running), num_returns=1, timeout=WAIT_SECONDS)
            if not ready:
                if while_waiting:
                    while_waiting()
                continue
            work = running.pop(ready[0])
            found = collect(ready[0], work)
            if isinstance(found, Loss):
                error = losses.add(work, found)
                if found.is_memory:
                    max_in_flight = _tasks_after(work, error, max_in_flight, most)
                if error is None:
                    heapq.heappush(to_do, work)
                    continue
                found = Outcome(work.item, error=error)
            losses.done(work)
            due = turn if in_order else work.number
            early[work.number] = found
            del found  # a large value lives no longer than the caller needs it
            while due in early:
                yield early.pop(due)
                due += 1
            turn = due
    finally:
        if ray.is_initialized():
            for unfinished in running:
                ray.cancel(unfinished, force=True)


def _tasks_after(work: WorkItem, error: Exception | None, number: int, most: int) -> int:
    """Return how many tasks to do at a time after one has ended for lack of memory.

    It may have had too many others beside it, unless that comes again and again.
    """
    if error is not None:
        return min(number + 1, most)
    if work.losses > 1 or number == 1:
        return number
    log.warning("going on with %d tasks at a time", number - 1)
    return number - 1


def collect(
    ref: "ObjectRef[Any]", work: WorkItem, *, host: str = "", timeout: float | None = None
) -> Outcome[Any] | Loss:
    """Return the outcome of some work, or why it was lost with its worker.

    Args:
        ref: Its result.
        work: The work.
        host: Machine of the worker, if it is known.
        timeout: Seconds after which it counts as lost; None waits.
    """
    import ray

    try:
        return Outcome(work.item, value=ray.get(ref, timeout=timeout))
    except ray.exceptions.RayError as error:
        return loss_of(error, host) or Outcome(work.item, error=own_error(error))
