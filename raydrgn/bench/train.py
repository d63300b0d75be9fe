"""The whole training path against the bare step: simulation, Ray Train, run directory."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from raydrgn.bench import step
from raydrgn.io.particle_source import ParticleSource
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.metrics import epoch_rows
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.training import prepare_run

EPOCHS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class PathRate:
    """Rates of the whole path and of its step."""

    particles_per_s: float
    """After the first epoch; latents and checkpoints of each epoch included."""

    step: step.StepRate
    share_of_step: float


def measure(
    values: Mapping[str, Any],
    *,
    box: int,
    num_particles: int,
    executor: Executor,
    progress: Progress = silent,
) -> PathRate:
    """Train on a simulated stack through Ray, and time the bare step before and after.

    Args:
        values: Settings by ``section.field``.
        box: Edge of the images in pixels.
        num_particles: Particles per epoch.
        executor: Joins Ray, or starts it here.
        progress: Called with the progress of training.
    """
    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as folder:
        simulate(folder, Simulation(num_particles=num_particles, box=box, snr=0.1))
        root = str(Path(folder) / "run")
        source = ParticleSource(particles=str(Path(folder) / "particles.star"))
        request = prepare_run.RunRequest(
            root=root, source=source, recipe="protocol", values={**values, "train.epochs": EPOCHS}
        )
        run = prepare_run.begin(request)
        before = _bare_step(run.config)
        with executor.connected():
            from raydrgn.training import trainer

            trainer.train(run, progress=progress)
        after = _bare_step(run.config)
        rows = epoch_rows(RunDirectory(root).metrics)
    rate = mean(row["rate"] for row in rows[1:])
    bare = mean(r.particles_per_s for r in (before, after))
    return PathRate(particles_per_s=rate, step=after, share_of_step=rate / bare)


def _bare_step(config: RunConfig) -> step.StepRate:
    gpu = torch.cuda.is_available() and config.resources.gpus != 0
    device = torch.device("cuda" if gpu else "cpu")
    return step.measure(config.model, config.train, box=config.data.box, device=device)
