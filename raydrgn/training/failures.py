"""What a failure of a worker is: lost peers, too little memory, or a defect.

Only lost peers are worth another try. Everything else would fail again, after all workers had read
their particles again.
"""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray
import torch
from torch import distributed

from raydrgn.errors import RaydrgnError

LOST_PEER = re.compile(r"gloo/.*(connection|broken pipe|timed out|timeout|peer)", re.I | re.S)
"""Message of gloo's plain RuntimeError when another worker is gone."""

NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|node running low on memory"
)
"""Messages of torch's plain RuntimeError, and of Ray when its monitor has killed a worker."""

OUT_OF_MEMORY = (
    "A worker ran out of memory{where}. A smaller --batch-size needs less; the steps become more "
    "and noisier, so the learning rate should fall with it (for half the batch, --lr times 0.7). "
    "--set train.points_fraction=0.1 needs less too: each step compares fewer Fourier points, and "
    "training may need more epochs. Both are settings of a new run: choose another -o."
)


class Failure(NamedTuple):
    """Why training cannot go on."""

    message: str
    is_defect: bool
    """Whether it is a defect of raydrgn; the message is then a traceback."""


def final_failure(error: BaseException) -> Failure | None:
    """Return why another try would fail too; None if the workers are worth another try."""
    if isinstance(error, RaydrgnError):
        return Failure(str(error), is_defect=False)
    message = out_of_memory_message(error)
    if message is not None:
        return Failure(message, is_defect=False)
    if is_lost_peer(error):
        return None
    return Failure("".join(traceback.format_exception(error)), is_defect=True)


def is_lost_peer(error: BaseException) -> bool:
    """Return whether a worker failed because another worker, or an actor, was lost."""
    if isinstance(error, ray.exceptions.RayError):
        return not isinstance(error, ray.exceptions.RayTaskError)
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(LOST_PEER.search(str(error)))


def out_of_memory_message(error: BaseException) -> str | None:
    """Return what to do if a worker failed for lack of memory; None for other failures."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY.format(where=" on its GPU")
    is_known = isinstance(error, MemoryError | ray.exceptions.OutOfMemoryError)
    if is_known or NO_MEMORY.search(str(error)):
        return OUT_OF_MEMORY.format(where="")
    return None


@contextmanager
def raised_by_actor() -> Iterator[None]:
    """Raise a user's mistake as an actor raised it, without Ray's wrapping and traceback."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaydrgnError):
            raise error.cause from None
        raise
