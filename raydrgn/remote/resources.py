"""What the workers of a command ask of a cluster; data, so that YAML and tests can set it."""

import os
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from raydrgn.errors import ConfigError

ShardStore = Literal["auto", "device", "host", "disk"]
Compile = Literal["auto", "on", "off"]

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Units of a length of time, as options take it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What each worker asks of the cluster, and the number of workers."""

    num_workers: int = 0
    """Workers of a command; of training the most, where ``min_workers`` is set.

    0 takes one for each GPU, or one for each node without GPUs.
    """

    min_workers: int = 0
    """Workers with which training goes on when it loses others; 0 for ``num_workers``."""

    cpus: int = 0
    """CPU cores of each. 0 divides those of the nodes among the workers."""

    gpus: float = -1.0
    """GPUs of each; a fraction lets several share one. −1 takes one each where there are GPUs."""

    shard_store: ShardStore = "auto"
    """Where a worker keeps its particles: on its device, in host memory, or on a local disk."""

    compile: Compile = "auto"
    """Whether training steps are compiled: captured as a CUDA graph on a GPU, by torch.compile on a
    CPU.

    auto does so on a GPU, where enough steps are left to pay for it, and never on a CPU.
    """

    local_ingest_mb: float = 2000.0
    """Images per worker, in MB, up to which it prepares them itself; more are spread over tasks."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ConfigError(
                f"resources.num_workers must not be negative, got {self.num_workers}."
            )
        if not 0 <= self.min_workers <= self.num_workers:
            raise ConfigError(
                f"resources.min_workers must be between 0 and resources.num_workers "
                f"({self.num_workers}), got {self.min_workers}."
            )
        if self.compile not in get_args(Compile):
            raise ConfigError(f"resources.compile must be auto, on or off, got {self.compile!r}.")
        if self.cpus < 0:
            raise ConfigError(f"resources.cpus must not be negative, got {self.cpus}.")
        if self.gpus > 1 and not float(self.gpus).is_integer():
            raise ConfigError(f"resources.gpus above 1 must be a whole number, got {self.gpus}.")

    @property
    def fewest(self) -> int:
        """Smallest number of workers; 0 where none is given."""
        return self.min_workers or self.num_workers

    @property
    def smallest(self) -> "Resources":
        """The same, of the smallest number of workers."""
        return replace(self, num_workers=self.fewest, min_workers=0)

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change."""
        return self.fewest < self.num_workers


def worker_range(value: object) -> dict[str, int]:
    """Return the fields of ``Resources`` for a number of workers, or a range such as ``2-8``.

    Raises:
        ConfigError: If it is neither.
    """
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(value))
    if match is None or isinstance(value, bool):
        raise ConfigError(
            f"The number of workers is {value!r}; expected a number, or a range such as 2-8."
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last:
        raise ConfigError(
            f"The number of workers is {value}; a range goes from 1 or more up to a larger number."
        )
    return {"num_workers": last, "min_workers": first if first < last else 0}


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
