"""A mixture of factor analysers fitted in this process, or by a group of processes."""

import tempfile
from pathlib import Path

import numba
import torch
from torch import distributed

import plain
from processes import run_group
from raydrgn.io.particle_source import ParticleSource
from raydrgn.remote.allocation import Allocation
from raydrgn.run.directory import Position
from raydrgn.run.writer import RunWriter
from raydrgn.training.em_loop import EmLoop
from raydrgn.training.in_process import train_here
from raydrgn.training.prepare_run import PreparedRun, RunRequest, begin
from raydrgn.training.sinks import DirectSink

SMALL = {"mfa__components": 4, "mfa__states": 12, "train__epochs": 6, "resources__cpus": 1}
"""A fit that takes seconds."""


def prepare(star: Path, root: Path, *, ind: Path | None = None, **values) -> PreparedRun:
    """Prepare a run on particles; values by ``section.field``, with ``__`` for the dot."""
    given = {name.replace("__", "."): value for name, value in values.items()}
    source = ParticleSource(particles=str(star), ind=str(ind) if ind else None)
    return begin(RunRequest(root=str(root), source=source, method="mfa", values=given))


def assemble(
    run: PreparedRun, *, rank: int = 0, world: int = 1, sink_class: type[DirectSink] = DirectSink
) -> tuple[EmLoop, RunWriter]:
    """Put the parts of a run together in this process, alone or as a worker of a group."""
    parts = plain.assemble(run, rank=rank, world=world, sink_class=sink_class)
    return parts.loop, parts.writer


def fit(run: PreparedRun) -> bool:
    """Fit to the end, from the beginning or from the latest checkpoint; return if it got there."""
    return train_here(run, Allocation(1, cpus=1, gpus=0)).finished


def tensors(root: Path, epoch: int) -> dict[str, torch.Tensor]:
    """Return all tensors of an epoch's model."""
    raw = torch.load(root / f"weights.{epoch}.pkl", weights_only=True)
    return raw["model_state_dict"]


class FirstWrites(DirectSink):
    """Lets rank 0 write the particles of all, since a run has one writer."""

    def save_latents(self, *part):
        for of_rank in self._of_all(part):
            super().save_latents(*of_rank)

    def save_estimates(self, *part):
        for of_rank in self._of_all(part):
            super().save_estimates(*of_rank)

    def _of_all(self, part):
        parts = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, part)
        return parts if distributed.get_rank() == 0 else []


def fit_group(run: PreparedRun, world: int) -> None:
    """Fit a run from the beginning by some processes."""
    with tempfile.TemporaryDirectory() as folder:
        run_group(_worker, world, run, folder, world=world)


def _worker(rank: int, world: int, run: PreparedRun, folder: str) -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
    )
    loop, writer = assemble(run, rank=rank, world=world, sink_class=FirstWrites)
    if rank == 0:
        writer.begin(run.config.to_yaml().encode(), run.table.to_bytes())
    assert loop.run(Position(1, 0))
    distributed.destroy_process_group()
