"""How many workers there is room for, on nodes that can be relied on.

Ray Train's own elastic policy is not used: it stops the workers without asking them for a
checkpoint, counts resources that other work holds, and does not look whether a node still answers.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import ray

from raydrgn.errors import ClusterError
from raydrgn.model.device import gpu_problem
from raydrgn.remote.allocation import Allocation, Cluster, Size, Wanted, allocate
from raydrgn.remote.node_answers import reachable
from raydrgn.remote.reservation import Reservation, ask_for_room, read_cluster, reserve
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import SPARE_RESOURCE

log = logging.getLogger(__name__)

STABLE_SECONDS = 3.0
"""Time for which the room must stay the same: what has ended gives its resources back in parts."""

FIRST_MESSAGE_SECONDS = 10.0
WAITING_MESSAGE_SECONDS = 60.0

GROWTH_SECONDS = 10.0
"""Time between two looks for more room; it must be there at both of two."""


def first_share(
    resources: Resources, wanted: Wanted, *, wait_seconds: float | None = None
) -> Reservation:
    """Keep room for the smallest number of workers, and return it with the largest number.

    Waits for the room, or refuses it, as other commands do for theirs. CPUs and GPUs are divided by
    the largest number that the cluster can hold, unless they are given.

    Args:
        resources: What the run asks for.
        wanted: What the smallest number of workers asks for.
        wait_seconds: How long to wait; None waits without limit.

    Raises:
        ClusterError: If the cluster can never hold the smallest number, has not made room in time,
            or has GPUs that cannot be used.
    """
    if not resources.is_elastic:
        return reserve(wanted, wait_seconds=wait_seconds, gpu_problem=gpu_problem)
    share = share_of_range(resources, wanted, read_cluster())
    fewest = replace(wanted.resources, cpus=share.cpus, gpus=share.gpus)
    reservation = reserve(
        replace(wanted, resources=fewest), wait_seconds=wait_seconds, gpu_problem=gpu_problem
    )
    return replace(reservation, allocation=share)


def share_of_range(resources: Resources, wanted: Wanted, cluster: Cluster) -> Allocation:
    """Return what each worker of a range gets, and how many there may be at most.

    Raises:
        ClusterError: If the cluster can never hold the smallest number.
    """
    places, gpus = cluster.whole, max(resources.gpus, 0.0)
    if resources.gpus < 0 and any(size.gpus for size in places.all_sizes()):
        gpus = 1.0
    room = places.room_for(Size(resources.cpus or 1, gpus))
    number = min(max(room, resources.fewest), resources.num_workers)
    together = replace(resources, num_workers=number, min_workers=0)
    share = allocate(replace(wanted, resources=together), cluster)
    return replace(share, num_workers=resources.num_workers)


def workers_that_fit(free: Iterable[Size], share: Allocation) -> int:
    """Return how many workers fit on nodes, given what is free on each."""
    return sum(node.room_for(share.worker) for node in free)


def free_on_nodes() -> list[Size]:
    """Return what is free on each node that answers and is not to be preempted.

    Ray finds out only after half a minute that a machine is gone.
    """
    state = ray._private.state.state
    free, draining = state.available_resources_per_node(), state.get_draining_nodes()
    nodes = [
        node
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] in free and node["NodeID"] not in draining
    ]
    return [_without_spare(free[node["NodeID"]]) for node in reachable(nodes)]


def is_draining(node_id: str) -> bool:
    """Return whether a node is to be preempted."""
    return node_id in ray._private.state.state.get_draining_nodes()


def wait_for_room(
    share: Allocation,
    *,
    fewest: int,
    is_stopping: threading.Event,
    report: Callable[[str], None],
) -> Allocation | None:
    """Wait until there is room for enough workers, and return as many as there is room for.

    Where there is not enough, Ray is asked for it, so that an autoscaler adds nodes; what it then
    finds is given back at once, and counted like everything that is free.

    Args:
        share: What each worker gets, and how many there may be at most.
        fewest: Workers to wait for.
        is_stopping: Ends the waiting.
        report: Called each minute with what is waited for.

    Returns:
        None if the waiting was ended.
    """
    since = time.monotonic()
    due, before = since + FIRST_MESSAGE_SECONDS, -1
    asked: Reservation | None = None
    try:
        while not is_stopping.is_set():
            if asked is not None and asked.is_there:
                asked.release()
                asked, before = None, -1
            room = min(workers_that_fit(free_on_nodes(), share), share.num_workers)
            now = time.monotonic()
            if room != before:
                before, since = room, now
            is_stable = now - since >= STABLE_SECONDS
            if room == share.num_workers or (room >= fewest and is_stable):
                return replace(share, num_workers=room)
            if room < fewest and is_stable and asked is None:
                asked = ask_for_room(replace(share, num_workers=fewest))
            if now >= due:
                due = now + WAITING_MESSAGE_SECONDS
                report(
                    f"waiting for room for {workers_in_words(fewest)} with {share.worker}"
                    f"{' each' if fewest > 1 else ''}: there is room for {room}"
                )
            is_stopping.wait(0.5)
    finally:
        if asked is not None:
            asked.release()
    return None


def workers_in_words(number: int) -> str:
    """Return a number of workers: ``1 worker``."""
    return f"{number} worker{'s' * (number != 1)}"


class GrowthWatch:
    """Sees when there is room for more workers than there are, and has an autoscaler make it."""

    def __init__(self, share: Allocation) -> None:
        self._share = share
        self._next = 0.0
        self._seen = 0
        self._asked: list[Reservation] = []

    def room_for_more(self, num_workers: int) -> int:
        """Return for how many workers there is room if that is more than now, else 0.

        Args:
            num_workers: Workers that there are; they hold what they need.
        """
        now = time.monotonic()
        if num_workers >= self._share.num_workers:
            self.close()
            return 0
        if now < self._next:
            return 0
        self._next = now + GROWTH_SECONDS
        self._give_back(lambda reservation: reservation.is_there)
        more = workers_that_fit(free_on_nodes(), self._share)
        self._ask(num_workers + more)
        room = min(num_workers + more, self._share.num_workers) if more else 0
        stable, self._seen = min(room, self._seen), room
        return stable if stable > num_workers else 0

    def close(self) -> None:
        """Ask for no more room."""
        self._give_back(lambda reservation: True)

    def _ask(self, num_workers: int) -> None:
        """Ask Ray for room for further workers, each by itself, if an autoscaler may add nodes.

        On a cluster of fixed size it would take room from commands that wait for their turn.
        """
        try:
            cluster = read_cluster()
        except (ClusterError, ray.exceptions.RayError) as error:  # training goes on as it is
            log.debug("no room is asked for: %s", error)
            return
        if not cluster.types:
            return
        most = min(cluster.whole.room_for(self._share.worker), self._share.num_workers)
        one = replace(self._share, num_workers=1)
        while num_workers + len(self._asked) < most:
            self._asked.append(ask_for_room(one))

    def _give_back(self, chosen: Callable[[Reservation], bool]) -> None:
        for reservation in [one for one in self._asked if chosen(one)]:
            reservation.release()
            self._asked.remove(reservation)


def _without_spare(free: Mapping[str, float]) -> Size:
    """Return what is free for workers, also of a Ray that a command has started for itself."""
    cpus = free.get("CPU", 0.0) - free.get(SPARE_RESOURCE, 0.0)
    return Size(cpus, free.get("GPU", 0.0))
