"""``halves``: which differences between states are real, by trainings on half of the particles."""

import logging
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ClusterError, RaydrgnError, reworded
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import EpochSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.halves.agreement import Limits
    from raydrgn.halves.comparison import Agreement
    from raydrgn.halves.components import Support
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HalvesSettings(EpochSettings):
    """Settings of ``halves``."""

    run: Annotated[str, Setting("Run directory, of raydrgn.", is_argument=True)]

    ksample: Annotated[int, Setting("States: clusters of the latents.", min=2)] = 10


@dataclass(frozen=True, kw_only=True)
class HalvesResult:
    """How the halves agree; the folder has it as files, with a report."""

    folder: "ResultFolder"
    agreement: "Agreement | None"
    """None if it was stopped while a half was trained."""

    support: "Support | None"
    """Components and states that the particles support; None for an autoencoder."""


def run(
    settings: HalvesSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> HalvesResult:
    """Train a run anew on each half of its particles, and compare the volumes of its states.

    The halves are run directories in the result folder. Stopped, it goes on when it is repeated.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    from raydrgn.clustering.clusters import SEED, k_means
    from raydrgn.halves.agreement import OF_AUTOENCODER, OF_MIXTURE
    from raydrgn.halves.components import measure_support
    from raydrgn.halves.report import write_agreement
    from raydrgn.halves.splitting import HALVES, require_enough, require_own, rows_of_half
    from raydrgn.io.half_sets import has_own_halves
    from raydrgn.model.device import gpu_problem
    from raydrgn.run.reader import open_run
    from raydrgn.run.refined_poses import shared_poses

    opened = open_run(settings.run)
    require_own(opened)
    table = opened.particles()
    require_enough(opened, table)
    epoch = opened.epoch(settings.epoch)
    executor.check_pool(gpu_problem)  # of the states: two trainings come first
    labels = k_means(opened.finite_latents(epoch), settings.ksample, seed=SEED).labels
    if concern := shared_poses(table):
        log.warning("%s", concern)
    if has_own_halves(table):
        log.info("halves are those of the refinement, in which their poses are independent")
    folder = settings.begin(opened, epoch, "halves")
    if not _train_halves(opened, folder, epoch, executor, progress):
        return HalvesResult(folder=folder, agreement=None, support=None)
    rows = (rows_of_half(table, 1), rows_of_half(table, 2))
    limits = OF_MIXTURE if opened.is_mixture else OF_AUTOENCODER
    agreement = _compare(folder, labels, rows, limits, executor, progress)
    support = None
    if opened.is_mixture:
        halves = [open_run(folder.at(f"half{half}")) for half in HALVES]
        support = measure_support(halves, progress=progress)
    title = f"Halves of {opened.title(epoch)}"
    write_agreement(agreement, folder, title=title, support=support, concern=concern)
    folder.finish()
    return HalvesResult(folder=folder, agreement=agreement, support=support)


def _train_halves(
    opened: "RunReader",
    folder: "ResultFolder",
    epoch: int | None,
    executor: Executor,
    progress: Progress,
) -> bool:
    """Train one half after the other; return whether to go on.

    Raises:
        RaydrgnError: Naming the half that could not be trained, and the command that goes on.
    """
    from raydrgn.halves.splitting import HALVES

    for half in HALVES:
        try:
            goes_on = _train_half(opened, half, folder, epoch, executor, progress)
        except RaydrgnError as error:  # with the advice of `train`, which goes on with a half too
            root = shlex.quote(folder.at(f"half{half}"))
            text = f"half {half}, as by `raydrgn train -o {root} --resume`: {error}"
            raise reworded(error, text) from error
        if not goes_on:
            return False
    return True


def _train_half(
    opened: "RunReader",
    half: int,
    folder: "ResultFolder",
    epoch: int | None,
    executor: Executor,
    progress: Progress,
) -> bool:
    """Train a half to the epoch of the run that is compared; return whether to go on."""
    from raydrgn.halves.splitting import HALVES, prepare_half
    from raydrgn.model.device import gpu_problem
    from raydrgn.run.claim import RunClaim
    from raydrgn.training.prepare_run import wanted
    from raydrgn.training.start import start_training

    def of_half(what: str, done: float, total: float, **more: Any) -> None:
        progress(f"half {half}: {what}", done, total, **more)

    root = folder.at(f"half{half}")
    with RunClaim(root) as claim:
        prepared = prepare_half(opened, half, root, epochs=epoch or 0)
        if prepared is None:
            return True
        executor.check_room(wanted(prepared.config, len(prepared.table)), gpu_problem)
        claim.take()
        log.info("half %d of %d: %s particles", half, len(HALVES), f"{len(prepared.table):,}")
        found = start_training(prepared, claim=claim, executor=executor, progress=of_half)
    return found.goes_on


def _compare(
    folder: "ResultFolder",
    labels: "np.ndarray",
    rows: "tuple[np.ndarray, np.ndarray]",
    limits: "Limits",
    executor: Executor,
    progress: Progress,
) -> "Agreement":
    """Decode the states by both halves, and compare them."""
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.decoding.volume_sets import VolumeSet, make_sets
    from raydrgn.halves.comparison import compare_halves
    from raydrgn.halves.splitting import HALVES
    from raydrgn.halves.states import find_states
    from raydrgn.io.mrc import read_volume, volume_name
    from raydrgn.reporting.latent_figures import series_colours
    from raydrgn.run.reader import open_run

    runs = [open_run(folder.at(f"half{half}")) for half in HALVES]
    first, second = (run.finite_latents(run.epoch(None)) for run in runs)
    states = find_states(labels, rows, (first, second))
    pixel_size, failures = 1.0, []
    for half, run, z in zip(HALVES, runs, states.z, strict=True):
        decoder = run.decoder(run.epoch(None))
        volumes = VolumeSet(
            name=f"half {half}",
            folder=folder.at(f"volumes{half}"),
            z=z,
            colours=series_colours(len(z)),
            titles=[f"state {number}" for number in states.numbers],
        )
        with DecoderPool(decoder, VolumeOptions(), executor) as pool:
            pixel_size = pool.pixel_size_angstrom
            failures += make_sets(pool, [volumes], progress=progress).failures
    if failures:
        raise ClusterError(f"{len(failures)} volumes could not be decoded: {failures[0]}")

    def volume(half: int, state: int) -> "np.ndarray":
        return read_volume(folder.at(f"volumes{half}", volume_name(state)))[0]

    return compare_halves(
        states, volume, pixel_size_angstrom=pixel_size, limits=limits, progress=progress
    )
