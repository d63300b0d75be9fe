"""Parallel work with a bound; a failure is an outcome."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from raydrgn.errors import RaydrgnError

if TYPE_CHECKING:
    from ray import ObjectRef

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """One finished piece of work: its item, and either its value or its error."""

    item: T
    value: Any = None
    error: Exception | None = None


def fan_out(
    submit: Callable[[T], "ObjectRef[Any]"], items: Iterable[T], *, max_in_flight: int
) -> Iterator[Outcome[T]]:
    """Submit items, and yield each outcome as it finishes.

    At most ``max_in_flight`` results exist at a time, so memory does not grow with the number of
    items. A task that raises, or an actor that dies for good, becomes an outcome with its error;
    the rest goes on.
    """
    import ray

    waiting = deque(items)
    running: dict[ObjectRef[Any], T] = {}
    while waiting or running:
        while waiting and len(running) < max_in_flight:
            item = waiting.popleft()
            running[submit(item)] = item
        [ready], _ = ray.wait(list(running), num_returns=1)
        item = running.pop(ready)
        try:
            yield Outcome(item, value=ray.get(ready))
        except ray.exceptions.RayError as error:
            yield Outcome(item, error=_reason(error))


def _reason(error: Exception) -> Exception:
    """Return what a user can mend as it was raised, without Ray's wrapping and its traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, RaydrgnError) else error
