"""Parallel work with a bound; a failure is an outcome."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from raydrgn.errors import RaydrgnError

if TYPE_CHECKING:
    from ray import ObjectRef

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
    while_waiting: Callable[[], None] | None = None,
    are_actor_tasks: bool = False,
) -> Generator[Outcome[T], None, None]:
    """Submit items, and yield each outcome as it finishes.

    At most ``max_in_flight`` results exist at a time, so memory does not grow with the number of
    items. A task that raises, or an actor that dies for good, becomes an outcome with its error;
    the rest goes on. ``while_waiting`` is called every second that nothing finishes.

    If the caller stops, by an error or an interrupt, tasks that run are ended; those of actors end
    with their actor.
    """
    import ray

    waiting = deque(items)
    running: dict[ObjectRef[Any], T] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max_in_flight:
                item = waiting.popleft()
                running[submit(item)] = item
            done, _ = ray.wait(list(running), num_returns=1, timeout=WAIT_SECONDS)
            if not done:
                if while_waiting:
                    while_waiting()
                continue
            [ready] = done
            item = running.pop(ready)
            try:
                outcome = Outcome(item, value=ray.get(ready))
            except ray.exceptions.RayError as error:
                outcome = Outcome(item, error=_reason(error))
            yield outcome
    finally:
        if ray.is_initialized():
            for unfinished in running:
                ray.cancel(unfinished, force=not are_actor_tasks)


def _reason(error: Exception) -> Exception:
    """Return a user's mistake as it was raised, without Ray's wrapping and its traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, RaydrgnError) else error
