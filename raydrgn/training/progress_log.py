"""How far training is: as a row of numbers, as gauges, on the screen, and as a line of run.log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from raydrgn.remote import metrics
from raydrgn.remote.progress import Progress
from raydrgn.run.config import RunConfig
from raydrgn.training.prepare_run import PreparedRun

Phase = Literal["reading", "pretraining"]

PHASES: dict[Phase, tuple[str, str]] = {
    "reading": ("reading particles", "particles"),
    "pretraining": ("pre-training the encoder", "steps"),
}
"""What is shown of each kind of work before the first epoch, and its unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainProgress:
    """How far a run is; losses are means over the particles since the last row, or the epoch."""

    epoch: int
    step: int
    particles: int
    """Particles done in this epoch, over all workers."""

    total: float | None
    reconstruction: float | None
    kl: float | None
    """None where they are known at the end of an epoch only."""

    learning_rate: float | None
    """None where there is no optimiser."""

    rate: float
    """Particles per second over all workers, since the last row."""

    seconds: float
    """Since the loop began."""

    done: bool = False
    """Whether the epoch is finished, and the losses are means over it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseProgress:
    """How far the work before the first epoch is."""

    phase: Phase
    done: int
    of: int


def log_line(progress: TrainProgress, *, epochs: int, num_particles: int) -> str:
    """Return the line of run.log: epoch, particles done, losses, learning rate and speed."""
    done = (
        "finished, mean over the epoch"
        if progress.done
        else f"{progress.particles:,}/{num_particles:,} particles"
    )
    values = [
        f"{name} {value:{form}}"
        for name, value, form in (
            ("loss", progress.total, ".6f"),
            ("reconstruction", progress.reconstruction, ".6f"),
            ("KL", progress.kl, ".4f"),
            ("learning rate", progress.learning_rate, ".2e"),
        )
        if value is not None
    ]
    speed = f"{progress.rate:,.0f} particles/s"
    return f"epoch {progress.epoch}/{epochs}: {done}: {', '.join([*values, speed])}"


def training_gauges(row: Mapping[str, Any], epochs: int, num_particles: int) -> dict[str, float]:
    """Return a row of ``TrainProgress`` by the names of ``raydrgn.remote.metrics``."""
    left = (epochs - row["epoch"] + 1) * num_particles - row["particles"]
    gauges = {
        "epoch": row["epoch"],
        "epochs": epochs,
        "particles": num_particles,
        "particles_per_second": row["rate"],
        "loss": row["total"],
        "reconstruction_loss": row["reconstruction"],
        "kl_divergence": row["kl"],
        "learning_rate": row["learning_rate"],
        "time_left_seconds": left / row["rate"] if row["rate"] else float("nan"),
    }
    return {name: value for name, value in gauges.items() if value is not None}


def show_progress(progress: Progress, run: PreparedRun, row: Mapping[str, Any]) -> None:
    """Report the work before the first epoch, or particles trained on, here and as gauges.

    Args:
        progress: What to report to.
        run: What is trained.
        row: Fields of a ``TrainProgress``, or of a ``PhaseProgress`` before the first epoch.
    """
    if "phase" in row:
        what, unit = PHASES[row["phase"]]
        progress(what, row["done"], row["of"], unit=unit)
        return
    num_particles, epochs = len(run.table), run.config.train.epochs
    losses = [] if row["total"] is None else [f"loss {row['total']:.4f} KL {row['kl']:.2f}"]
    metrics.record(training_gauges(row, epochs, num_particles), run=run.root)
    progress(
        "training",
        (row["epoch"] - 1) * num_particles + row["particles"],
        epochs * num_particles,
        unit="particles",
        rate=row["rate"],
        extra=" ".join([f"epoch {row['epoch']}/{epochs}", *losses]),
    )


def stop_message(config: RunConfig) -> str:
    """Return what is logged where Ctrl-C asks a training to stop."""
    when = "at the end of this pass over the particles" if config.mfa else "shortly"
    return f"stopping {when}, with a checkpoint; press Ctrl-C again to end now"
