"""What the workers of a command ask of a cluster; data, so that YAML and tests can set it."""

import os
from dataclasses import dataclass
from typing import Literal

from raydrgn.errors import ConfigError

ShardStore = Literal["auto", "device", "host", "disk"]

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Units of a length of time, as options take it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What each worker asks of the cluster, and the number of workers."""

    num_workers: int = 0
    """Workers of a command. 0 takes one for each GPU, or one for each node without GPUs."""

    cpus: int = 0
    """CPU cores of each. 0 divides those of the nodes among the workers."""

    gpus: float = -1.0
    """GPUs of each; a fraction lets several share one. −1 takes one each where there are GPUs."""

    shard_store: ShardStore = "auto"
    """Where a worker keeps its particles: on its device, in host memory, or on a local disk."""

    local_ingest_mb: float = 2000.0
    """Images per worker, in MB, up to which it prepares them itself; more are spread over tasks."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ConfigError(
                f"resources.num_workers must not be negative, got {self.num_workers}."
            )
        if self.cpus < 0:
            raise ConfigError(f"resources.cpus must not be negative, got {self.cpus}.")
        if self.gpus > 1 and not float(self.gpus).is_integer():
            raise ConfigError(f"resources.gpus above 1 must be a whole number, got {self.gpus}.")


def cores_here() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_duration(text: str) -> float:
    """Return the seconds of a length of time such as ``90s``, ``30m``, ``2h`` or ``1d``.

    Raises:
        ConfigError: If it is anything else.
    """
    try:
        seconds = float(text[:-1]) * SECONDS[text[-1:]]
    except (KeyError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"expected a length of time such as 90s, 30m, 2h or 1d, got {text!r}.")
    return seconds
