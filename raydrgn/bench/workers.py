"""Workers that compare: each of one core, or of one GPU, whatever their number."""

from collections.abc import Callable
from typing import TypeVar

from raydrgn.remote.executor import Executor
from raydrgn.remote.node_answers import GpuProblem
from raydrgn.remote.worker_pool import WorkerPool

T = TypeVar("T")


class OneCoreWorkers(Executor):
    """An executor whose pools are always on Ray, with one core (or GPU) for each worker."""

    def pool(
        self,
        make: Callable[[int | None], T],
        *,
        gpu_problem: GpuProblem | None = None,
        batches: int | None = None,
    ) -> WorkerPool[T]:
        """Return a pool of workers of one core each."""
        return WorkerPool(make, self._reserve(self._wanted(1, gpu_problem), gpu_problem))
