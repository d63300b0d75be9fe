"""What the workers of a command ask of a cluster; data, so that YAML and tests can set it."""

import os
from dataclasses import dataclass
from typing import Literal

from raydrgn.errors import ConfigError

ShardStore = Literal["auto", "device", "host", "disk"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What each worker asks of the cluster, and the number of workers."""

    num_workers: int = 1
    """Workers of a command."""

    cpus: int = 0
    """CPU cores of each. 0 divides this machine's cores among the workers."""

    gpus: float = -1.0
    """GPUs of each; a fraction lets several share one. −1 takes one each if there are enough."""

    shard_store: ShardStore = "auto"
    """Where a worker keeps its particles: on its device, in host memory, or on a local disk."""

    local_ingest_mb: float = 2000.0
    """Images per worker, in MB, up to which it prepares them itself; more are spread over tasks."""

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ConfigError(f"resources.num_workers must be at least 1, got {self.num_workers}.")
        if self.cpus < 0:
            raise ConfigError(f"resources.cpus must not be negative, got {self.cpus}.")
        if self.gpus > 1 and not float(self.gpus).is_integer():
            raise ConfigError(f"resources.gpus above 1 must be a whole number, got {self.gpus}.")


def cores_here() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
