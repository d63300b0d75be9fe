"""Training without Ray, made of the same parts: what the parallel result must equal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from raydrgn.data.ingest import fill_store, prepared_blocks
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import make_store
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position
from raydrgn.run.writer import RunWriter
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.training.loop import TrainingLoop
from raydrgn.training.plan import BatchPlan
from raydrgn.training.prepare_run import PreparedRun, RunRequest, begin
from raydrgn.training.sinks import DirectSink
from raydrgn.training.step import SliceLattice

CPU = torch.device("cpu")
SMALL = {
    "model.zdim": 2,
    "model.encoder_width": 16,
    "model.decoder_width": 16,
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "train.batch_size": 8,
    "resources.cpus": 1,
}
"""A network that takes an epoch of 200 images of 16 px in a fraction of a second."""


def small_run(folder: Path, root: Path, *, num_particles: int = 203, **values) -> PreparedRun:
    """Simulate 16-px images, and prepare a small run on them."""
    star = folder / "particles.star"
    if not star.exists():
        simulation = Simulation(num_particles=num_particles, box=16, snr=1.0, seed=5)
        simulate(str(folder), simulation)
    return begin(
        RunRequest(
            root=str(root), source=ParticleSource(particles=str(star)), values={**SMALL, **values}
        )
    )


@dataclass
class PlainFit:
    """The parts of a run on one process."""

    loop: TrainingLoop
    vae: HeterogeneousVAE
    writer: RunWriter
    plan: BatchPlan
    shard: ResidentShard
    lattice: SliceLattice


def assemble(
    run: PreparedRun,
    *,
    on_progress: Callable | None = None,
    sink_class: type[DirectSink] = DirectSink,
    shard_class: type[ResidentShard] = ResidentShard,
    rank: int = 0,
    world: int = 1,
) -> PlainFit:
    """Put the parts of a run together in this process, alone or as a worker of a group."""
    config, lattice = run.config, SliceLattice.of_box(run.config.data.box, device=CPU)
    plan = BatchPlan(
        num_particles=len(run.table),
        batch_size=config.train.batch_size,
        num_points=lattice.num_points,
        points_fraction=config.train.points_fraction,
        seed=config.train.seed,
        rank=rank,
        world=world,
    )
    table = run.table.slice_rows(*plan.rows)
    shape = (len(table), lattice.num_points, 2)
    store = make_store(
        config.resources.shard_store, shape, precision=config.data.precision, device=CPU
    )
    fill_store(store, prepared_blocks(table, config.data))
    shard = shard_class(table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=CPU)
    torch.manual_seed(config.train.seed)
    vae = HeterogeneousVAE(config.model, box=config.data.box, num_pixels=2 * lattice.num_points)
    writer = RunWriter(run.root, num_particles=len(run.table))
    loop = TrainingLoop(
        config.train,
        plan=plan,
        shard=shard,
        vae=vae,
        model=vae if world == 1 else DistributedDataParallel(vae),
        optimiser=torch.optim.Adam(vae.parameters(), fused=True),
        lattice=lattice,
        sink=sink_class(writer, on_progress=on_progress),
    )
    return PlainFit(loop, vae, writer, plan, shard, lattice)


def fit(run: PreparedRun) -> HeterogeneousVAE:
    """Train to the end, from the beginning or from the latest checkpoint of the run."""
    parts = assemble(run)
    if run.initial is not None:
        parts.writer.save_checkpoint(run.initial.to_bytes(), run.initial.position)
    content = parts.writer.latest_checkpoint().content
    start = Position(1, 0) if content is None else parts.loop.load(Checkpoint.from_bytes(content))
    assert parts.loop.run(start)
    parts.writer.finish(run.config.train.epochs)
    return parts.vae


def latents(root: Path, epoch: int) -> np.ndarray:
    """Return the means of an epoch's latents."""
    return read_latents(str(root / f"z.{epoch}.pkl"))[0]


def weights(root: Path, epoch: int) -> dict[str, torch.Tensor]:
    """Return the weights of an epoch."""
    raw = torch.load(root / f"weights.{epoch}.pkl", weights_only=True)
    return raw["model_state_dict"]


def assert_same_run(first: Path, second: Path, epoch: int) -> None:
    """Compare weights and latents of an epoch, bit by bit."""
    np.testing.assert_array_equal(latents(first, epoch), latents(second, epoch))
    theirs = weights(second, epoch)
    for name, tensor in weights(first, epoch).items():
        assert torch.equal(tensor, theirs[name]), name
