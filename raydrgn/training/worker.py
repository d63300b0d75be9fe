"""What Ray Train runs on each worker: preparation, loop, end.

Everything that decides the result comes in through the job; nothing is read from the driver's
globals. Weights, latents and checkpoints leave through the run's writer only.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from torch import distributed, nn

from raydrgn.data.ingest import (
    PreparedBlock,
    bad_images_message,
    fill_store,
    prepared_blocks,
)
from raydrgn.data.pipeline import stream_prepared
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import ParticleStore, make_store, shard_bytes
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.remote import metrics
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import Position
from raydrgn.shapes import Int
from raydrgn.training.em_loop import EmLoop
from raydrgn.training.failures import final_failure, raised_by_actor
from raydrgn.training.loop import TrainingLoop
from raydrgn.training.plan import BatchPlan
from raydrgn.training.sharing import SharedShards
from raydrgn.training.sinks import ActorSink
from raydrgn.training.step import SliceLattice

log = logging.getLogger(__name__)


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
    if ray.get(parts.board.is_stopping.remote(parts.attempt)):
        return {"finished": False}
    torch.set_num_threads(parts.cpus)
    try:
        with raised_by_actor():
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
    device = ray.train.torch.get_device()
    config = RunConfig.from_dict(job.config)
    lattice = SliceLattice.of_box(config.data.box, device=device)
    table = ParticleTable(ray.get(job.table))
    plan = BatchPlan(
        num_particles=len(table),
        batch_size=config.largest_batch(len(table)),
        num_points=lattice.num_points,
        points_fraction=config.train.points_fraction,
        seed=config.train.seed,
        rank=rank,
        world=world,
    )
    shard = _fill_shard(job, config, table.slice_rows(*plan.rows), plan, device)
    sink = ActorSink(job.writer, job.board, attempt=job.attempt)
    loop: TrainingLoop | EmLoop
    if config.mfa is None:
        loop = _network_loop(config, lattice, plan, shard, sink)
    else:
        numba.set_num_threads(min(job.cpus, numba.get_num_threads()))
        loop = EmLoop(config, plan=plan, shard=shard, device=device, sink=sink)
    start, lacks_latents = _resume(job, config, loop, sink, rank)
    if lacks_latents:
        loop.encode(start.epoch - 1)
    finished = loop.run(start)
    sink.flush()
    if world > 1:
        distributed.barrier()  # all latents are on disk
    if finished and rank == 0:
        ray.get(job.writer.finish.remote(config.train.epochs))
    return finished


def _network_loop(
    config: RunConfig,
    lattice: SliceLattice,
    plan: BatchPlan,
    shard: ResidentShard,
    sink: ActorSink,
) -> TrainingLoop:
    """Make the autoencoder's network and its loop, the same on every worker."""
    device = lattice.plane.device
    torch.manual_seed(config.train.seed)  # the same weights on every worker
    vae = HeterogeneousVAE(config.model, box=config.data.box, num_pixels=2 * lattice.num_points).to(
        device
    )
    optimiser = torch.optim.Adam(vae.parameters(), fused=True)
    model = ray.train.torch.prepare_model(
        vae,
        move_to_device=False,
        parallel_strategy_kwargs={"broadcast_buffers": False, "gradient_as_bucket_view": True},
    )
    loop = TrainingLoop(
        config.train,
        plan=plan,
        shard=shard,
        vae=vae,
        model=model,
        optimiser=optimiser,
        lattice=lattice,
        sink=sink,
    )
    if plan.world > 1:
        _fix_bucket_order(model, shard, lattice, config.model.zdim)
    return loop


def _fill_shard(
    job: TrainingJob, config: RunConfig, table: ParticleTable, plan: BatchPlan, device: torch.device
) -> ResidentShard:
    """Have this worker's particles prepared in its store; refuse bad images in words."""
    report = partial(_report_reading, job.board, job.attempt, len(table)) if not plan.rank else None
    if job.shards is not None:
        store, bad_rows = job.shards.store(job.table, config, plan, device, progress=report)
    else:
        store, bad_rows = _own_store(job, config, table, plan, device, report or _ignore)
    bad = table.column("index")[bad_rows]
    everyone = [bad]
    if plan.world > 1:
        everyone = [bad] * plan.world
        distributed.all_gather_object(everyone, bad)
    found = np.concatenate(everyone)
    if len(found):
        raise InputError(bad_images_message(found))
    return ResidentShard(
        table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=device
    )


def _report_reading(board: Any, attempt: int, total: int, done: int) -> None:
    """Show on the board how many particles of a worker are read."""
    board.update.remote({"phase": "reading", "done": done, "of": total}, attempt=attempt)


def _ignore(done: int) -> None:
    """Report nothing: the first worker does."""


def _own_store(
    job: TrainingJob,
    config: RunConfig,
    table: ParticleTable,
    plan: BatchPlan,
    device: torch.device,
    progress: Callable[[int], None],
) -> tuple[ParticleStore, Int[np.ndarray, " bad"]]:
    """Read and prepare this worker's particles; return the numbers of bad images among them."""
    shape, precision = (len(table), plan.num_points, 2), config.data.precision
    metrics.record(
        {"shard_bytes": shard_bytes(shape, precision)}, run=job.root, worker=str(plan.rank)
    )
    store = make_store(
        config.resources.shard_store,
        shape,
        precision=precision,
        device=device,
        neighbours=ray.train.get_context().get_local_world_size(),
    )
    blocks: Iterator[PreparedBlock] = (
        stream_prepared(table, config.data)
        if job.use_ray_data
        else prepared_blocks(table, config.data)
    )
    return store, fill_store(store, blocks, progress=progress)


def _fix_bucket_order(
    model: nn.Module, shard: ResidentShard, lattice: SliceLattice, zdim: int
) -> None:
    """Let DistributedDataParallel lay out its buckets before the first step.

    It does so after the first backward pass, which changes the order in which three or more workers
    add gradients. A resumed run must add in the order in which an undisturbed one does.
    """
    rows = torch.arange(min(len(shard), 1))
    for _ in range(2):
        batch = shard.batch(rows)
        noise = torch.zeros(len(batch), zdim, device=lattice.plane.device)
        hartley = batch.coefficients.new_zeros(len(batch), 2 * lattice.num_points)
        out = model(hartley, lattice.plane[:1] @ batch.rotations, noise)
        sum(part.sum() for part in out).backward()
        model.zero_grad(set_to_none=True)


def _resume(
    job: TrainingJob, config: RunConfig, loop: TrainingLoop | EmLoop, sink: ActorSink, rank: int
) -> tuple[Position, bool]:
    """Put the loop where the newest whole checkpoint left it, the same on all workers."""
    found: list[Any] = [None]
    content = None
    if rank == 0:
        latest = ray.get(job.writer.latest_checkpoint.remote())
        for problem in latest.problems:
            sink.note(problem)
        content = latest.content
        position = Checkpoint.from_bytes(content).position if content else Position(1, 0)
        found = [(position, content is not None, latest.lacks_latents)]
    if distributed.is_initialized():
        distributed.broadcast_object_list(found, src=0)
    position, has_checkpoint, lacks_latents = found[0]
    if not has_checkpoint:
        if config.train.load:
            raise RunDirectoryError(
                f"No whole checkpoint is left of this run, which began with {config.train.load}. "
                "Start it again in another -o with the same --load."
            )
        return position, lacks_latents
    if content is None:
        content = ray.get(job.writer.checkpoint_at.remote(position))
    if rank == 0 and position != (1, 0):
        job.writer.log.remote(f"continues from {position}")
    checkpoint = Checkpoint.from_bytes(content)
    if isinstance(loop, TrainingLoop):
        return loop.load(checkpoint), lacks_latents
    estimates = ray.get(job.writer.estimates_at.remote(position))
    return loop.load(checkpoint, estimates), lacks_latents
