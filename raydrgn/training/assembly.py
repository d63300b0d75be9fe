"""The parts of a fit put together: the same for a worker of Ray Train and for this process alone.

What the writer of the run does is asked through a ``WriterCall``: the writer is an actor there, and
a plain object here.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from raydrgn.data.ingest import PreparedBlock, fill_store
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import ALONE, ParticleStore, Sharing, make_store, shard_bytes
from raydrgn.errors import RunDirectoryError
from raydrgn.geometry.lattice import half_disc
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.remote import metrics
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import Position
from raydrgn.shapes import Int
from raydrgn.training.em_loop import EmLoop
from raydrgn.training.loop import Sink, TrainingLoop
from raydrgn.training.memory import WHOLE_MACHINE, Room
from raydrgn.training.optimiser import make_optimiser
from raydrgn.training.plan import BatchPlan
from raydrgn.training.schedule import RateSchedule
from raydrgn.training.step import SliceLattice, TrainStep, choose_amp_dtype
from raydrgn.training.steps import FixedSteps, PlainSteps, Steps

log = logging.getLogger(__name__)

WriterCall = Callable[..., Any]
"""Calls a method of a run's writer with arguments, and returns what it returned."""


def use_threads(cpus: int) -> None:
    """Let this process compute with some threads.

    Of numba too: its OpenMP threads are torch's, and where it has more it sets torch's number.
    """
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(min(cpus, most), 1))
    torch.set_num_threads(max(cpus, 1))


def keep_threads() -> None:
    """Let numba compute with as many threads as torch from now on.

    It sets torch's number when it is first used, so that what is added up after it, and to the bit
    the results, would depend on what this process has computed before.
    """
    use_threads(torch.get_num_threads())


def batch_plan(
    config: RunConfig, num_particles: int, *, rank: int = 0, world: int = 1
) -> BatchPlan:
    """Return which particles, noise and points a worker takes."""
    return BatchPlan(
        num_particles=num_particles,
        batch_size=config.largest_batch(num_particles),
        num_points=len(half_disc(config.data.box)),
        points_fraction=config.train.points_fraction,
        seed=config.train.seed,
        rank=rank,
        world=world,
    )


def own_store(
    config: RunConfig,
    plan: BatchPlan,
    device: torch.device,
    blocks: Iterator[PreparedBlock],
    *,
    run: str,
    room: Room = WHOLE_MACHINE,
    progress: Callable[[int], None],
) -> tuple[ParticleStore, Int[np.ndarray, " bad"]]:
    """Keep a worker's prepared particles; return the numbers of bad images among them.

    Args:
        config: Of the run.
        plan: Which particles are the worker's.
        device: Where it computes.
        blocks: The prepared particles.
        run: Run directory, for the metrics.
        room: Of the worker.
        progress: Called with how many particles are there.
    """
    first, last = plan.rows
    shape, precision = (last - first, plan.num_points, 2), config.data.precision
    metrics.record({"shard_bytes": shard_bytes(shape, precision)}, run=run, worker=str(plan.rank))
    store = make_store(
        config.resources.shard_store,
        shape,
        precision=precision,
        device=device,
        sharing=room.sharing,
        reserved=room.reserved,
    )
    return store, fill_store(store, blocks, progress=progress)


def make_loop(
    config: RunConfig,
    plan: BatchPlan,
    shard: ResidentShard,
    device: torch.device,
    sink: Sink,
    *,
    room: Room = WHOLE_MACHINE,
) -> TrainingLoop | EmLoop:
    """Make what is fitted, the same on every worker, and its loop.

    Several workers must be in a process group of torch.
    """
    if config.mfa is not None:
        note = room.note()
        if note is not None and plan.rank == 0:
            sink.note(note)
        return EmLoop(
            config, plan=plan, shard=shard, device=device, sink=sink, grid_file=room.grid_file
        )
    if plan.rank == 0 and choose_amp_dtype(device, amp=config.train.amp) is not None:
        sink.log("matrix products in bfloat16")
    parts = make_steps(
        config,
        plan,
        shard,
        device,
        sharing=room.sharing,
        note=sink.note if plan.rank == 0 else log.info,
    )
    return TrainingLoop(
        config,
        plan=plan,
        shard=shard,
        vae=parts.vae,
        steps=parts.steps,
        optimiser=parts.optimiser,
        lattice=parts.lattice,
        sink=sink,
    )


class StepParts(NamedTuple):
    """A network, and what moves its weights."""

    vae: HeterogeneousVAE
    optimiser: torch.optim.Optimizer
    lattice: SliceLattice
    steps: Steps


def make_steps(
    config: RunConfig,
    plan: BatchPlan,
    shard: ResidentShard,
    device: torch.device,
    *,
    sharing: Sharing = ALONE,
    note: Callable[[str], None] = log.info,
) -> StepParts:
    """Make a network with its first weights, and its steps as a device takes them.

    Args:
        config: Of the run.
        plan: Of the worker.
        shard: Its particles.
        device: Where it computes.
        sharing: Its share of the memory.
        note: Called with what the user should know.
    """
    lattice = SliceLattice.of_box(config.data.box, device=device)
    torch.manual_seed(config.train.seed)  # the same weights on every worker
    vae = HeterogeneousVAE(config.model, box=config.data.box, num_pixels=2 * lattice.num_points).to(
        device
    )
    if config.train.init:
        vae.encoder.requires_grad_(False)  # frozen after training.pretraining
    steps: Steps
    if device.type == "cpu" and config.resources.compile != "on":
        optimiser = make_optimiser(vae.parameters())
        train_step = TrainStep(
            _parallel(vae, plan, shard, lattice),
            optimiser,
            lattice,
            beta=config.train.kl_weight(config.model.zdim),
            amp=config.train.amp,
            world=plan.world,
        )
        rate = RateSchedule.of(config, plan)
        steps = PlainSteps(train_step, plan, shard, zdim=config.model.zdim, rate=rate)
    else:
        optimiser = make_optimiser(vae.parameters(), rate=torch.zeros((), device=device))
        steps = FixedSteps(
            config,
            plan=plan,
            shard=shard,
            vae=vae,
            optimiser=optimiser,
            lattice=lattice,
            sharing=sharing,
            note=note,
        )
    return StepParts(vae, optimiser, lattice, steps)


def resume(
    loop: TrainingLoop | EmLoop,
    config: RunConfig,
    plan: BatchPlan,
    *,
    writer: Any,
    call: WriterCall,
    note: Callable[[str], None],
) -> Position:
    """Put a loop where the newest whole checkpoint left it, the same on all workers.

    The loop of a new run whose encoder is pre-trained is given the latents for that. Latents that
    are still to be made of the epoch before are made.

    Args:
        loop: New.
        config: Of the run.
        plan: Of this worker.
        writer: Of the run.
        call: Calls a method of it.
        note: Called by the first worker with each reason why a newer checkpoint is not used.

    Raises:
        RunDirectoryError: If no checkpoint is left of a run that began with another one.
    """
    found: list[Any] = [None]
    content = None
    if plan.rank == 0:
        latest = call(writer.latest_checkpoint)
        for problem in latest.problems:
            note(problem)
        content = latest.content
        position = Checkpoint.from_bytes(content).position if content else Position(1, 0)
        found = [(position, content is not None, latest.lacks_latents)]
    if plan.world > 1:
        distributed.broadcast_object_list(found, src=0)
    position, has_checkpoint, lacks_latents = found[0]
    if has_checkpoint:
        if plan.rank == 0 and position != (1, 0):
            call(writer.log, f"continues from {position}")
        checkpoint = Checkpoint.from_bytes(content or call(writer.checkpoint_at, position))
        if isinstance(loop, TrainingLoop):
            loop.load(checkpoint)
        else:
            loop.load(checkpoint, call(writer.estimates_at, position))
    elif began_with := config.train.load or config.train.init:
        targets = call(writer.targets, *plan.rows)
        if targets is None:
            raise RunDirectoryError(
                f"No whole checkpoint is left of this run, which began with {began_with}. Start it "
                "again from there, with another -o."
            )
        assert isinstance(loop, TrainingLoop)
        loop.begin_with(targets)
    if lacks_latents:
        loop.encode(position.epoch - 1)
    return position


def _parallel(
    vae: HeterogeneousVAE, plan: BatchPlan, shard: ResidentShard, lattice: SliceLattice
) -> nn.Module:
    """Return the network, wrapped for several workers if there are, which then share gradients."""
    if plan.world == 1:
        return vae
    model = DistributedDataParallel(vae, broadcast_buffers=False, gradient_as_bucket_view=True)
    _fix_bucket_order(model, shard, lattice, vae.config.zdim)
    return model


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
