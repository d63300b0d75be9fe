"""How many workers there is room for, on nodes that can be relied on.

Ray Train's own elastic policy is not used: it stops the workers without asking them for a
checkpoint, counts resources that other work holds, and does not look whether a node still answers.
"""

import logging
import math
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import ray

from raydrgn.remote.resources import Resources
from raydrgn.remote.session import SPARE_RESOURCE, Allocation, reserve, usable_resources

log = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
"""Time in which a node must accept a connection."""

SETTLE_SECONDS = 3.0
"""Time for which the room must stay the same: what has ended gives its resources back in parts."""

WAITING_MESSAGE_SECONDS = 60.0

GROWTH_SECONDS = 10.0
"""Time between two looks for more room; it must be there at both of two."""


def first_share(resources: Resources) -> Allocation:
    """Return what each worker gets, and how many there may be at most.

    Waits for the smallest number of workers, or refuses it, as other commands do for theirs. The
    CPUs of a cluster are divided by the largest number, unless they are given.

    Raises:
        ClusterError: If the cluster is too small for the smallest number.
    """
    if not resources.is_elastic:
        return reserve(resources)
    cores, devices = usable_resources(ray.cluster_resources())
    cpus = resources.cpus or max(cores // resources.num_workers, 1)
    gpus = resources.gpus if resources.gpus >= 0 else float(devices > 0)
    fewest = replace(resources, num_workers=resources.fewest, min_workers=0, cpus=cpus, gpus=gpus)
    return replace(reserve(fewest), num_workers=resources.num_workers)


def workers_that_fit(free: Iterable[Mapping[str, float]], share: Allocation) -> int:
    """Return how many workers fit on nodes, given what is free on each."""
    needs = {"CPU": float(share.cpus), "GPU": share.gpus}
    counts = (
        min(math.floor(node.get(name, 0.0) / need + 1e-6) for name, need in needs.items() if need)
        for node in free
    )
    return sum(max(count, 0) for count in counts)


def free_on_nodes() -> list[Mapping[str, float]]:
    """Return what is free on each node that answers and is not to be taken back.

    Ray finds out only after half a minute that a machine is gone.
    """
    state = ray._private.state.state
    free, draining = state.available_resources_per_node(), state.get_draining_nodes()
    nodes = [
        node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] in free and node["NodeID"] not in draining
    ]
    with ThreadPoolExecutor(max_workers=32) as threads:
        answers = list(threads.map(_answers, nodes))
    return [
        _without_spare(free[node["NodeID"]])
        for node, there in zip(nodes, answers, strict=True)
        if there
    ]


def is_draining(node_id: str) -> bool:
    """Return whether a node is to be taken back."""
    return node_id in ray._private.state.state.get_draining_nodes()


def wait_for_room(
    share: Allocation, *, fewest: int, is_stopping: threading.Event
) -> Allocation | None:
    """Wait until there is room for enough workers, and return as many as there is room for.

    Args:
        share: What each worker gets, and how many there may be at most.
        fewest: Workers to wait for.
        is_stopping: Ends the waiting.

    Returns:
        None if the waiting was ended.
    """
    began = reported = since = time.monotonic()
    before = -1
    while not is_stopping.is_set():
        room = min(workers_that_fit(free_on_nodes(), share), share.num_workers)
        now = time.monotonic()
        if room != before:
            before, since = room, now
        if room == share.num_workers or (room >= fewest and now - since >= SETTLE_SECONDS):
            return replace(share, num_workers=room)
        if now - reported >= WAITING_MESSAGE_SECONDS:
            reported = now
            log.warning(
                "waiting since %.0f min for room for %d workers with %s: there is room for %d",
                (now - began) / 60,
                fewest,
                needs_in_words(share),
                room,
            )
        is_stopping.wait(0.5)
    return None


def workers_in_words(number: int) -> str:
    """Return a number of workers: ``1 worker``."""
    return f"{number} worker{'s' * (number != 1)}"


def needs_in_words(share: Allocation) -> str:
    """Return what each worker gets: ``4 CPUs and 1 GPU``."""
    words = f"{share.cpus} CPU{'s' * (share.cpus != 1)}"
    return f"{words} and {share.gpus:g} GPU{'s' * (share.gpus > 1)}" if share.gpus else words


class GrowthWatch:
    """Sees when there is room for more workers than there are."""

    def __init__(self, share: Allocation) -> None:
        self._share = share
        self._next = 0.0
        self._seen = 0

    def room_for_more(self, num_workers: int) -> int:
        """Return for how many workers there is room if that is more than now, else 0.

        Args:
            num_workers: Workers that there are; they hold what they need.
        """
        now = time.monotonic()
        if num_workers >= self._share.num_workers or now < self._next:
            return 0
        self._next = now + GROWTH_SECONDS
        more = workers_that_fit(free_on_nodes(), self._share)
        room = min(num_workers + more, self._share.num_workers) if more else 0
        stable, self._seen = min(room, self._seen), room
        return stable if stable > num_workers else 0


def _without_spare(free: Mapping[str, float]) -> Mapping[str, float]:
    """Return what is free for workers of a Ray that a command has started for itself."""
    return {**free, "CPU": free.get("CPU", 0.0) - free.get(SPARE_RESOURCE, 0.0)}


def _answers(node: Mapping[str, Any]) -> bool:
    address = (node["NodeManagerAddress"], node["NodeManagerPort"])
    try:
        socket.create_connection(address, timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
