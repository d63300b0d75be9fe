"""Where the work of a command is done: in this process, or on Ray.

A workflow is given an ``Executor`` and never asks which of the two it is. The choice is made once,
when the first work is handed over: Ray is used if a cluster is named, if several workers are asked
for, or if nothing is asked for and the input is so large that starting Ray pays.
"""

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar
from uuid import uuid4

from raydrgn.remote.address import ray_address
from raydrgn.remote.fanout import Outcome, fan_out
from raydrgn.remote.metrics import queue_wait
from raydrgn.remote.progress import Counter
from raydrgn.remote.resources import Resources, cores_here
from raydrgn.remote.session import Allocation, connected, reserve

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

SMALL_INPUT_BYTES = 1_000_000_000
"""Input that one process works through in the time that Ray needs to start, or little more."""


class Executor:
    """Runs tasks, and pools of workers that hold an object, here or on Ray.

    A context manager: Ray is joined, or started on this machine, when it is first needed, and left
    at the end, also after an error or an interrupt. Used without ``with``, it serves what needs no
    Ray.
    """

    def __init__(self, *, workers: int | None = 1, address: str | None = None) -> None:
        """Describe the workers; nothing is started yet.

        Args:
            workers: How many work at a time. None means one per core for large inputs, and this
                process for small ones; of a pool one, which uses all cores by itself.
            address: Ray cluster to join. None means ``RAY_ADDRESS``, or this machine.
        """
        self._workers = workers
        self._address = address
        self._on_ray: bool | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Executor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._on_ray = None

    @property
    def has_cluster(self) -> bool:
        """Whether a cluster is named, here or by ``RAY_ADDRESS``."""
        return ray_address(self._address) is not None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have Ray for the length of a block, for work that needs it whatever its size."""
        with connected(self._address):
            yield

    def map(
        self,
        work: Callable[[Any], Any],
        items: Iterable[T],
        *,
        load: Callable[[T], Any] | None = None,
        cpus: int = 1,
        input_bytes: int | None = None,
    ) -> Iterator[Outcome[T]]:
        """Do work on items by independent tasks, and yield the outcome of each as it finishes.

        In this process an error is raised; on Ray it is the outcome of its item.

        Args:
            work: Shipped once.
            items: One task for each, as many at a time as there are workers.
            load: Turns an item, here, into what the task is given; the item itself if None.
            cpus: CPU cores of a task; 0 divides all cores among the workers. Tasks get no GPU.
            input_bytes: Size of the input, if known; small inputs start no Ray.
        """
        loaded: Callable[[T], Any] = load or (lambda item: item)
        if not self._uses_ray(input_bytes):
            yield from (Outcome(item, value=work(loaded(item))) for item in items)
            return
        import ray

        allocation = self._reserve(Resources(num_workers=self.num_workers, cpus=cpus, gpus=0))
        task: Any = ray.remote(_with_threads).options(
            num_cpus=allocation.cpus, max_retries=2, name=_name_of(work)
        )
        shipped = ray.put(work)
        outcomes = fan_out(
            lambda item: task.remote(allocation.cpus, shipped, loaded(item)),
            items,
            max_in_flight=allocation.num_workers,
        )
        self._stack.callback(outcomes.close)  # a traceback may hold it when the block has ended
        yield from outcomes

    def sum_by(
        self,
        work: Callable[[Any, Callable[[int], None]], tuple[Any, Any]],
        items: Sequence[T],
        *,
        key: Callable[[T], K],
        load: Callable[[T], Any],
        progress: Callable[[int], None],
        input_bytes: int | None = None,
    ) -> tuple[list[Any], dict[K, Any]]:
        """Do work on items, and add up the large part of what it returns where it was made.

        Args:
            work: Called with a loaded item and a function that counts what is done; returns a small
                value, and a large one that can be added to others.
            items: One task of one core for each.
            key: Which sum an item goes into.
            load: Turns an item, here, into what ``work`` is given.
            progress: Called with the count of all tasks together.
            input_bytes: Size of the input, if known; small inputs start no Ray.

        Returns:
            The small values, and the sum of the large ones of each key.

        Raises:
            Exception: The error of the first item that failed.
        """
        if not self._uses_ray(input_bytes):
            return _sum_here(work, items, key, load, progress)
        allocation = self._reserve(Resources(num_workers=self.num_workers, cpus=1, gpus=0))
        return _sum_on_ray(work, items, key, load, progress, allocation)

    def pool(self, make: Callable[[int | None], T]) -> "WorkerPool[T]":
        """Return a pool of workers, each of which holds what ``make`` returns, such as a decoder.

        Args:
            make: Called once by each worker with its CPU cores, or None in this process. It is
                shipped once for all workers. Workers get a GPU each where there are enough.
        """
        if not self._uses_ray(0):
            return WorkerPool(make, None)
        return WorkerPool(make, self._reserve(Resources(num_workers=self._workers or 1)))

    @property
    def num_workers(self) -> int:
        """Workers at a time."""
        return self._workers or cores_here()

    def tasks_at_a_time(self, input_bytes: int | None = None) -> int:
        """Return how many tasks on an input of this size work at a time: one in this process."""
        return self.num_workers if self._uses_ray(input_bytes) else 1

    def _uses_ray(self, input_bytes: int | None) -> bool:
        if self._on_ray is None:
            is_small = input_bytes is not None and input_bytes < SMALL_INPUT_BYTES
            in_process = self._workers == 1 or (self._workers is None and is_small)
            self._on_ray = self.has_cluster or not in_process
        return self._on_ray

    def _reserve(self, resources: Resources) -> Allocation:
        self._stack.enter_context(connected(self._address))
        with queue_wait():
            return reserve(resources)


class _InProcess(Executor):
    """Never uses Ray, but for work that cannot do without."""

    def _uses_ray(self, input_bytes: int | None) -> bool:
        return False


IN_PROCESS = _InProcess()
"""Everything in this process, whatever ``RAY_ADDRESS`` is; the default of Python callers."""


class WorkerPool(Generic[T]):
    """Workers that each hold an object and work on batches with it. A context manager.

    A worker that dies is started again, twice at most, and the batch that it held is done again; a
    batch that fails for good is an outcome with its error.
    """

    def __init__(self, make: Callable[[int | None], T], allocation: Allocation | None) -> None:
        self._make = make
        self._allocation = allocation
        self._actors: list[Any] = []
        self._held: T | None = None
        self._shipped: Any = None

    def __enter__(self) -> "WorkerPool[T]":
        allocation = self._allocation
        if allocation is None:
            self._held = self._make(None)
            return self
        import ray

        self._shipped = ray.put(self._make)
        holder: Any = ray.remote(
            num_cpus=allocation.cpus, num_gpus=allocation.gpus, max_restarts=2, max_task_retries=2
        )(_Holder)
        title = f"{_name_of(self._make)}-{uuid4().hex[:6]}"  # names are unique on a cluster
        try:
            for number in range(allocation.num_workers):
                named = holder.options(name=f"{title}-{number}")
                self._actors.append(named.remote(allocation.cpus))
        except BaseException:  # interrupted: the block, and with it __exit__, is not reached
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            _kill(actor)
        self._actors = []
        self._held = None

    def run(self, work: Callable[[T, Any], Any], batches: Iterable[Any]) -> Iterator[Outcome[Any]]:
        """Do work on batches where the objects are; yield the outcome of each batch.

        At most two batches per worker are under way. What ``work`` refers to is shipped once.
        """
        if self._held is not None:
            yield from (Outcome(batch, value=work(self._held, batch)) for batch in batches)
            return
        import ray

        shipped, name = [self._shipped, ray.put(work)], _name_of(work)
        queued = [0] * len(self._actors)
        worker_of: dict[int, int] = {}

        def submit(numbered: tuple[int, Any]) -> Any:
            # To the worker with the shortest queue: in turn, all would be as slow as the slowest.
            number, batch = numbered
            worker_of[number] = worker = queued.index(min(queued))
            queued[worker] += 1
            return self._actors[worker].run.options(name=name).remote(shipped, batch)

        items = enumerate(batches)
        outcomes = fan_out(submit, items, max_in_flight=2 * len(self._actors), are_actor_tasks=True)
        for outcome in outcomes:
            number, batch = outcome.item
            queued[worker_of[number]] -= 1
            yield Outcome(batch, value=outcome.value, error=outcome.error)


class _Holder:
    """An actor with one object, made of what lies in the object store once for all actors.

    The reference comes with the work and is looked up by the first call, since Ray cannot promise
    to have a constructor's arguments still when it starts an actor again.
    """

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._held: Any = None

    def run(self, shipped: list[Any], batch: Any) -> Any:
        """Do the shipped work on a batch; ``shipped`` refers to the maker and to the work."""
        import ray

        if self._held is None:
            self._held = ray.get(shipped[0])(self._cpus)
        return ray.get(shipped[1])(self._held, batch)


def _name_of(work: Callable[..., Any]) -> str:
    """Return the name by which Ray's dashboard shows some work."""
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__name__", type(work).__name__)).strip("_")


def _kill(actor: Any) -> None:
    """End an actor at once, wherever references to it are still held, as in a traceback."""
    import ray

    if ray.is_initialized():
        ray.kill(actor)


def _with_threads(cpus: int, work: Callable[[Any], Any], given: Any) -> Any:
    _limit_threads(cpus)
    return work(given)


def _limit_threads(cpus: int) -> None:
    """Let torch, where the work has loaded it, use as many threads as the task has cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(cpus)


def _sum_here(
    work: Any, items: Sequence[T], key: Callable[[T], K], load: Any, progress: Callable[[int], None]
) -> tuple[list[Any], dict[K, Any]]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done)

    small: list[Any] = []
    sums: dict[K, Any] = {}
    for item in items:
        value, large = work(load(item), count)
        small.append(value)
        sums[key(item)] = sums[key(item)] + large if key(item) in sums else large
    return small, sums


def _sum_on_ray(
    work: Any,
    items: Sequence[T],
    key: Callable[[T], K],
    load: Any,
    progress: Callable[[int], None],
    allocation: Allocation,
) -> tuple[list[Any], dict[K, Any]]:
    import ray

    counter: Any = ray.remote(Counter).options(num_cpus=0).remote()
    task: Any = ray.remote(_counted).options(
        num_cpus=allocation.cpus, num_returns=2, name=_name_of(work)
    )
    add: Any = ray.remote(_add).options(num_cpus=allocation.cpus, name="add")
    shipped = ray.put(work)
    pending: dict[int, Any] = {}
    queued: dict[K, list[Any]] = {}
    small: list[Any] = []

    def submit(numbered: tuple[int, T]) -> Any:
        number, item = numbered
        value, pending[number] = task.remote(allocation.cpus, shipped, load(item), counter)
        return value

    def report() -> None:
        progress(ray.get(counter.total.remote()))

    num_workers = allocation.num_workers
    outcomes = fan_out(submit, enumerate(items), max_in_flight=num_workers, while_waiting=report)
    try:
        for outcome in outcomes:
            if outcome.error:
                raise outcome.error
            number, item = outcome.item
            small.append(outcome.value)
            # Values of one key are added two by two as they come: a tree over what is there.
            refs = queued.setdefault(key(item), [])
            refs.append(pending.pop(number))
            if len(refs) > 1:
                refs.append(add.remote(refs.pop(0), refs.pop(0)))
            report()
        for refs in queued.values():
            while len(refs) > 1:
                refs.append(add.remote(refs.pop(0), refs.pop(0)))
        return small, {name: ray.get(refs[0]) for name, refs in queued.items()}
    finally:
        outcomes.close()
        _kill(counter)


def _counted(cpus: int, work: Any, given: Any, counter: Any) -> tuple[Any, Any]:
    _limit_threads(cpus)
    value, large = work(given, lambda count: counter.add.remote(count))
    return value, large


def _add(first: Any, second: Any) -> Any:
    return first + second
