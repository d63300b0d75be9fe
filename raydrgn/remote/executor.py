"""Where the work of a command is done: in this process, or on Ray.

A workflow is given an ``Executor`` and never asks which of the two it is. The choice is made once,
when the first work is handed over: Ray is used if a cluster is named, if several workers are asked
for or what each gets, or if nothing is asked for and the input is so large that starting Ray pays.
Beyond that, a pool for much work takes all GPUs of a machine that has several.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from raydrgn.errors import ClusterError
from raydrgn.remote.address import ray_address
from raydrgn.remote.allocation import Allocation, Wanted, allocate, fitting
from raydrgn.remote.fanout import Outcome, fan_out
from raydrgn.remote.metrics import queue_wait
from raydrgn.remote.node_answers import GpuProblem
from raydrgn.remote.reservation import (
    Reservation,
    await_room,
    check_room,
    read_cluster,
    reserve,
    this_machine,
)
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import connected, dashboard_url
from raydrgn.remote.summation import add_up, work_here, work_on_ray
from raydrgn.remote.waiting import WaitingLog
from raydrgn.remote.worker_pool import WorkerPool, hide_gpus, limit_threads, name_of
from raydrgn.wording import counted

log = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

SMALL_INPUT_BYTES = 1_000_000_000
"""Input that one process works through in the time that Ray needs to start, or little more."""

MANY_BATCHES = 50
"""Batches of a pool from which several GPUs pay for the start of Ray and of a process on each."""


class Executor:
    """Runs tasks, and pools of workers that hold an object, here or on Ray.

    A context manager: Ray is joined, or started on this machine, when it is first needed, and left
    at the end, also after an error or an interrupt. Used without ``with``, it serves what needs no
    Ray.
    """

    _may_use_ray = True

    def __init__(
        self,
        *,
        workers: int | None = None,
        address: str | None = None,
        cpus_per_worker: int | None = None,
        gpus_per_worker: float | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        """Describe the workers; nothing is started yet.

        Args:
            workers: How many work at a time. None means this process; for tasks on large inputs,
                and on a cluster that is named, one for each core; for a pool on such a cluster, and
                for much work on a machine with several GPUs, one for each GPU; for a pool on a
                cluster without GPUs one for each node.
            address: Ray cluster to join. None means ``RAY_ADDRESS``, or this machine.
            cpus_per_worker: CPU cores of each. None means one for tasks; of a pool, those of the
                nodes are divided.
            gpus_per_worker: GPUs of each, for work that uses them. None means one each, or a part
                of one if there are more workers than GPUs; 0 computes on CPUs.
            wait_seconds: How long to wait for room on a cluster; None waits without limit.
        """
        self._workers = workers
        self._address = address
        self._cpus = cpus_per_worker
        self._gpus = gpus_per_worker
        self.wait_seconds = wait_seconds
        self._on_ray: bool | None = None
        self._has_begun = False
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
        self._on_ray, self._has_begun = None, False

    @property
    def workers(self) -> int | None:
        """How many work at a time, if it was given."""
        return self._workers

    def for_training(self, most_workers: int | None = None) -> Resources:
        """Return what was given for the workers, for a training among the steps of a command.

        Fewer workers once a cluster has lost nodes; what was not given has the value that leaves it
        to the training.

        Args:
            most_workers: How many it can be divided among; None for any number.
        """
        number = self._workers or 0
        asked = Resources(
            num_workers=number if most_workers is None else min(number, most_workers),
            cpus=self._cpus or 0,
            gpus=-1.0 if self._gpus is None else self._gpus,
        )
        return self._after_losses(Wanted(resources=asked)).resources

    @property
    def has_cluster(self) -> bool:
        """Whether a cluster is named, here or by ``RAY_ADDRESS``."""
        return ray_address(self._address) is not None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have Ray for the length of a block, for work that needs it whatever its size."""
        with connected(self._address):
            yield

    @property
    def job_server(self) -> str | None:
        """Address of the job server of the cluster that was joined, or that ``RAY_ADDRESS`` names.

        None without a cluster: a Ray that was started here has none.
        """
        from raydrgn.remote.jobserver import named_server_url, server_url

        if not self._may_use_ray:
            return None
        if not self.has_cluster:
            return named_server_url()
        found = dashboard_url()
        return found and server_url(found)

    def prepare(self) -> None:
        """Join Ray, or start it, before other threads need it, if they will.

        Ray's processes end with the thread that started them.
        """
        if self._uses_ray(0):
            self._connect()

    def map(
        self,
        work: Callable[[Any], Any],
        items: Iterable[T],
        *,
        load: Callable[[T], Any] | None = None,
        cpus: int = 1,
        input_bytes: int | None = None,
        gpu_problem: GpuProblem | None = None,
    ) -> Iterator[Outcome[T]]:
        """Do work on items by independent tasks, and yield the outcome of each as it finishes.

        In this process an error is raised; on Ray it is the outcome of its item.

        Args:
            work: Shipped once.
            items: One task for each, as many at a time as there are workers.
            load: Turns an item, here, into what the task is given; the item itself if None.
            cpus: CPU cores of a task; 0 divides those of the nodes among the workers.
            input_bytes: Size of the input, if known; only large inputs start Ray by themselves.
            gpu_problem: Given by work that uses GPUs; tasks get none without it.
        """
        loaded: Callable[[T], Any] = load or (lambda item: item)
        if not self._uses_ray(input_bytes):
            yield from (Outcome(item, value=work(loaded(item))) for item in items)
            return
        import ray

        allocation = self._room_for_tasks(cpus, gpu_problem)
        task: Any = ray.remote(_as_task).options(
            num_cpus=allocation.cpus,
            num_gpus=allocation.gpus,
            max_retries=0,
            name=name_of(work),
        )
        shipped = ray.put(work)
        outcomes = fan_out(
            lambda item: task.remote(allocation, shipped, loaded(item)),
            items,
            max_in_flight=allocation.num_workers,
            while_waiting=WaitingLog(allocation).log_if_impossible,
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
        """Do work on items, and add up the large part of what it returns.

        The sum is taken in the order of the items: it is the same to the bit for any number of
        workers, and whatever is lost and done again. On Ray, values exist of at most two items per
        worker at a time.

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
            return add_up(work_here(work, items, load, progress), key)
        outcomes = work_on_ray(work, items, load, progress, self._room_for_tasks(1))
        self._stack.callback(outcomes.close)  # a traceback may hold it when the block has ended
        return add_up(outcomes, key)

    def pool(
        self,
        make: Callable[[int | None], T],
        *,
        gpu_problem: GpuProblem | None = None,
        batches: int | None = None,
    ) -> "WorkerPool[T]":
        """Return a pool of workers, each of which holds what ``make`` returns, such as a decoder.

        Args:
            make: Called once by each worker with its CPU cores, or None in this process. It is
                shipped once for all workers.
            gpu_problem: Given by work that uses GPUs; workers get none without it.
            batches: How many there will be, if that is known; no more workers are started.
        """
        if not (self._uses_ray(0) or self._has_work_for_gpus(batches, gpu_problem)):
            return WorkerPool(make, None)
        wanted = replace(self._wanted(0, gpu_problem), most_workers=batches)
        return WorkerPool(make, self._reserve(wanted, gpu_problem))

    def one_worker_here(self, wanted: Wanted, input_bytes: float) -> Allocation | None:
        """Return what one worker in this process gets; None if the work belongs on Ray.

        For work that begins on Ray where several workers share it, or the input is large.

        Args:
            wanted: The workers.
            input_bytes: Size of the input.
        """
        if self._may_use_ray and (self.has_cluster or input_bytes >= SMALL_INPUT_BYTES):
            return None
        if not (self._may_use_ray or wanted.resources.num_workers):
            wanted = replace(wanted, resources=replace(wanted.resources, num_workers=1))
        allocation = allocate(wanted, this_machine())
        return allocation if allocation.num_workers == 1 else None

    def check_room(self, wanted: Wanted, gpu_problem: GpuProblem | None = None) -> None:
        """Refuse what the cluster, or this machine, cannot give, before work begins.

        Raises:
            ClusterError: If there are too few CPUs or GPUs, or GPUs that cannot be used.
        """
        if self.has_cluster:
            self._connect()
            check_room(wanted, gpu_problem)
            return
        gpus = allocate(wanted, this_machine()).gpus
        problem = gpu_problem() if gpus and gpu_problem else None
        if problem:
            raise ClusterError(problem)

    def check_pool(self, gpu_problem: GpuProblem | None = None, batches: int | None = None) -> None:
        """Refuse a pool that the cluster, or this machine, cannot hold, before other work begins.

        Args:
            gpu_problem: As in ``pool``.
            batches: As in ``pool``.

        Raises:
            ClusterError: If there are too few CPUs or GPUs, or GPUs that cannot be used.
        """
        if not self._has_begun and self._uses_ray(0):
            wanted = replace(self._wanted(0, gpu_problem), most_workers=batches)
            self.check_room(wanted, gpu_problem)

    def _uses_ray(self, input_bytes: int | None) -> bool:
        if self._on_ray is None:
            is_large = input_bytes is not None and input_bytes >= SMALL_INPUT_BYTES
            has_workers = self._workers not in (None, 1) or self._cpus or self._gpus is not None
            by_itself = self._workers is None and is_large
            self._on_ray = bool(self.has_cluster or has_workers or by_itself)
        return self._on_ray

    def _has_work_for_gpus(self, batches: int | None, gpu_problem: GpuProblem | None) -> bool:
        """Return whether a pool shares much work among several GPUs of this machine."""
        is_asked_for = self._workers is not None or not self._may_use_ray
        if is_asked_for or gpu_problem is None or (batches or 0) < MANY_BATCHES:
            return False
        gpus = sum(node.total.gpus for node in this_machine().nodes)
        return gpus > 1 and gpu_problem() is None

    def _connect(self) -> None:
        self._stack.enter_context(connected(self._address))

    def _wanted(self, cpus: int, gpu_problem: GpuProblem | None) -> Wanted:
        gpus = -1.0 if self._gpus is None else self._gpus
        resources = Resources(
            num_workers=self._workers or 0,
            cpus=self._cpus or cpus,
            gpus=gpus if gpu_problem else 0.0,
        )
        return Wanted(resources=resources)

    def _room_for_tasks(self, cpus: int, gpu_problem: GpuProblem | None = None) -> Allocation:
        self._connect()
        wanted = self._after_losses(self._wanted(cpus, gpu_problem))
        with queue_wait():
            found = await_room(wanted, wait_seconds=self.wait_seconds, gpu_problem=gpu_problem)
        self._has_begun = True
        return found

    def _after_losses(self, wanted: Wanted) -> Wanted:
        """Return what is asked for; of later work, no more than is left where nodes were lost."""
        number = wanted.resources.num_workers
        if not (self._has_begun and number):
            return wanted
        left = fitting(wanted, read_cluster())
        if left.resources.num_workers < number:
            log.warning(
                "the cluster has lost nodes since the command began: going on with %s",
                counted(left.resources.num_workers, "worker"),
            )
        return left

    def _reserve(self, wanted: Wanted, gpu_problem: GpuProblem | None) -> Reservation:
        self._connect()
        wanted = self._after_losses(wanted)
        with queue_wait():
            reservation = reserve(wanted, wait_seconds=self.wait_seconds, gpu_problem=gpu_problem)
        self._has_begun = True
        self._stack.callback(reservation.release)
        return reservation


class _InProcess(Executor):
    """Never uses Ray, but for work that cannot do without."""

    _may_use_ray = False

    def _uses_ray(self, input_bytes: int | None) -> bool:
        return False


IN_PROCESS = _InProcess()
"""Everything in this process, whatever ``RAY_ADDRESS`` is; the default of Python callers."""


def _as_task(allocation: Allocation, work: Callable[[Any], Any], given: Any) -> Any:
    limit_threads(allocation.cpus)
    hide_gpus(allocation)
    return work(given)
