"""``demo``: simulate an assembling complex, train on it, and compare with its truth."""

import logging
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import simulate, train
from raydrgn.workflows.train_settings import TrainSettings

if TYPE_CHECKING:
    from raydrgn.evaluation.evaluation import Evaluation
    from raydrgn.training.result import TrainResult

log = logging.getLogger(__name__)

PARTICLES, BOX, SNR = 5000, 32, 1.0
EPOCHS, DECODER_WIDTH = 30, 128
WORKERS = 2

NEXT_COMMANDS = """raydrgn explore {out}/run
raydrgn volumes {out}/run -o volumes --particles 0,17,42
raydrgn evaluate {out}/run --truth {out}/data/truth
raydrgn train your_particles.star -o run --zdim 8"""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Settings of ``demo``."""

    out: Annotated[str, Setting("Folder to write.", flags=("-o", "--out"))] = "demo"

    seed: Annotated[int, Setting("Seed of simulation and training.", min=0)] = 0

    workers: Annotated[
        int | None, Setting("Training processes (default: 2; 1 on a single core).", min=1)
    ] = None

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
    if not _train(settings, data, root, executor, progress).goes_on:
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
        commands=NEXT_COMMANDS.format(out=shlex.quote(settings.out)),
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


def _train(
    settings: DemoSettings, data: str, root: str, executor: Executor, progress: Progress
) -> "TrainResult":
    """Simulate and train, or go on with what is there."""
    from raydrgn.io import storage
    from raydrgn.remote.resources import cores_here
    from raydrgn.run.status import find_run

    status, seed = find_run(root), settings.seed
    if status is None:
        log.info(
            "1/5 simulating %s particles of seven states; one is rare, one moves", f"{PARTICLES:,}"
        )
        simulation = Simulation(num_particles=PARTICLES, box=BOX, snr=SNR, seed=seed)
        simulate.run(simulate.SimulateSettings(out=data, simulation=simulation), progress=progress)
    workers = settings.workers or min(cores_here(), WORKERS)
    if status is None or not status.is_finished:
        log.info("2/5 training %d epochs with %d workers; starting takes a while", EPOCHS, workers)
    training = TrainSettings(
        out=root,
        particles=storage.join(data, "particles.star"),
        epochs=EPOCHS,
        dec_dim=DECODER_WIDTH,
        seed=seed,
        workers=workers,
        resume=status is not None,
    )
    return train.run(training, executor=executor, progress=progress)
