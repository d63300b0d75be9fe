"""Prepared particles that several runs share: read and prepared once on each node."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydrgn.data.node_shard import NodeShard, PreparedRows
from raydrgn.data.store import (
    FileStore,
    MemoryStore,
    ParticleStore,
    choose_store,
    shard_bytes,
)
from raydrgn.remote.reservation import release_groups
from raydrgn.run.config import RunConfig
from raydrgn.shapes import Int
from raydrgn.training.memory import Room
from raydrgn.training.plan import BatchPlan

log = logging.getLogger(__name__)

COPIED_ROWS = 4096

KEEPER_SECONDS = 30.0
"""Time for an answer of the keeper, which may be starting again."""


class ShardKeeper:
    """A plain class, made an actor: knows what runs share, and what each holds of the cluster.

    It has an actor on each node that keeps that node's particles; these, and their files, end with
    it.
    """

    def __init__(self) -> None:
        self._shards: dict[tuple[str, str], Any] = {}
        self._groups: dict[str, set[str]] = {}

    def shard(self, node: str, particles: str) -> Any:
        """Return the actor of a ``NodeShard`` on a node, started if it is not there."""
        if (node, particles) not in self._shards:
            shard_class: Any = ray.remote(NodeShard)
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            self._shards[node, particles] = shard_class.options(
                num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=place
            ).remote()
        return self._shards[node, particles]

    def join(self, run: str, placement_group: str) -> None:
        """Note that a worker of a run is in a placement group."""
        self._groups.setdefault(run, set()).add(placement_group)

    def placement_groups(self, run: str) -> list[str]:
        """Return the placement groups in which a run has had workers."""
        return sorted(self._groups.get(run, ()))


def start_keeper() -> Any:
    """Start the actor of a ``ShardKeeper`` on this node, which is not lost without the command.

    If it is killed, it starts again, and has particles prepared again for the runs that come.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    keeper_class: Any = ray.remote(ShardKeeper)
    return keeper_class.options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    ).remote()


def release(keeper: Any, run: str) -> list[str]:
    """Remove the placement groups that a run has left behind; return them.

    Ray keeps them when the process that asked for them is killed, since the command lives. Where
    the keeper of their names does not answer, nothing is removed: an error of a callback would end
    Tune, and with it the sweep.
    """
    try:
        return release_groups(ray.get(keeper.placement_groups.remote(run), timeout=KEEPER_SECONDS))
    except ray.exceptions.RayError as error:
        log.debug("what %s has left behind is not known: %s", run, error)
        return []


@dataclass(frozen=True, slots=True)
class SharedShards:
    """What the workers of a run know of the particles that it shares."""

    keeper: Any
    """Actor of a ``ShardKeeper``."""

    particles: str
    """Which particles, prepared in which way: the same text for the same coefficients."""

    run: str
    """Name of the run among those that share."""

    def join(self) -> None:
        """Tell the keeper where this worker is."""
        group = ray.util.get_current_placement_group()
        if group is not None:
            ray.get(self.keeper.join.remote(self.run, group.id.hex()))

    def store(
        self,
        table: Any,
        config: RunConfig,
        plan: BatchPlan,
        device: torch.device,
        room: Room,
        *,
        progress: Callable[[int], None] | None,
    ) -> tuple[ParticleStore, Int[np.ndarray, " bad"]]:
        """Return this worker's particles, and the numbers of bad images among them.

        They stay in the file of the node, which is in its memory as far as there is room, or are
        copied to a GPU that has room.

        Args:
            table: Reference to the whole table.
            config: Of the run.
            plan: Which rows are this worker's.
            device: Where it computes.
            room: Of the worker.
            progress: Called, elsewhere, with how many of this worker's particles are there.
        """
        node = ray.get_runtime_context().get_node_id()
        shard = ray.get(self.keeper.shard.remote(node, self.particles))
        start, stop = plan.rows
        found: PreparedRows = ray.get(
            shard.prepare.remote(table, config.data, start, stop, progress)
        )
        shape, precision = (stop - start, plan.num_points, 2), config.data.precision
        # Without a buffer: what is read by position must not be read ahead.
        file = open(found.path, "rb", buffering=0)  # noqa: SIM115
        shared = FileStore(shape, precision, file, first_row=start)
        kind = config.resources.shard_store
        if kind == "auto":
            size = shard_bytes(shape, precision)
            kind = choose_store(size, device, room.sharing, reserved=room.reserved)
        if kind != "device":
            return shared, found.bad - start
        copy = MemoryStore(shape, precision, device)
        for rows in torch.arange(stop - start).split(COPIED_ROWS):
            copy.write(rows.numpy(), shared.read(rows).numpy())
        return copy, found.bad - start
