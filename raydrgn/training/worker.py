"""What Ray Train runs on each worker: preparation, loop, end.

Everything that decides the result comes in through the job; nothing is read from the driver's
globals. Weights, latents and checkpoints leave through the run's writer only.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch
from torch import distributed

from raydrgn.data.ingest import PreparedBlock, bad_images_message, prepared_blocks
from raydrgn.data.pipeline import stream_prepared
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import Sharing
from raydrgn.errors import ClusterError, InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.model.device import gpu_problem
from raydrgn.run.config import RunConfig
from raydrgn.training.actor_sink import ActorSink
from raydrgn.training.actors import call_actor
from raydrgn.training.assembly import batch_plan, make_loop, own_store, resume, use_threads
from raydrgn.training.collectives import WorkerGroup
from raydrgn.training.failures import final_failure, raised_by_actor
from raydrgn.training.memory import Room
from raydrgn.training.plan import BatchPlan
from raydrgn.training.progress_log import PhaseProgress
from raydrgn.training.sharing import SharedShards
from raydrgn.training.worker_group import begin_together


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """What every worker of a run is given."""

    root: Uri
    """Run directory."""

    config: dict[str, Any]
    """``RunConfig`` as plain values."""

    table: Any
    """Reference to the particle table in the object store."""

    cpus: int
    """CPU cores of each worker."""

    gpus: float
    """GPUs of each worker; a fraction is a part of one."""

    use_ray_data: bool
    """Whether tasks all over the cluster prepare the particles, or each worker its own."""

    writer: Any
    """Actor of the run's ``RunWriter``."""

    board: Any
    """Actor of the run's ``ProgressBoard``."""

    attempt: int = 0
    """Number of the attempt, from 1, at training the run to its end."""

    shards: SharedShards | None = None
    """Prepared particles that this run shares with others; None if it shares none."""


def train_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Fit the model on this worker's share of the particles.

    A failure that would come again is raised as an error of our own; anything else is a lost peer.

    Returns:
        ``finished``, whether the last epoch is done.
    """
    parts = TrainingJob(**job)
    group = ray.util.get_current_placement_group()
    if group is not None:
        ray.get(parts.board.hold.remote(group.id.hex()))
    use_threads(parts.cpus)
    try:
        with raised_by_actor():
            if begin_together(ray.get(parts.board.is_stopping.remote(parts.attempt))):
                return {"finished": False}
            return {"finished": _train(parts)}
    except Exception as error:
        final = final_failure(error)
        if final is None:
            raise
        raise final from None


def _train(job: TrainingJob) -> bool:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if job.shards is not None:
        job.shards.join()
    device = _device(job)
    config = RunConfig.from_dict(job.config)
    sharing = Sharing.of_worker(gpus=job.gpus, on_host=context.get_local_world_size())
    room = Room.of(config, device, sharing)
    table = ParticleTable(ray.get(job.table))
    plan = batch_plan(config, len(table), rank=rank, world=world)
    shard = _fill_shard(job, config, table.slice_rows(*plan.rows), plan, device, room)
    sink = ActorSink(job.writer, job.board, attempt=job.attempt)
    loop = make_loop(config, plan, shard, device, sink, room=room)
    start = resume(loop, config, plan, writer=job.writer, call=call_actor, note=sink.note)
    finished = loop.run(start)
    sink.flush()
    WorkerGroup().all_of(None)  # all latents are on disk
    if finished and rank == 0:
        ray.get(job.writer.finish.remote(config.train.epochs))
    return finished


def _device(job: TrainingJob) -> torch.device:
    """Return where this worker computes.

    Raises:
        ClusterError: If torch cannot use the GPU that it was given: its node may have joined the
            cluster after those there were asked.
    """
    problem = gpu_problem() if job.gpus else None
    if problem is not None:
        raise ClusterError(problem)
    return ray.train.torch.get_device()


def _fill_shard(
    job: TrainingJob,
    config: RunConfig,
    table: ParticleTable,
    plan: BatchPlan,
    device: torch.device,
    room: Room,
) -> ResidentShard:
    """Have this worker's particles prepared in its store; refuse bad images in words."""
    report = partial(_report_reading, job.board, job.attempt, plan) if not plan.rank else None
    if job.shards is not None:
        store, bad_rows = job.shards.store(job.table, config, plan, device, room, progress=report)
    else:
        blocks: Iterator[PreparedBlock] = (
            stream_prepared(table, config.data)
            if job.use_ray_data
            else prepared_blocks(table, config.data)
        )
        store, bad_rows = own_store(
            config,
            plan,
            device,
            blocks,
            run=job.root,
            room=room,
            progress=report or _ignore,
        )
    bad = table.select(bad_rows)
    everyone = [bad]
    if plan.world > 1:
        everyone = [bad] * plan.world
        distributed.all_gather_object(everyone, bad)
    found = ParticleTable(pa.concat_tables([part.table for part in everyone]))
    if len(found):
        raise InputError(bad_images_message(found))
    return ResidentShard(
        table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=device
    )


def _report_reading(board: Any, attempt: int, plan: BatchPlan, done: int) -> None:
    """Show on the board how many particles are read, if all workers are as far as this one."""
    start, stop = plan.rows
    total = plan.num_particles
    reading = PhaseProgress(phase="reading", done=done * total // (stop - start), of=total)
    board.update.remote(asdict(reading), attempt=attempt)


def _ignore(done: int) -> None:
    """Report nothing: the first worker does."""
