"""Joining a Ray cluster, or starting one on this machine for the length of a command.

With no address, a command starts Ray here and stops it at the end; Ray's own ``ray stop``, which
ends every Ray process of the machine by its name, is never called.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raydrgn.errors import ClusterError
from raydrgn.remote.resources import Resources, cores_here

log = logging.getLogger(__name__)

SPARE_CPUS = 2
"""Logical CPUs beside those of workers, for the tasks that read and prepare particles."""

SPARE_RESOURCE = "raydrgn_spare_cpus"
"""Resource by which a Ray that a command has started says how many of its CPUs are spare."""

HELD_CPUS, HELD_GPUS = "RAYDRGN_JOB_CPUS", "RAYDRGN_JOB_GPUS"
"""Variables in which a job finds what of the cluster is kept for its command."""

QUIET_THREADS = {"GOMP_SPINCOUNT": "1000"}
"""Environment in which threads that wait for each other soon give up their core.

By default they spin for milliseconds, which on a machine with other work makes two threads slower
than one (measured: a factor of 2.3 beside one busy process, and no loss on an idle machine).
"""

RELEASE_SECONDS = 3.0
"""Time in which a cluster takes back what a process that has just ended held."""

CONNECT_HINT = (
    "Check --address (or RAY_ADDRESS). If the cluster wants a token, as those do that were started "
    "on an account with ~/.ray/auth_token: export RAY_AUTH_MODE=token, and, if the token is "
    "another, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each worker of a command gets, settled against what there is."""

    num_workers: int
    cpus: int
    gpus: float


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``, or start one here, and leave it after.

    Inside a process that is connected already, this does nothing.

    Raises:
        ClusterError: If no cluster answers at the address, or Ray cannot start here.
    """
    _quieten()
    import ray

    if ray.is_initialized():
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {
        "namespace": "raydrgn",
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    if where == "local":
        options |= {
            "num_cpus": cores_here() + SPARE_CPUS,
            "resources": {SPARE_RESOURCE: SPARE_CPUS},
            "include_dashboard": False,
        }
    try:
        ray.init(address=where, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        what = "Ray could not be started here" if where == "local" else f"No Ray at {where}"
        hint = "" if where == "local" else f" {CONNECT_HINT}"
        raise ClusterError(f"{what}: {error}.{hint}") from error
    try:
        yield
    finally:
        ray.shutdown()


def limit_spinning() -> None:
    """Set how threads of this process and its children wait; before torch is imported."""
    for name, value in QUIET_THREADS.items():
        os.environ.setdefault(name, value)


def _quieten() -> None:
    """Keep Ray's chatter in its log files; raydrgn says itself what users need to know."""
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def allocate(resources: Resources, *, available: Mapping[str, float]) -> Allocation:
    """Settle what each worker gets.

    On a Ray started by a command, ``available`` counts the spare CPUs too; workers are not given
    those, nor what a job keeps for its command.

    Args:
        resources: What is asked for.
        available: Totals of the cluster, or of this machine, by resource.

    Raises:
        ClusterError: If there are too few CPUs or GPUs.
    """
    workers = resources.num_workers
    cores, devices = int(available.get("CPU", 0)), float(available.get("GPU", 0.0))
    cores -= int(available.get(SPARE_RESOURCE, 0)) + math.ceil(_held(HELD_CPUS))
    devices -= _held(HELD_GPUS)
    cpus = resources.cpus or max(cores // workers, 1)
    if cpus * workers > cores:
        raise ClusterError(
            f"{workers} workers of {cpus} CPUs each were asked for, but there are {cores} CPUs. "
            f"Use --workers {max(cores // cpus, 1)} or fewer, or a larger cluster."
        )
    gpus = resources.gpus
    if gpus < 0:
        gpus = 1.0 if devices else 0.0
    if gpus * workers > devices:
        raise ClusterError(
            f"{workers} workers of {gpus:g} GPUs each were asked for, but there are {devices:g} "
            f"GPUs. Use --workers {max(int(devices // gpus), 1)}, let workers share a GPU with "
            "--set resources.gpus=0.5, or train on CPUs with --set resources.gpus=0."
        )
    return Allocation(workers, cpus, gpus)


def reserve(resources: Resources) -> Allocation:
    """Settle what each worker gets on the connected cluster, and say if it has to wait for it.

    Raises:
        ClusterError: If there are too few CPUs or GPUs.
    """
    import ray

    allocation = allocate(resources, available=ray.cluster_resources())
    wanted = {
        "CPU": allocation.num_workers * allocation.cpus,
        "GPU": allocation.num_workers * allocation.gpus,
    }
    end = time.monotonic() + RELEASE_SECONDS
    while missing := _missing(wanted, ray.available_resources()):
        if time.monotonic() > end:
            log.warning("%s; waiting until other work on the cluster ends", missing)
            break
        time.sleep(0.1)
    return allocation


def _missing(wanted: Mapping[str, float], free: Mapping[str, float]) -> str:
    return ", ".join(
        f"{number:g} {name}s are wanted and {free.get(name, 0):g} are free"
        for name, number in wanted.items()
        if free.get(name, 0) < number
    )


def _held(variable: str) -> float:
    return float(os.environ.get(variable) or 0)
