"""``analyze``: components, UMAP, clusters and volumes of the latents of one epoch."""

import logging
import shlex
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

from raydrgn.errors import ConfigError, InputError, RaydrgnError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_percentiles
from raydrgn.wording import counted
from raydrgn.workflows.epoch import LatentSettings, OpenedLatents

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from raydrgn.decoding.volume_sets import MadeSets
    from raydrgn.latent.analysis import LatentSpace
    from raydrgn.latent.analysis_report import AnalysedRun
    from raydrgn.latent.mask_report import MaskedDensity
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.latents_file import LatentSource
    from raydrgn.run.reader import RunReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnalyzeSettings(LatentSettings):
    """Settings of ``analyze``."""

    ksample: Annotated[int, Setting("Clusters of k-means.", min=1)] = 20

    pc: Annotated[
        int | None,
        Setting("Components along which to make volumes; 2, or 1 if zdim is 1.", min=0),
    ] = None

    pc_points: Annotated[int, Setting("Volumes along each component.", min=2)] = 10

    pc_range: Annotated[
        tuple[float, float], Setting("Percentiles of the particles at the two ends.")
    ] = (1.0, 99.0)

    skip_umap: Annotated[bool, Setting("Make no UMAP.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_percentiles(self.pc_range, "--pc-range")

    def recorded(self) -> dict[str, Any]:
        """Return all settings but whether some of the results are made."""
        found = super().recorded()
        del found["skip_umap"]
        return found

    def for_size(self, zdim: int, num_particles: int) -> "AnalyzeSettings":
        """Return the settings with their defaults for some latents.

        Raises:
            ConfigError: If there are not as many components or particles.
        """
        components = min(zdim, num_particles)
        if self.pc is not None and self.pc > components:
            raise ConfigError(
                f"--pc {self.pc} is too many: the latents of {counted(num_particles, 'particle')} "
                f"have {counted(components, 'component')}."
            )
        if self.ksample > num_particles:
            raise ConfigError(
                f"--ksample {self.ksample} is more than the number of particles ({num_particles})."
            )
        return replace(self, pc=min(2, components) if self.pc is None else self.pc)

    def latent_space(self, z: "np.ndarray", progress: Progress) -> "LatentSpace":
        """Return components, clusters and paths of latents, by the settings for their size.

        Raises:
            ConfigError: If there are fewer distinct latents than clusters.
        """
        from raydrgn.latent.analysis import analyze_latents

        return analyze_latents(
            z,
            ksample=self.ksample,
            pc=self.pc or 0,
            pc_points=self.pc_points,
            pc_range=self.pc_range,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True)
class AnalyzeResult:
    """What ``analyze`` found; the folder has it as files, with a report."""

    folder: "ResultFolder"
    epoch: int | None
    space: "LatentSpace"
    """Latents, components, clusters, paths and UMAP, as arrays."""

    particles: "pa.Table"
    """Row, original number, embedding and cluster of every particle."""

    volumes: "MadeSets | None"
    """Previews of the volumes; None if they were skipped."""

    @property
    def failures(self) -> list[str]:
        """Volumes that could not be decoded, and why."""
        return self.volumes.failures if self.volumes else []


def run(
    settings: AnalyzeSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> AnalyzeResult:
    """Embed and cluster the latents of an epoch, decode volumes, and write the result folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    from raydrgn.latent.analysis_report import volume_sets, write_analysis
    from raydrgn.latent.analysis_tables import write_tables
    from raydrgn.latent.volume_densities import contrast_problem

    opened = settings.open(executor)
    source, epoch, z, makes_volumes = opened
    settings = settings.for_size(z.shape[1], len(z))
    numbers = source.known_numbers(len(z))
    settings.result_folder(source, epoch, "analyze").require_writable()
    space = settings.latent_space(z, progress)
    folder = settings.begin(source, epoch, "analyze", independent=("ksample",))
    if not settings.skip_umap and z.shape[1] > 1:
        space = replace(space, umap=_umap(z, folder, progress))
    particles = write_tables(space, numbers, folder, uids=source.uids())
    analysed = _analysed_run(opened)
    made = None
    if makes_volumes:
        from raydrgn.decoding.volume_sets import make_sets

        with settings.pool(opened, executor) as pool:
            made = make_sets(pool, volume_sets(space, folder), progress=progress)
    write_analysis(
        space,
        folder,
        numbers=numbers,
        made=made,
        run=analysed,
        commands=_next_commands(settings, source, epoch),
        progress=progress,
    )
    if made is not None and (problem := contrast_problem(made, seen=analysed.seen)):
        log.warning("%s", problem)
    folder.finish()
    return AnalyzeResult(folder=folder, epoch=epoch, space=space, particles=particles, volumes=made)


def analyze_finished(
    run_directory: str, *, executor: Executor, progress: Progress
) -> tuple[str, str]:
    """Analyse the last epoch of a run that was trained, with the default settings; never raises.

    Returns:
        The report, empty if there is none; and what was not made, why, and the command that makes
        it, empty if all was.
    """
    log.info("training is finished; the last epoch is analysed")
    report = ""
    try:
        made = run(AnalyzeSettings(run=run_directory), executor=executor, progress=progress)
    except Exception as error:
        if not isinstance(error, RaydrgnError):
            log.exception("the analysis failed")
        problem = f"the analysis was not made: {str(error) or type(error).__name__}"
    else:
        report, problem = made.folder.at("report.html"), "; ".join(made.failures)
    if problem:
        command = shlex.join(["raydrgn", "analyze", run_directory])
        problem = f"{problem.rstrip('.')}. To make it: {command}"
    return report, problem


def _analysed_run(opened: OpenedLatents) -> "AnalysedRun":
    """Return what the report shows of the run beside its latents."""
    from raydrgn.decoding.contrast import images_seen
    from raydrgn.latent.analysis_report import AnalysedRun

    source, epoch, z, _ = opened
    return AnalysedRun(
        title=source.title(epoch),
        losses=source.losses(),
        is_mixture=_is_mixture(source),
        density=_masked_density(opened),
        seen=images_seen(source, epoch, len(z)),
    )


def _masked_density(opened: OpenedLatents) -> "MaskedDensity | None":
    """Return the mask and the density of a mixture of factor analysers, if volumes are made."""
    from raydrgn.latent.mask_report import MaskedDensity

    source = opened.source
    if opened.makes_volumes and _is_mixture(source):
        return MaskedDensity.of(source, opened.epoch)
    return None


def _is_mixture(source: "LatentSource") -> "TypeGuard[RunReader]":
    """Return whether the latents are of a mixture of factor analysers."""
    from raydrgn.run.reader import RunReader

    return isinstance(source, RunReader) and source.is_mixture


def _has_weights(source: "LatentSource", epoch: int | None) -> bool:
    """Return whether volumes of the epoch can be decoded; its weights may have been deleted."""
    from raydrgn.run.reader import RunReader

    return isinstance(source, RunReader) and (epoch is None or epoch in source.files.epochs())


def _next_commands(
    settings: AnalyzeSettings, source: "LatentSource", analysed: int | None
) -> list[str]:
    """Return what usually comes after the analysis of an epoch and has not been made, filled in."""
    from raydrgn.io import storage

    epoch = [] if settings.epoch is None else [str(settings.epoch)]
    place = shlex.join([storage.absolute(settings.run), *epoch])
    options = settings.volume_words()
    commands = [f"raydrgn filter {place} --show --ksample {settings.ksample}{options}"]
    if settings.out is not None:  # filter looks for clusters in the folder of the run
        out = storage.absolute(settings.out)
        labels = shlex.quote(f"{out}/kmeans{settings.ksample}/labels.pkl")
        commands = [f"raydrgn filter {place} --show --labels {labels}{options}"]
    if _has_weights(source, analysed):
        judged = storage.join(source.results("convergence", analysed), "report.html")
        names = ["landscape"] if storage.exists(judged) else ["convergence", "landscape"]
        commands += [f"raydrgn {name} {place}{options}" for name in names]
    return commands


def _umap(z: "np.ndarray", folder: "ResultFolder", progress: Progress) -> "np.ndarray":
    """Return the UMAP of latents: the one in the folder, or a new one that is written there."""
    import numpy as np

    from raydrgn.clustering.clusters import SEED
    from raydrgn.clustering.embedding import umap_embedding
    from raydrgn.io import cryodrgn
    from raydrgn.reporting.analysis_results import UMAP, read_umap

    try:
        found = read_umap(folder, len(z))
    except InputError as error:
        log.warning("The UMAP is made again: %s", error)
        found = None
    if found is None:
        report = partial(progress, "UMAP", unit="particles")
        found = umap_embedding(z, seed=SEED, progress=report)
        cryodrgn.write_pickles(folder.at(UMAP), found.astype(np.float32))
    return found
