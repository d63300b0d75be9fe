"""``demo``: simulate an assembling complex, train on it, and compare with its truth."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import simulate

if TYPE_CHECKING:
    from raydrgn.evaluation.evaluation import Evaluation

log = logging.getLogger(__name__)

PARTICLES, BOX, SNR = 5000, 32, 1.0
EPOCHS, DECODER_WIDTH = 30, 128
MAX_WORKERS = 2

NEXT_COMMANDS = """raydrgn volumes {out}/run -o volumes --particles 0,17,42
raydrgn evaluate {out}/run --truth {out}/data/truth
raydrgn train your_particles.star -o run --zdim 8 --epochs 20"""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Settings of ``demo``."""

    out: Annotated[str, Setting("Folder to write.", flags=("-o", "--out"))] = "demo"

    seed: Annotated[int, Setting("Seed of simulation and training.", min=0)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What ``demo`` made."""

    run: str
    report: str
    """One HTML file with all figures."""

    evaluation: "Evaluation | None"
    """Agreement with the truth; None if the training was stopped before its end."""


def run(
    settings: DemoSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> DemoResult:
    """Simulate, train, evaluate and report; what an earlier call has finished is kept.

    Raises:
        RaydrgnError: If the folder holds something else, or there are too few CPUs.
    """
    from raydrgn.evaluation import evaluation
    from raydrgn.evaluation.report import write_truth_report
    from raydrgn.io import storage
    from raydrgn.run.reader import open_run

    data = storage.absolute(storage.join(settings.out, "data"))
    root = storage.absolute(storage.join(settings.out, "run"))
    report = storage.absolute(storage.join(settings.out, "report.html"))
    truth = storage.join(data, "truth")
    if not _train(data, root, settings.seed, executor, progress):
        return DemoResult(run=root, report=report, evaluation=None)
    opened = open_run(root)
    log.info("3/5 comparing with the truth")
    found = evaluation.evaluate(opened, truth)
    log.info("4/5 decoding a volume of each state")
    rows = [state.particle for state in found.states]
    _write_volumes(root, found.epoch, rows, storage.join(settings.out, "volumes"), progress)
    log.info("5/5 drawing the report")
    write_truth_report(
        report,
        opened,
        truth,
        found,
        title="raydrgn demo: an assembling complex",
        commands=NEXT_COMMANDS.format(out=settings.out),
        progress=lambda done, total: progress("report", done, total, unit="sections"),
    )
    return DemoResult(run=root, report=report, evaluation=found)


def _write_volumes(
    root: str, epoch: int | None, rows: list[int], out: str, progress: Progress
) -> None:
    from raydrgn.workflows import volumes

    volumes.run(
        volumes.VolumesSettings(run=root, out=out, epoch=epoch, particles=",".join(map(str, rows))),
        progress=progress,
    )


def _train(data: str, root: str, seed: int, executor: Executor, progress: Progress) -> bool:
    """Simulate and train, or go on with what is there; return whether training is finished."""
    from raydrgn.io import storage
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.remote.resources import cores_here
    from raydrgn.training import setup

    workers = min(cores_here(), MAX_WORKERS)
    request = setup.RunRequest(
        root=root,
        source=ParticleSource(particles=storage.join(data, "particles.star")),
        values={
            "train.epochs": EPOCHS,
            "train.seed": seed,
            "model.decoder_width": DECODER_WIDTH,
            "resources.num_workers": workers,
        },
    )
    found = setup.find_run(root)
    if found is None:
        log.info("1/5 simulating %d particles of seven states; one is rare, one moves", PARTICLES)
        simulation = Simulation(num_particles=PARTICLES, box=BOX, snr=SNR, seed=seed)
        simulate.run(simulate.SimulateSettings(out=data, simulation=simulation), progress=progress)
    elif found.is_finished:
        return True
    config, table = setup.begin(request) if found is None else setup.resume(request, found)
    log.info("2/5 training %d epochs with %d workers; starting takes a while", EPOCHS, workers)
    with executor.connected():
        from raydrgn.training import trainer

        display = training_display(progress, EPOCHS, len(table))
        return trainer.train(config, table, root, display=display).finished


def training_display(
    progress: Progress, epochs: int, num_particles: int
) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that reports what the progress board of a training run has."""
    reported: dict[str, Any] = {}

    def show(latest: Mapping[str, Any]) -> None:
        if latest == reported:
            return
        reported.clear()
        reported.update(latest)
        if latest.get("phase") == "reading":
            progress("reading particles", latest["done"], latest["of"], unit="particles")
            return
        progress(
            "training",
            (latest["epoch"] - 1) * num_particles + latest["particles"],
            num_particles * epochs,
            unit="particles",
            rate=latest["rate"],
            extra=f"epoch {latest['epoch']}/{epochs} loss {latest['total']:.4f} "
            f"KL {latest['kl']:.2f}",
        )

    return show
