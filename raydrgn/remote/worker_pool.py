"""Workers that each hold an object, such as a decoder, and work on batches with it."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import uuid4

from raydrgn.remote.allocation import Allocation
from raydrgn.remote.fanout import Outcome, fan_out
from raydrgn.remote.reservation import Reservation

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Workers that each hold an object and work on batches with it. A context manager.

    A worker that dies is started again, twice at most, and the batch that it held is done again; a
    batch that fails for good is an outcome with its error.
    """

    def __init__(self, make: Callable[[int | None], T], reservation: Reservation | None) -> None:
        self._make = make
        self._reservation = reservation
        self._actors: list[Any] = []
        self._held: T | None = None
        self._shipped: Any = None

    def __enter__(self) -> "WorkerPool[T]":
        reservation = self._reservation
        if reservation is None:
            self._held = self._make(None)
            return self
        import ray

        allocation = reservation.allocation
        self._shipped = ray.put(self._make)
        holder: Any = ray.remote(
            num_cpus=allocation.cpus, num_gpus=allocation.gpus, max_restarts=2, max_task_retries=2
        )(_Holder)
        title = f"{name_of(self._make)}-{uuid4().hex[:6]}"  # names are unique on a cluster
        try:
            for number in range(allocation.num_workers):
                named = holder.options(
                    name=f"{title}-{number}", scheduling_strategy=reservation.place
                )
                self._actors.append(named.remote(allocation))
        except BaseException:  # interrupted: the block, and with it __exit__, is not reached
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            end_actor(actor)
        self._actors = []
        self._held = None
        if self._reservation is not None:
            self._reservation.release()

    def run(self, work: Callable[[T, Any], Any], batches: Iterable[Any]) -> Iterator[Outcome[Any]]:
        """Do work on batches where the objects are; yield the outcome of each batch.

        At most two batches per worker are under way. What ``work`` refers to is shipped once.
        """
        if self._held is not None:
            yield from (Outcome(batch, value=work(self._held, batch)) for batch in batches)
            return
        import ray

        shipped, name = [self._shipped, ray.put(work)], name_of(work)
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

    def __init__(self, allocation: Allocation) -> None:
        self._cpus = allocation.cpus
        self._held: Any = None
        hide_gpus(allocation)

    def run(self, shipped: list[Any], batch: Any) -> Any:
        """Do the shipped work on a batch; ``shipped`` refers to the maker and to the work."""
        import ray

        if self._held is None:
            self._held = ray.get(shipped[0])(self._cpus)
        return ray.get(shipped[1])(self._held, batch)


def name_of(work: Callable[..., Any]) -> str:
    """Return the name by which Ray's dashboard shows some work."""
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__name__", type(work).__name__)).strip("_")


def end_actor(actor: Any) -> None:
    """End an actor at once, wherever references to it are still held, as in a traceback."""
    import ray

    if ray.is_initialized():
        ray.kill(actor)


def limit_threads(cpus: int) -> None:
    """Let torch, where the work has loaded it, use as many threads as the task has cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(cpus)


def hide_gpus(allocation: Allocation) -> None:
    """Keep work that has been given no GPU from those of its node, which Ray lets it see."""
    if not allocation.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
