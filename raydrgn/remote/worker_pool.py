"""Workers that hold an object each: those that have shown themselves alive take batches.

A worker that is lost is replaced, and what it had been given goes to the others at once. Ray's own
restarts and retries are not used: they send batches to an actor whose machine is gone, and use up
all tries in seconds.
"""

import heapq
import itertools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import uuid4

from raydrgn.errors import LostWorkersError, RaydrgnError
from raydrgn.remote.allocation import Allocation
from raydrgn.remote.fanout import WAIT_SECONDS, Outcome, collect
from raydrgn.remote.lost_workers import Loss, Losses, WorkItem
from raydrgn.remote.reservation import Reservation, ask_for_room
from raydrgn.remote.waiting import WaitingLog

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCHES_PER_WORKER = 2
"""Batches under way: a worker begins the next one without waiting for this process."""

MOST_FAILED_STARTS = 6
"""Workers in a row whose processes may end before they answer, while no other is left."""

LONGEST_DELAY_SECONDS = 30.0
"""Before a worker is started again after others have failed to start."""


class WorkerPool(Generic[T]):
    """Workers that each hold an object and work on batches with it. A context manager.

    A batch that fails, or that several workers in a row did not survive, is an outcome with its
    error. Without a reservation, this process is the only worker, and an error is raised: what one
    batch fails of here, such as a full disk, the next would fail of as well.
    """

    def __init__(self, make: Callable[[int | None], T], reservation: Reservation | None) -> None:
        self._make = make
        self._reservation = reservation
        self._held: T | None = None
        self._crew: _Crew | None = None

    def __enter__(self) -> "WorkerPool[T]":
        if self._reservation is None:
            self._held = self._make(None)
            return self
        try:
            self._crew = _Crew(self._make, self._reservation)
            self._crew.start_due()
        except BaseException:  # interrupted: the block, and with it __exit__, is not reached
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._crew is not None:
            self._crew.end()
        self._held = self._crew = None
        if self._reservation is not None:
            self._reservation.release()

    @property
    def has_lost_workers(self) -> bool:
        """Whether a worker was lost, and may have left a file unfinished."""
        return self._crew is not None and self._crew.has_lost

    def run(self, work: Callable[[T, Any], Any], batches: Iterable[Any]) -> Iterator[Outcome[Any]]:
        """Do work on batches where the objects are; yield the outcome of each batch.

        At most two batches per worker are under way. What ``work`` refers to is shipped once.
        """
        if self._crew is None:
            held: Any = self._held
            yield from (Outcome(batch, value=work(held, batch)) for batch in batches)
        else:
            yield from _Run(self._crew, work, batches).outcomes()


class _Holder:
    """An actor with one object, made of what lies in the object store once for all actors."""

    def __init__(self, allocation: Allocation) -> None:
        self._cpus = allocation.cpus
        self._held: Any = None
        hide_gpus(allocation)

    def prepare(self, shipped: list[Any]) -> str:
        """Make the object, unless it is there; return the name of this machine."""
        import socket

        import ray

        if self._held is None:
            self._held = ray.get(shipped[0])(self._cpus)
        return socket.gethostname()

    def run(self, shipped: list[Any], batch: Any) -> Any:
        """Do the shipped work on a batch."""
        import ray

        return ray.get(shipped[0])(self._held, batch)


class _Worker:
    """An actor, and what it answers to the question whether it is there."""

    def __init__(self, actor: Any, place: Any) -> None:
        self.actor = actor
        self.place = place
        self.answer: Any = None
        """Reference to an answer that is still to come."""

        self.host = ""

    def ask(self, shipped: Any) -> None:
        """Ask the worker to prepare itself, and to answer when it has."""
        if self.answer is None:
            self.answer = self.actor.prepare.remote([shipped])

    @property
    def is_live(self) -> bool:
        """Whether it has answered when it was last asked."""
        return self.answer is None


class _Crew:
    """The workers of a pool: starts them, and replaces those that are lost."""

    def __init__(self, make: Callable[[int | None], Any], reservation: Reservation) -> None:
        import ray

        self.workers: list[_Worker] = []
        self._reservation = reservation
        self._shipped = ray.put(make)
        self._title = f"{name_of(make)}-{uuid4().hex[:6]}"  # names are unique on a cluster
        self._numbers = itertools.count()
        self._to_start = [(0.0, reservation.place)] * reservation.allocation.num_workers
        """When a worker is to be started, and where."""

        self._rooms: list[Reservation] = []
        """Of one worker each, where the room for all was lost."""

        self._failed_starts: list[Loss] = []
        self._left_out: list[Any] = []
        self.has_lost = False
        self._waiting = WaitingLog(reservation.allocation)

    def start_due(self) -> None:
        """Start the workers whose time has come."""
        due = [start for start in self._to_start if start[0] <= time.monotonic()]
        for start in due:
            self._to_start.remove(start)
            self._start(start[1])

    def _start(self, place: Any) -> None:
        import ray

        allocation = self._reservation.allocation
        actor: Any = ray.remote(_Holder).options(  # its restarts and retries are none by default
            num_cpus=allocation.cpus,
            num_gpus=allocation.gpus,
            name=f"{self._title}-{next(self._numbers)}",
            scheduling_strategy=place,
        )
        worker = _Worker(actor.remote(allocation), place)
        self.workers.append(worker)
        worker.ask(self._shipped)

    def ask(self) -> None:
        """Ask all workers whether they are there: some may have been lost since the last work."""
        for worker in self.workers:
            worker.ask(self._shipped)

    def wait(self, running: Mapping[Any, Any]) -> Any:
        """Return what is ready first, of some results and the workers' answers; None if nothing.

        Raises:
            Exception: What the last worker failed of when it made its object.
            RuntimeError: If the pool has been closed.
        """
        import ray

        if not self.workers and not self._to_start:
            raise RuntimeError("The pool of workers has been closed.")
        answers = {worker.answer: worker for worker in self.workers if not worker.is_live}
        if len(answers) == len(self.workers):
            self._waiting.log_if_due()
            if self._ask_for_each():
                return None
        else:
            self._waiting.restart()
        awaited = [*running, *answers]
        if not awaited:  # all are to be started later
            time.sleep(WAIT_SECONDS)
            return None
        ready, _ = ray.wait(awaited, num_returns=1, timeout=WAIT_SECONDS)
        if ready and ready[0] in answers:
            self._hear(answers[ready[0]])
            return None
        return ready[0] if ready else None

    def _ask_for_each(self) -> bool:
        """If the room for all workers is lost, ask for room for each by itself; return whether.

        Ray gives those of a placement group that have lost their room another one together, or
        not at all.
        """
        if self._rooms or not self.has_lost or not self._reservation.is_lost:
            return False
        log.warning("no worker is left; going on as soon as there is room for one")
        self.end()
        self._reservation.release()
        allocation = self._reservation.allocation
        one = Allocation(1, allocation.cpus, allocation.gpus)
        self._rooms = [ask_for_room(one) for _ in range(allocation.num_workers)]
        self._to_start = [(0.0, room.place) for room in self._rooms]
        return True

    def _hear(self, worker: _Worker) -> None:
        """Take the answer of a worker."""
        found = collect(worker.answer, WorkItem(0, worker))
        if isinstance(found, Loss):
            self._failed_starts.append(found)
            log.warning("a worker was lost before it had begun: %s", found.reason)
            self.replace(worker, found, is_crowded=found.is_memory)
        elif found.error:
            self._dismiss(worker)
            none_left = not self.workers and not self._to_start
            if none_left or isinstance(found.error, RaydrgnError):
                raise found.error
            log.warning("a worker could not begin and is left out: %s", found.error)
        else:
            worker.answer, worker.host = None, found.value
            self._failed_starts.clear()

    def replace(self, worker: _Worker, loss: Loss, *, is_crowded: bool) -> None:
        """Start another worker in the place of a lost one.

        Args:
            worker: The lost one.
            loss: Why it was lost.
            is_crowded: Whether to go on with one worker less, if there are others.

        Raises:
            LostWorkersError: If no worker is left, and those started of late have all been lost.
        """
        if worker not in self.workers:
            return
        self._dismiss(worker)
        self.has_lost = True
        if is_crowded and self.workers:
            self._left_out.append(worker.place)
            log.warning("workers that are left: %d", len(self.workers) + len(self._to_start))
            return
        failed = len(self._failed_starts)
        ended = sum(not start.is_of_machine for start in self._failed_starts)
        if ended >= MOST_FAILED_STARTS and not any(w.is_live for w in self.workers):
            raise LostWorkersError(
                f"{ended} workers in a row were lost before they could begin; of the last one: "
                f"{loss.reason}. {loss.remedy}".rstrip()
            )
        delay = min(2.0**failed, LONGEST_DELAY_SECONDS) if failed else 0
        self._to_start.append((time.monotonic() + delay, worker.place))

    def take_back(self) -> None:
        """Start a worker that was left out for lack of memory, since others were not the cause."""
        if self._left_out:
            self._to_start.append((0.0, self._left_out.pop()))

    def _dismiss(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        end_actor(worker.actor)

    def end(self) -> None:
        """End all workers at once, and give back the room of each."""
        for worker in list(self.workers):
            self._dismiss(worker)
        for room in self._rooms:
            room.release()


class _Run:
    """Some work on batches by a crew."""

    def __init__(
        self, crew: _Crew, work: Callable[[Any, Any], Any], batches: Iterable[Any]
    ) -> None:
        import ray

        self._crew = crew
        self._shipped, self._name = ray.put(work), name_of(work)
        self._to_do = [WorkItem(number, batch) for number, batch in enumerate(batches)]
        self._running: dict[Any, tuple[_Worker, WorkItem]] = {}
        """Batches under way by their results, in the order in which they were handed out."""

        self._losses = Losses()

    def outcomes(self) -> Generator[Outcome[Any], None, None]:
        """Yield the outcome of each batch."""
        import ray

        self._crew.ask()
        try:
            while self._to_do or self._running:
                self._crew.start_due()
                self._hand_out()
                ref = self._crew.wait(self._running)
                if ref is None:
                    continue
                worker, work = self._running[ref]
                found = collect(ref, work, host=worker.host)
                if isinstance(found, Loss):
                    yield from self._lose(worker, found)
                else:
                    del self._running[ref]
                    self._losses.done(work)
                    yield found
        finally:
            if ray.is_initialized():
                for unfinished in self._running:
                    ray.cancel(unfinished)

    def _hand_out(self) -> None:
        """Give batches to live workers, to each one before any has two."""
        load = Counter(worker for worker, _ in self._running.values())
        live = [worker for worker in self._crew.workers if worker.is_live]
        for depth in range(BATCHES_PER_WORKER):
            for worker in live:
                if self._to_do and load[worker] <= depth:
                    work = heapq.heappop(self._to_do)
                    run = worker.actor.run.options(name=self._name)
                    self._running[run.remote([self._shipped], work.item)] = (worker, work)
                    load[worker] += 1

    def _lose(self, worker: _Worker, loss: Loss) -> Iterator[Outcome[Any]]:
        """Replace a worker, and keep its batches for others; yield one that is given up.

        Of what it held only the first was being done. What it has finished is collected later.
        """
        held = {ref: work for ref, (holder, work) in self._running.items() if holder is worker}
        lost = [
            ref
            for ref, work in held.items()
            if isinstance(collect(ref, work, host=worker.host, timeout=0), Loss)
        ]
        given_up = []
        for ref in lost:
            _, work = self._running.pop(ref)
            error = self._losses.add(work, loss, counts=ref is lost[0])
            if error is None:
                heapq.heappush(self._to_do, work)
            else:
                self._losses.done(work)
                given_up.append(Outcome(work.item, error=error))
        # Work that ends for lack of memory once may have had too many others beside it.
        is_crowded = loss.is_memory and any(held[ref].losses == 1 for ref in lost[:1])
        self._crew.replace(worker, loss, is_crowded=is_crowded)
        if given_up and loss.is_memory:
            self._crew.take_back()
        yield from given_up


def name_of(work: Callable[..., Any]) -> str:
    """Return the name by which Ray's dashboard shows some work."""
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__name__", type(work).__name__)).strip("_")


def limit_threads(cpus: int) -> None:
    """Let torch, where the work has loaded it, use as many threads as the task has cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(cpus)


def end_actor(actor: Any) -> None:
    """End an actor at once, wherever references to it are still held, as in a traceback."""
    import ray

    if ray.is_initialized():
        ray.kill(actor)


def hide_gpus(allocation: Allocation) -> None:
    """Keep work that has been given no GPU from those of its node, which Ray lets it see."""
    if not allocation.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
