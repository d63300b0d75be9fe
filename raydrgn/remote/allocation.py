"""What each worker of a command gets, decided by the nodes of a cluster.

Arithmetic on records: no Ray, no clock. A worker runs on one node, so what counts is how many
workers each node can hold, never the totals of the cluster. A node that an autoscaler may add
counts as well. What is asked for is allocated, and begins at once or waits for room; or it is
refused, because the cluster could not hold it even if nothing else ran.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from raydrgn.errors import ClusterError
from raydrgn.remote.resources import Resources
from raydrgn.wording import counted

GPU_STEPS = 10_000
"""Smallest part of a GPU that Ray counts: a ten-thousandth."""

ROUNDING = 1e-6


class Size(NamedTuple):
    """CPUs and GPUs, of a worker or of a node."""

    cpus: float
    gpus: float = 0.0

    def room_for(self, worker: "Size") -> int:
        """Return how many workers of a size fit at a time."""
        by_cpus = math.floor(self.cpus / worker.cpus + ROUNDING)
        if worker.gpus <= 0:
            return max(by_cpus, 0)
        if worker.gpus >= 1:
            by_gpus = math.floor(self.gpus / worker.gpus + ROUNDING)
        else:  # a worker's part lies on one GPU
            whole = math.floor(self.gpus + ROUNDING)
            each = math.floor(1 / worker.gpus + ROUNDING)
            by_gpus = whole * each + math.floor((self.gpus - whole) / worker.gpus + ROUNDING)
        return max(min(by_cpus, by_gpus), 0)

    def __str__(self) -> str:
        parts = [counted(self.gpus, "GPU")] if self.gpus else []
        if self.cpus or not parts:
            parts.append(counted(self.cpus, "CPU"))
        return " and ".join(parts)


NOTHING = Size(0.0)


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is up: what it has for workers, and what of that is free."""

    total: Size
    free: Size


@dataclass(frozen=True, slots=True)
class NodeType:
    """Nodes of one kind that an autoscaler may still add."""

    size: Size
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The nodes of a cluster, and those that its autoscaler may add to them."""

    nodes: tuple[Node, ...]

    types: tuple[NodeType, ...] = ()

    most_added: int | None = None
    """Nodes that may be added in all; None if each type has its own bound only."""

    has_unknown_growth: bool = False
    """Whether there is an autoscaler, and what it may add is not known."""

    is_this_machine: bool = False
    """Whether it is a Ray of this machine alone, for the length of a command."""

    kept: Size = NOTHING
    """What a job keeps for its own command, which the nodes do not have for workers."""

    @property
    def is_idle(self) -> bool:
        """Return whether all that the nodes have is free."""
        return all(node.free.room_for(node.total) for node in self.nodes if node.total.cpus)

    @property
    def free(self) -> "Space":
        """What is free now."""
        return Space([node.free for node in self.nodes])

    @property
    def up(self) -> "Space":
        """All that the nodes have which are up."""
        return Space([node.total for node in self.nodes])

    @property
    def growing(self) -> "Space":
        """What is free now, and what may be added."""
        return Space([node.free for node in self.nodes], self.types, self.most_added)

    @property
    def whole(self) -> "Space":
        """Everything, if nothing else ran and all nodes had been added."""
        return Space([node.total for node in self.nodes], self.types, self.most_added)

    def __str__(self) -> str:
        there = [_nodes(count, size) for size, count in _grouped(n.total for n in self.nodes)]
        if self.is_this_machine:
            return f"this machine ({', '.join(str(node.total) for node in self.nodes)})"
        most = math.inf if self.most_added is None else self.most_added
        added = [_nodes(int(min(t.count, most)), t.size) for t in self.types if t.count and most]
        more = f"; the autoscaler may add {_listed(added)}" if added else ""
        more += f"; this job keeps {self.kept} for its command" if any(self.kept) else ""
        return f"the cluster ({_listed(there) or 'no node with CPUs'}{more})"


@dataclass(frozen=True, slots=True)
class Space:
    """Places for workers: nodes, and nodes that may be added."""

    sizes: Sequence[Size]
    types: Sequence[NodeType] = ()
    most_added: int | None = None

    def room_for(self, worker: Size) -> int:
        """Return how many workers of a size fit at a time."""
        added = [(kind.size.room_for(worker), kind.count) for kind in self.types]
        left = sum(count for _, count in added) if self.most_added is None else self.most_added
        room = sum(size.room_for(worker) for size in self.sizes)
        for each, count in sorted(added, reverse=True):
            room += each * min(count, left)
            left -= min(count, left)
        return room

    def all_sizes(self) -> list[Size]:
        """Return the size of every node, and of every type of node once."""
        return [*self.sizes, *(kind.size for kind in self.types if kind.count)]

    def most_cpus(self, num_workers: int, gpus: float) -> int:
        """Return the most CPUs that each worker can have; 0 if there is no room for them all."""
        largest = max((int(size.cpus + ROUNDING) for size in self.all_sizes()), default=0)
        counts = range(largest, 0, -1)
        return next((c for c in counts if self.room_for(Size(c, gpus)) >= num_workers), 0)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each worker of a command gets of what there is."""

    num_workers: int
    cpus: int
    gpus: float

    @property
    def worker(self) -> Size:
        """What one worker gets."""
        return Size(self.cpus, self.gpus)

    def missing(self, cluster: Cluster) -> str | None:
        """Return what the workers wait for, as a part of a sentence; None if all have room now."""
        number, worker = self.num_workers, self.worker
        free, up = cluster.free.room_for(worker), cluster.up.room_for(worker)
        if free >= number:
            return None
        largest = max((size.room_for(worker) for size in cluster.whole.all_sizes()), default=0)
        if up < number and largest <= 1:
            busy = f", and {up - free} more with other work" if up > free else ""
            return f"{_nodes(number, worker)}: {_there(free)}{busy}"
        wanted = f"{counted(number, 'worker')} with {worker}{' each' if number > 1 else ''}"
        until = " until other work ends" if up >= number else ""
        return f"room for {wanted}: there is room for {free}{until}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a command asks for its workers."""

    resources: Resources

    most_workers: int | None = None
    """Workers that the work can be divided among; bounds a number that is not given."""

    leaves_cpu: bool = False
    """Whether a CPU is left for tasks beside the workers, where their CPUs are not given."""


def allocate(wanted: Wanted, cluster: Cluster) -> Allocation:
    """Allocate CPUs and GPUs to workers.

    Numbers that are given are kept. Of those that are not, the GPUs come first: one for each
    worker if there are any, or a part of one if more workers are asked for than GPUs. Then the
    workers: as many as there are GPUs, or one for each node without GPUs; those that are free, if
    any is, else all; of a cluster at rest, what one node holds. Then the CPUs: what all workers
    can have.

    Raises:
        ClusterError: If the cluster can never hold the workers, with what it can.
    """
    asked = wanted.resources
    gpus = _gpus(asked, cluster)
    number = asked.num_workers or _default_workers(wanted, cluster, gpus)
    cpus = asked.cpus or _cpus(number, gpus, cluster)
    allocation = Allocation(number, cpus or 1, gpus)
    if cluster.whole.room_for(allocation.worker) < number and not cluster.has_unknown_growth:
        raise ClusterError(_refusal(number, allocation.worker, cluster))
    if wanted.leaves_cpu and not asked.cpus and cpus > 1 and not leaves_cpu(allocation, cluster):
        return Allocation(number, cpus - 1, gpus)
    return allocation


def leaves_cpu(allocation: Allocation, cluster: Cluster) -> bool:
    """Return whether a CPU is left for tasks beside the workers."""
    number, worker = allocation.num_workers, allocation.worker
    if cluster.up.room_for(worker) >= number:
        return sum(size.cpus for size in cluster.up.sizes) - number * worker.cpus >= 1
    sizes = cluster.whole.all_sizes()
    return any(size.cpus - size.room_for(worker) * worker.cpus >= 1 for size in sizes)


def fitting(wanted: Wanted, cluster: Cluster) -> Wanted:
    """Return what is asked for, with fewer workers where the cluster cannot hold all; at least one.

    For a command that has begun: what it asked for did fit, before nodes were lost.
    """
    for number in range(wanted.resources.num_workers, 1, -1):
        fewer = replace(wanted, resources=replace(wanted.resources, num_workers=number))
        with suppress(ClusterError):
            allocate(fewer, cluster)
            return fewer
    return replace(wanted, resources=replace(wanted.resources, num_workers=1))


def _gpus(asked: Resources, cluster: Cluster) -> float:
    """Return the GPUs of each worker."""
    if asked.gpus >= 0:
        return asked.gpus
    if not any(size.gpus > 0 for size in cluster.whole.all_sizes()):
        return 0.0
    there = cluster.whole.room_for(Size(asked.cpus or 1, 1.0))
    if there == 0 or asked.num_workers <= there or cluster.has_unknown_growth:
        return 1.0
    return math.floor(GPU_STEPS / math.ceil(asked.num_workers / there)) / GPU_STEPS


def _default_workers(wanted: Wanted, cluster: Cluster, gpus: float) -> int:
    """Return how many workers there are if their number is not given; one at least."""
    cpus = wanted.resources.cpus or 1

    def count(space: Space) -> int:
        if gpus or wanted.resources.cpus:
            return space.room_for(Size(cpus, gpus))
        return _one_per_node(space)

    spaces = [cluster.free, *(Space([kind.size]) for kind in _addable(cluster)), cluster.up]
    found = next((number for space in spaces if (number := count(space))), 1)
    return min(found, wanted.most_workers or found)


def _addable(cluster: Cluster) -> Iterator[NodeType]:
    """Yield the types of which a node may be added, those without GPUs first."""
    if cluster.most_added is None or cluster.most_added > 0:
        kinds = sorted(cluster.types, key=lambda kind: kind.size.gpus)
        yield from (kind for kind in kinds if kind.count)


def _one_per_node(space: Space) -> int:
    """Return the number of nodes that, with one worker each, use most CPUs: of 8 and 2 CPUs, 1."""
    sizes = sorted((int(size.cpus + ROUNDING) for size in space.sizes), reverse=True)
    used = [(number * cpus, number) for number, cpus in enumerate(sizes, start=1) if cpus]
    return max(used, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))[1]


def _cpus(number: int, gpus: float, cluster: Cluster) -> int:
    """Return the CPUs of each worker: of what is free, else of what may be added, else of all."""
    for space in (cluster.free, cluster.growing, cluster.whole):
        if cpus := space.most_cpus(number, gpus):
            return cpus
    return cluster.whole.most_cpus(1, gpus) if cluster.has_unknown_growth else 0


def _refusal(number: int, worker: Size, cluster: Cluster) -> str:
    """Return why workers are refused, and what can be had."""
    room, sizes = cluster.whole.room_for(worker), cluster.whole.all_sizes()
    if room:
        less = ", or give each fewer CPUs with --cpus-per-worker" if worker.cpus > 1 else ""
        return (
            f"{number} workers with {worker} each do not fit on {cluster}: there is room for "
            f"{room}. Use --workers {room} or fewer{less}."
        )
    if cluster.kept.cpus >= 1 and all(size.cpus < 1 for size in sizes):
        return _all_kept(cluster)
    on = cluster if cluster.is_this_machine else f"any node of {cluster}"
    refused = f"A worker with {worker} does not fit on {on}."
    if worker.gpus and not any(size.room_for(Size(1, worker.gpus)) for size in sizes):
        return f"{refused} {_fewer_gpus(sizes)}"
    cpus = max((int(size.cpus) for size in sizes if size.gpus >= worker.gpus), default=0)
    if cpus:
        return f"{refused} Use --cpus-per-worker {cpus} or fewer."
    return f"There are no CPUs for workers on {cluster}. Add nodes to it."


def _all_kept(cluster: Cluster) -> str:
    """Return why there is no room for workers where the job keeps all CPUs for its command."""
    kept = cluster.kept.cpus
    there = kept + sum(size.cpus for size in cluster.up.sizes)
    fewer = max(math.ceil(there) - 1, 0)
    return (
        f"There are no CPUs for workers: this job keeps {kept:g} of the {counted(there, 'CPU')} of "
        f"the cluster for its command. Submit it with raydrgn submit --cpus {fewer}, or with "
        f"entrypoint_num_cpus: {fewer} in its spec; or add nodes."
    )


def _fewer_gpus(sizes: Iterable[Size]) -> str:
    most = max((size.gpus for size in sizes if size.cpus >= 1), default=0.0)
    return f"Use --gpus-per-worker {f'{most:g} or fewer' if most else '0 to compute on CPUs'}."


def _nodes(count: int, size: Size) -> str:
    return f"{counted(count, 'node')} with {size}"


def _there(count: int) -> str:
    return "none is there" if count == 0 else f"{count} {'is' if count == 1 else 'are'} there"


def _grouped(sizes: Iterable[Size]) -> list[tuple[Size, int]]:
    """Return the sizes of nodes with CPUs or GPUs, the most frequent first, and their numbers."""
    return Counter(size for size in sizes if size.cpus or size.gpus).most_common()


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + "".join(parts[-1:])
