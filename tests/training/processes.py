"""Groups of processes that begin in a moment: they are forked from one that has imported torch."""

from collections.abc import Callable

from torch import multiprocessing

IMPORTED = ["raydrgn.training.assembly", "raydrgn.training.em_loop"]
"""By the server, once for all groups of a test session."""


def run_group(worker: Callable[..., None], *arguments: object, world: int) -> None:
    """Run ``worker(rank, *arguments)`` in each of ``world`` processes, to their end."""
    multiprocessing.set_forkserver_preload(IMPORTED)
    multiprocessing.start_processes(worker, args=arguments, nprocs=world, start_method="forkserver")
