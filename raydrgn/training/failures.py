"""What a failure of a worker is: lost peers, a fault of its GPU, full memory, or a defect.

Only the first two are worth another try. Everything else would fail again, after all workers had
read their particles again.
"""

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
import torch
from ray.train import ControllerError, PreemptionError, WorkerGroupError
from torch import distributed

from raydrgn.errors import RaydrgnError
from raydrgn.model.device import busy_gpu
from raydrgn.remote.lost_workers import is_monitor_kill
from raydrgn.training.memory import OUT_OF_MEMORY, out_of_memory_message

LOST_PEER = re.compile(r"gloo/.*(connection|broken pipe|timed out|timeout|peer)", re.I | re.S)
"""Message of gloo's plain RuntimeError when another worker is gone."""

GPU_FAULT = re.compile(
    r"ECC error|NVLink|launch failure|illegal memory access|hardware|unknown error", re.I
)
"""Of CUDA's texts, those of a faulty card, or of memory that a lost peer was to fill."""

KILLED_BY_MONITOR = ", and Ray's memory monitor has killed a worker: its node was full"


class TrainingDefect(Exception):
    """A defect of ours in a worker; carries the worker's traceback."""


def final_failure(error: BaseException) -> Exception | None:
    """Return why another try would fail too, as an error; None if the workers are worth it."""
    if isinstance(error, RaydrgnError | TrainingDefect):
        return error
    message = lost_memory_message(error) or busy_gpu(error)
    if message is not None:
        return RaydrgnError(message)
    if is_lost_peer(error) or is_gpu_fault(error):
        return None
    return TrainingDefect("".join(traceback.format_exception(error)))


def is_lost_peer(error: BaseException) -> bool:
    """Return whether a worker failed because another worker, or an actor, was lost."""
    if isinstance(error, ray.exceptions.RayError):
        return not isinstance(error, ray.exceptions.RayTaskError)
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(LOST_PEER.search(str(error)))


def is_gpu_fault(error: BaseException) -> bool:
    """Return whether a worker's GPU failed, rather than what it was given to compute."""
    return isinstance(error, torch.AcceleratorError) and bool(GPU_FAULT.search(str(error)))


def lost_memory_message(error: BaseException) -> str | None:
    """Return what to do if a worker failed, or was killed, for lack of memory; None otherwise."""
    if is_monitor_kill(error):
        return OUT_OF_MEMORY.format(where=KILLED_BY_MONITOR)
    return out_of_memory_message(error)


def final_failure_of_attempt(error: Exception) -> Exception | None:
    """Return why an attempt at training would fail again; None if it is worth another try."""
    if not isinstance(error, WorkerGroupError):
        return None
    found = [final_failure_of_worker(failure) for failure in error.worker_failures.values()]
    return next((failure for failure in found if failure is not None), None)


def final_failure_of_worker(error: Exception) -> Exception | None:
    """Return what a worker has found final, or why it could not begin, or was killed."""
    if isinstance(error, RaydrgnError | TrainingDefect):
        return error
    message = lost_memory_message(error) or busy_gpu(error)
    return None if message is None else RaydrgnError(message)


def is_preemption(error: Exception) -> bool:
    """Return whether an attempt ended since a node was preempted with notice."""
    if isinstance(error, PreemptionError):
        return True
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    causes = (getattr(failure, "health_check_failure", failure) for failure in failures)
    return any(getattr(cause, "preempted", False) for cause in causes)


def attempt_message(error: Exception) -> str:
    """Return in words why an attempt ended, for failures that are worth another try."""
    if isinstance(error, PreemptionError):
        return "a node of the workers was preempted"
    if isinstance(error, WorkerGroupError):
        return _workers_message(error.worker_failures)
    if isinstance(error, ControllerError):
        return f"the workers could not be started ({_last_line(error.controller_failure)})"
    return f"Ray Train's controller was lost{_cause(error)}"


def _workers_message(failures: Mapping[int, Exception]) -> str:
    """Name the workers that died; those that lost their peers only where none is known to have."""
    died = {
        rank: getattr(error, "health_check_failure", error)
        for rank, error in failures.items()
        if isinstance(getattr(error, "health_check_failure", error), ray.exceptions.RayError)
    }
    if not died:
        faults = {rank: error for rank, error in failures.items() if is_gpu_fault(error)}
        if faults:
            text = str(next(iter(faults.values()))).splitlines()[0]
            return f"the GPU of {_named(faults)} failed ({text})"
        return f"{_named(failures)} lost the connection to another worker"
    was = "were" if len(died) > 1 else "was"
    return f"{_named(died)} {was} lost{_cause(next(iter(died.values())))}"


def _named(failures: Mapping[int, Exception]) -> str:
    """Return the workers of some failures: ``worker 2``, ``workers 0, 2``."""
    return f"worker{'s' * (len(failures) > 1)} {', '.join(map(str, sorted(failures)))}"


def _cause(error: Exception) -> str:
    """Return why Ray has lost a process, as far as that is known."""
    text = str(error)
    if is_monitor_kill(error):
        return " (killed by Ray's memory monitor, since the memory of its node was full)"
    if "node has died" in text or "node was" in text or isinstance(error, NODE_ERRORS):
        return " (its node is gone)"
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return " (it no longer answers)"
    if "connection error code" in text or "SYSTEM_ERROR" in text:
        return " (process killed)"
    return f" ({_last_line(error)})"


NODE_ERRORS = (ray.exceptions.NodeDiedError,)


def _last_line(error: Exception) -> str:
    """Return the last line of Ray's text, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


@contextmanager
def raised_by_actor() -> Iterator[None]:
    """Raise a user's mistake as an actor raised it, without Ray's wrapping and traceback."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaydrgnError):
            raise error.cause from None
        raise
