"""Room for the workers of a command on the connected cluster: all of them, or none.

A placement group asks for all workers at once, so that two commands that each want everything never
hold a half each, and an autoscaler knows what to start. What is waited for is logged every minute.
"""

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raydrgn.errors import ClusterError
from raydrgn.remote import turn
from raydrgn.remote.allocation import Allocation, Cluster, Node, Size, Wanted, allocate
from raydrgn.remote.autoscaler import Autoscaler, find_autoscaler
from raydrgn.remote.environment import HELD_CPUS, HELD_GPUS
from raydrgn.remote.job_queue import Amount
from raydrgn.remote.node_answers import GpuProblem, check_gpus, check_versions
from raydrgn.remote.resources import cores_here
from raydrgn.remote.session import SPARE_RESOURCE, gpus_here

log = logging.getLogger(__name__)

RELEASE_SECONDS = 3.0
"""Time in which a cluster takes back what a process that has just ended held."""

LOG_SECONDS = 60.0
"""Time between two messages on what is waited for."""

ANSWER_SECONDS = 60.0
"""Time that the head of a cluster has for an answer."""


def this_machine() -> Cluster:
    """Return what a Ray that is started here has for workers."""
    size = Size(cores_here(), float(gpus_here()))
    return Cluster(nodes=(Node(size, size),), is_this_machine=True)


def read_cluster() -> Cluster:
    """Return the nodes of the connected cluster, and those that its autoscaler may add.

    Workers are not given the spare CPUs of a Ray that a command has started, nor what a job keeps
    for its command.
    """
    import ray
    from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply, NodeStatus

    here = ray.get_runtime_context().get_node_id()
    client = ray._private.worker.global_worker.gcs_client
    try:
        answer = client.get_cluster_resource_state(timeout_s=ANSWER_SECONDS)
    except ray.exceptions.RpcError as problem:
        raise ClusterError(
            f"The head of the Ray cluster has not answered for {ANSWER_SECONDS:.0f} s, or no more: "
            f"{problem}. Look whether it runs (ray status)."
        ) from problem
    state = GetClusterResourceStateReply.FromString(answer).cluster_resource_state
    usable = (NodeStatus.RUNNING, NodeStatus.IDLE)
    found = [node for node in state.node_states if node.status in usable]
    nodes = tuple(_node(node, is_here=node.node_id.hex() == here) for node in found)
    if any(SPARE_RESOURCE in node.total_resources for node in found):
        return Cluster(nodes=nodes, is_this_machine=True)
    kept = Size(*_held_by_job())
    head = next((n.node_id.hex() for n in found if turn.HEAD_RESOURCE in n.total_resources), here)
    autoscaler = _autoscaler(head, is_here=head == here)
    if autoscaler is None:
        return Cluster(nodes=nodes, kept=kept)
    types, most = autoscaler.addable(
        (node.ray_node_type_name, _size(node.total_resources))
        for node in found
        if turn.HEAD_RESOURCE not in node.total_resources
    )
    return Cluster(
        nodes=nodes,
        types=types,
        most_added=most,
        has_unknown_growth=not autoscaler.is_known,
        kept=kept,
    )


def _node(state: Any, *, is_here: bool) -> Node:
    total, free = _size(state.total_resources), _size(state.available_resources)
    spare = state.total_resources.get(SPARE_RESOURCE, 0.0)
    cpus, gpus = _held_by_job() if is_here else Amount(0)
    return Node(
        Size(max(total.cpus - spare - cpus, 0.0), max(total.gpus - gpus, 0.0)),
        Size(max(free.cpus - spare, 0.0), free.gpus),
    )


def _size(resources: Any) -> Size:
    return Size(resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def _held_by_job() -> Amount:
    """Return what a job keeps for its command, that is for this process."""
    return Amount(*(float(os.environ.get(variable) or 0) for variable in (HELD_CPUS, HELD_GPUS)))


def _autoscaler(head: str, *, is_here: bool) -> Autoscaler | None:
    """Return the autoscaler of the connected cluster, as its head knows it."""
    import ray
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    client = ray._private.worker.global_worker.gcs_client
    status = GetClusterStatusReply.FromString(client.get_cluster_status())
    reported = client.internal_kv_get(b"__autoscaling_status", None, timeout=10)
    has_reported = bool(reported or status.autoscaling_state.autoscaler_state_version)
    address = ray.get_runtime_context().gcs_address
    if is_here:
        return find_autoscaler(address, has_reported)
    place = NodeAffinitySchedulingStrategy(head, soft=False)
    task: Any = ray.remote(find_autoscaler).options(num_cpus=0, scheduling_strategy=place)
    found: Autoscaler | None = ray.get(task.remote(address, has_reported))
    return found


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for all workers, asked for, and kept until it is released."""

    allocation: Allocation
    group: Any
    """Ray's placement group, with a bundle for each worker."""

    @property
    def place(self) -> Any:
        """Where Ray is to put each worker: into a bundle that no other one is in."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return PlacementGroupSchedulingStrategy(self.group)

    @property
    def is_there(self) -> bool:
        """Whether Ray has the room by now."""
        return bool(self.group.wait(0))

    @property
    def is_lost(self) -> bool:
        """Whether Ray looks for other room, since machines of it were lost."""
        import ray

        return bool(ray.util.placement_group_table(self.group)["state"] == "RESCHEDULING")

    def release(self) -> None:
        """Give the room back."""
        import ray

        if ray.is_initialized():
            ray.util.remove_placement_group(self.group)


def release_groups(names: Iterable[str]) -> list[str]:
    """Give back room whose owner is gone; return the placement groups that still had any.

    Args:
        names: Placement groups, by their hexadecimal numbers.
    """
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import (
        PlacementGroup,
        placement_group_table,
        remove_placement_group,
    )

    left = []
    for name in names:
        group = PlacementGroup(PlacementGroupID.from_hex(name))
        if placement_group_table(group).get("state") not in (None, "REMOVED"):
            remove_placement_group(group)
            left.append(name)
    return left


def check_room(wanted: Wanted, gpu_problem: GpuProblem | None) -> None:
    """Refuse what the connected cluster cannot give, now or later, before work begins.

    Raises:
        ClusterError: If there are too few CPUs or GPUs, GPUs that are up cannot be used, or a node
            has another raydrgn.
    """
    cluster = read_cluster()
    allocation = allocate(wanted, cluster)
    check_versions()
    if allocation.gpus:
        check_gpus(gpu_problem)


def reserve(
    wanted: Wanted,
    *,
    wait_seconds: float | None = None,
    gpu_problem: GpuProblem | None = None,
) -> Reservation:
    """Wait until the connected cluster has room for all workers, and keep it.

    Args:
        wanted: What the workers need.
        wait_seconds: How long to wait; None waits without limit.
        gpu_problem: Asked on each node with GPUs, if workers get any.

    Raises:
        ClusterError: If the cluster can never hold the workers, has not made room in time, has
            GPUs that cannot be used, or a node with another raydrgn.
    """
    _wait_for_turn(wanted, wait_seconds)
    allocation = _allocate_when_released(wanted)
    reservation = ask_for_room(allocation)
    try:
        _wait(reservation, wait_seconds)
        check_versions()
        if allocation.gpus:
            check_gpus(gpu_problem)
    except BaseException:
        reservation.release()
        raise
    if 0 < allocation.gpus < 1 and wanted.resources.gpus < 0:
        log.info(
            "%d workers share the GPUs: %g of one for each", allocation.num_workers, allocation.gpus
        )
    return reservation


def ask_for_room(allocation: Allocation) -> Reservation:
    """Ask Ray, and thereby its autoscaler, for room for all workers; do not wait for it."""
    import ray

    bundle = {"CPU": allocation.cpus, "GPU": allocation.gpus}
    bundle = {name: amount for name, amount in bundle.items() if amount}
    return Reservation(allocation, ray.util.placement_group([bundle] * allocation.num_workers))


def await_room(
    wanted: Wanted,
    *,
    wait_seconds: float | None = None,
    gpu_problem: GpuProblem | None = None,
) -> Allocation:
    """Allocate tasks, and wait until the first of them has room; the others queue in Ray.

    Raises:
        ClusterError: If the cluster can never hold the tasks, has not made room in time, has GPUs
            that cannot be used, or a node with another raydrgn.
    """
    _wait_for_turn(wanted, wait_seconds)
    allocation = _allocate_when_released(wanted)
    check_versions()
    if allocation.gpus:
        check_gpus(gpu_problem)
    one = Allocation(1, allocation.cpus, allocation.gpus)
    if one.missing(read_cluster()) is not None:
        first = ask_for_room(one)
        try:
            _wait(first, wait_seconds)
        finally:
            first.release()
    return allocation


def _wait_for_turn(wanted: Wanted, wait_seconds: float | None) -> None:
    """Wait behind the commands of others that came before, or have a higher priority."""
    cluster = read_cluster()
    if cluster.is_this_machine:
        return
    allocation, there = allocate(wanted, cluster), cluster.up.sizes
    number, held = allocation.num_workers, _held_by_job()
    for_workers = Amount(sum(size.cpus for size in there), sum(size.gpus for size in there))
    can_grow = bool(cluster.types) or cluster.has_unknown_growth
    turn.wait_for_turn(
        workers=Amount(number * allocation.cpus, number * allocation.gpus),
        held=held,
        capacity=None if can_grow else for_workers + held,
        wait_seconds=wait_seconds,
    )


def _allocate_when_released(wanted: Wanted) -> Allocation:
    """Allocate; where less is free than there is, first let what has ended give it back."""
    end = time.monotonic() + RELEASE_SECONDS
    is_given = bool(wanted.resources.num_workers and wanted.resources.cpus)
    while True:
        cluster = read_cluster()
        allocation = allocate(wanted, cluster)
        if is_given or cluster.is_idle or time.monotonic() > end:
            return allocation
        time.sleep(0.1)


def _wait(reservation: Reservation, wait_seconds: float | None) -> None:
    """Wait for the placement group, in steps that Ctrl-C can end, and log what is missing."""
    allocation, began = reservation.allocation, time.monotonic()
    due = began + RELEASE_SECONDS
    while not reservation.group.wait(1):
        now = time.monotonic()
        if wait_seconds is not None and now - began >= wait_seconds:
            raise ClusterError(
                f"Nothing was begun: {_missing(allocation)}, after {wait_seconds:.0f} seconds of "
                "waiting (--wait)."
            )
        if now >= due:
            log.warning("waiting for %s", _missing(allocation))
            due = now + LOG_SECONDS


def _missing(allocation: Allocation) -> str:
    return allocation.missing(read_cluster()) or f"Ray to place workers with {allocation.worker}"
