"""Training in this process: what the parallel result must equal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raydrgn.data.ingest import prepared_blocks
from raydrgn.data.shard import ResidentShard
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.remote.allocation import Allocation
from raydrgn.run.writer import RunWriter
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.training.assembly import batch_plan, make_loop, own_store, use_threads
from raydrgn.training.em_loop import EmLoop
from raydrgn.training.in_process import train_here
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
    "train.amp": False,  # compared to the rounding of single precision
    "train.batch_size": 8,
    "resources.num_workers": 1,
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

    loop: TrainingLoop | EmLoop
    writer: RunWriter
    plan: BatchPlan
    shard: ResidentShard

    @property
    def vae(self) -> HeterogeneousVAE:
        return self.loop._vae

    @property
    def lattice(self) -> SliceLattice:
        return self.loop._lattice


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
    config = run.config
    use_threads(1)
    plan = batch_plan(config, len(run.table), rank=rank, world=world)
    table = run.table.slice_rows(*plan.rows)
    blocks = prepared_blocks(table, config.data)
    store, _ = own_store(config, plan, CPU, blocks, run=run.root, progress=lambda done: None)
    shard = shard_class(table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=CPU)
    writer = RunWriter(run.root, num_particles=len(run.table))
    loop = make_loop(config, plan, shard, CPU, sink_class(writer, on_progress=on_progress))
    return PlainFit(loop, writer, plan, shard)


def fit(run: PreparedRun) -> None:
    """Train to the end, from the beginning or from the latest checkpoint of the run."""
    assert train_here(run, Allocation(1, cpus=1, gpus=0)).finished


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


def step_losses(loop, plan, count):
    """Take some steps of a loop, over the ends of epochs; return the losses of each."""
    found = []
    for epoch in range(1, 99):
        for of_step in loop._steps.take(epoch, 0, plan.batches(epoch)):
            found.append(of_step.cpu())
            if len(found) == count:
                return torch.stack(found)
    raise AssertionError


def all_weights(vae):
    """Return the weights of a network, one after the other."""
    return torch.cat([p.detach().flatten() for p in vae.parameters()]).cpu()
