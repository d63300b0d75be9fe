"""The whole training path against the bare step: simulation, Ray Train, run directory."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from raydrgn.bench import step
from raydrgn.bench.own_process import in_own_process
from raydrgn.bench.settings import TrainingSettings
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.device import default_device
from raydrgn.remote.progress import Progress, silent
from raydrgn.remote.session import connected
from raydrgn.remote.sigterm import sigterm_as_interrupt
from raydrgn.run.config import RunConfig, parse_assignment
from raydrgn.run.directory import RunDirectory
from raydrgn.run.metrics import epoch_rows
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training import prepare_run

EPOCHS = 3
PATH_EPOCHS = 2
"""Of the whole path alone, whose epochs are long; the rate is that of the second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PathRate:
    """Rates of the whole path and of its step."""

    particles_per_s: float
    """After the first epoch; latents and checkpoints of each epoch included."""

    step: step.StepRate
    share_of_step: float


def run(settings: TrainingSettings, *, progress: Progress = silent) -> PathRate:
    """Train on a simulated stack through Ray, and time the bare step before and after.

    Raises:
        RaydrgnError: If a setting of the network or of the training is not possible.
    """
    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as folder:
        run = _prepared(settings, folder, root=str(Path(folder, "run")), epochs=EPOCHS)
        before = _bare_step(run.config)
        rate = _rate(run, settings, progress)
        after = _bare_step(run.config)
    bare = mean(r.best_per_s for r in (before, after))
    return PathRate(particles_per_s=rate, step=after, share_of_step=rate / bare)


def path_rate(settings: TrainingSettings, folder: str, *, times: int = 1) -> float:
    """Return the particles per second of the whole path alone, in its second epoch.

    The first one has the start of the workers and the capture of the step.

    Args:
        settings: Of the network and its training.
        folder: Where the simulated stack is, or is written first.
        times: How often each image of the stack is listed, so that an epoch is long enough.
    """
    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as own:
        root = str(Path(own, "run"))
        run = _prepared(settings, folder, root=root, epochs=PATH_EPOCHS, times=times)
        return _rate(run, settings, silent)


def _prepared(
    settings: TrainingSettings, folder: str, *, root: str, epochs: int, times: int = 1
) -> prepare_run.PreparedRun:
    """Return the run of the benchmark on a stack that is simulated if it is not there."""
    values: dict[str, Any] = {
        "model.encoder_width": settings.width,
        "model.decoder_width": settings.width,
        "model.encoder_layers": settings.layers,
        "model.decoder_layers": settings.layers,
        "train.batch_size": settings.batch_size,
        "resources.num_workers": settings.workers,
        **dict(map(parse_assignment, settings.assignments)),
        "train.epochs": epochs,
    }
    star = Path(folder, "particles.star")
    if not star.exists():
        simulation = Simulation(num_particles=settings.num_particles, box=settings.box, snr=0.1)
        simulate(folder, simulation)
    if times > 1:
        lines = star.read_text().splitlines()
        images = [line for line in lines if "@" in line]
        head = [line for line in lines if "@" not in line]
        star = star.with_name(f"{times}-times.star")
        star.write_text("\n".join([*head, *images * times, ""]))
    source = ParticleSource(particles=str(star))
    return prepare_run.begin(
        prepare_run.RunRequest(root=root, source=source, recipe="protocol", values=values)
    )


def _rate(run: prepare_run.PreparedRun, settings: TrainingSettings, progress: Progress) -> float:
    """Train through Ray; return the particles per second after the first epoch.

    Raises:
        KeyboardInterrupt: If training was stopped by Ctrl-C or SIGTERM, which the trainer takes as
            a request to keep a checkpoint.
    """
    with connected(settings.address):
        from raydrgn.training import trainer

        with sigterm_as_interrupt():  # again: Ray's start takes the signal for itself
            result = trainer.train(run, progress=progress)
    if result.stopped:
        raise KeyboardInterrupt
    rows = epoch_rows(RunDirectory(run.root).metrics)
    return mean(row["rate"] for row in rows[1:])


def _bare_step(config: RunConfig) -> step.StepRate:
    """Time the bare step; on a GPU in a process of its own, after which the workers have it."""
    device = default_device() if config.resources.gpus else torch.device("cpu")
    measure = partial(
        step.measure,
        config.model,
        config.train,
        box=config.data.box,
        device=device,
        with_compiled=device.type == "cuda",
    )
    return measure() if device.type == "cpu" else in_own_process(measure)
