"""A measurement in a fresh process, which ends with it, and gives back all that it held.

So its largest memory is its own, and a GPU in a compute mode of one process at a time is free for
the workers that are measured next.
"""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from raydrgn.errors import RaydrgnError

T = TypeVar("T")


def in_own_process(work: Callable[..., T], *arguments: object) -> T:
    """Return what a function returns in a process of its own; raise what it raises.

    An interrupt of this process ends the other one at once.

    Raises:
        RaydrgnError: If the process was killed.
    """
    with ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,  # Ctrl-C goes to both processes
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            raise RaydrgnError(
                "The process that measures was killed, perhaps since the machine's memory was full."
            ) from error
        except (KeyboardInterrupt, SystemExit):
            for process in multiprocessing.active_children():
                process.terminate()
            raise
