"""Sums of what tasks return: the same to the bit whoever does them, and whatever is lost.

Values are added in the order of their items, in this process. A value that has arrived here is
safe: when a machine is lost, only what ran on it is done again, not what has been added up.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from raydrgn.remote.allocation import Allocation
from raydrgn.remote.fanout import Outcome, fan_out
from raydrgn.remote.progress import TaskCounts
from raydrgn.remote.waiting import WaitingLog
from raydrgn.remote.worker_pool import end_actor, hide_gpus, limit_threads, name_of

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

Work = Callable[[Any, Callable[[int], None]], tuple[Any, Any]]
"""Takes a loaded item, and a function that counts; returns a small value and a large one."""


def add_up(outcomes: Iterable[Outcome[T]], key: Callable[[T], K]) -> tuple[list[Any], dict[K, Any]]:
    """Return the small values, and the sum of the large ones of each key, added as they come.

    Raises:
        Exception: The error of the first item that failed.
    """
    small: list[Any] = []
    sums: dict[K, Any] = {}
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
        value, large = outcome.value
        small.append(value)
        name = key(outcome.item)
        sums[name] = sums[name] + large if name in sums else large
        del outcome, large  # the next one is made in the meantime
    return small, sums


def work_here(
    work: Work,
    items: Sequence[T],
    load: Callable[[T], Any],
    progress: Callable[[int], None],
) -> Iterator[Outcome[T]]:
    """Yield the outcome of each item, made in this process."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done)

    for item in items:
        yield Outcome(item, value=work(load(item), count))


def work_on_ray(
    work: Work,
    items: Sequence[T],
    load: Callable[[T], Any],
    progress: Callable[[int], None],
    allocation: Allocation,
) -> Generator[Outcome[T], None, None]:
    """Yield the outcome of each item in their order, made by tasks."""
    import ray

    task: Any = ray.remote(_counted).options(
        num_cpus=allocation.cpus, max_retries=0, name=name_of(work)
    )
    shipped, waiting = ray.put(work), WaitingLog(allocation)
    counts = _Counts(progress)

    def submit(numbered: tuple[int, T]) -> Any:
        number, item = numbered
        return task.remote(allocation, shipped, load(item), number, counts.actor)

    def while_waiting() -> None:
        counts.report()
        waiting.log_if_impossible()

    outcomes = fan_out(
        submit,
        enumerate(items),
        max_in_flight=allocation.num_workers,
        in_order=True,
        while_waiting=while_waiting,
    )
    try:
        for outcome in outcomes:
            number, item = outcome.item
            if outcome.error:
                yield Outcome(item, error=outcome.error)
            else:
                *value, count = outcome.value
                counts.finish(number, count)
                del outcome
                yield Outcome(item, value=value)
    finally:
        outcomes.close()
        end_actor(counts.actor)


class _Counts:
    """What all tasks together have counted: finished ones for certain, running ones by an actor.

    A task that is done again counts again, but for no more than it has before.
    """

    def __init__(self, progress: Callable[[int], None]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = ray.get_runtime_context().get_node_id()  # which is not lost without this process
        self.actor: Any = (
            ray.remote(TaskCounts)
            .options(
                num_cpus=0,
                max_restarts=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            )
            .remote()
        )
        self._progress = progress
        self._counts: dict[int, int] = {}
        self._asked: Any = None

    def finish(self, number: int, count: int) -> None:
        """Take the count of a finished task, and report the sum."""
        self._counts[number] = count
        self._progress(sum(self._counts.values()))

    def report(self) -> None:
        """Report the sum as far as it is known, without waiting."""
        import ray

        self._asked = self._asked or self.actor.read.remote()
        ready, _ = ray.wait([self._asked], timeout=0)
        if not ready:
            return
        self._asked = None
        try:
            known = ray.get(ready[0])
        except ray.exceptions.RayError:  # the actor starts again, and tasks go on counting
            return
        for number, count in known.items():
            self._counts[number] = max(count, self._counts.get(number, 0))
        self._progress(sum(self._counts.values()))


def _counted(
    allocation: Allocation, work: Work, given: Any, number: int, counter: Any
) -> tuple[Any, ...]:
    """Do some work; return what it returns, and its count."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        counter.set.remote(number, done)

    limit_threads(allocation.cpus)
    hide_gpus(allocation)
    return (*work(given, count), done)
