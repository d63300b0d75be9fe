"""``filter``: a selection of particles, by one or several methods together.

Also shows clusters or components with their particles, before anything is dropped.
"""

import logging
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydrgn.errors import ConfigError
from raydrgn.latent.options import SelectionOptions
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import whole_numbers
from raydrgn.workflows.epoch import LatentSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.latent.filters import Method
    from raydrgn.latent.groups_report import Groups
    from raydrgn.reporting.analysis_results import AnalysisResults
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.latents_file import LatentSource
    from raydrgn.workflows.epoch import OpenedLatents

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FilterSettings(LatentSettings, SelectionOptions):
    """Settings of ``filter``."""

    def __post_init__(self) -> None:
        LatentSettings.__post_init__(self)
        SelectionOptions.__post_init__(self)

    def folder(self, source: "LatentSource") -> str:
        """Return the folder of this try, where no other is given."""
        name = self.name
        if name is None and self.only_shows:
            name = f"gmm{self.gmm}" if self.gmm is not None else "clusters"
        return source.results("filter" if name is None else f"filter.{name}")


@dataclass(frozen=True, kw_only=True)
class FilterResult:
    """A selection of particles; the folder has it as files."""

    folder: "ResultFolder"
    epoch: int | None
    numbers: "np.ndarray"
    """Number of each particle in the original set."""

    kept: "np.ndarray"
    """Whether each particle is kept by all methods."""

    methods: "list[Method]"
    """Each method, and the particles that it keeps."""

    commands: list[str]
    """What exports the kept particles, and trains on them; empty where they are not known."""

    images_error: str
    """Why there are no images of particles; empty if there are."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


@dataclass(frozen=True, kw_only=True)
class GroupsResult:
    """Clusters or components, shown; the folder has them as files, with a report."""

    folder: "ResultFolder"
    epoch: int | None
    groups: "Groups"
    commands: list[str]
    """What selects particles by them."""

    images_error: str
    """Why there are no images of particles; empty if there are."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


def run(
    settings: FilterSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> FilterResult:
    """Select particles, and write what is kept and dropped into the result folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it; if the settings select
            nothing, which ``run_groups`` takes.
    """
    if settings.only_shows:
        raise ConfigError(
            "These settings show clusters or components (--show, or --gmm without --drop or "
            "--where) and select nothing: call run_groups with them."
        )
    from raydrgn.io.storage import checksum
    from raydrgn.latent import filter_report
    from raydrgn.latent.filters import kept_by_all
    from raydrgn.reporting.latent_plane import latent_plane
    from raydrgn.run.next_commands import selection_commands
    from raydrgn.run.reader import RunReader

    opened = settings.open(executor)
    source, epoch, z, makes_volumes = opened
    numbers = source.original_numbers(len(z))
    methods = _apply_methods(settings, opened, numbers)
    kept = kept_by_all(methods)
    selection = f"{kept.sum()} of {len(kept)} particles ({checksum(kept.tobytes())[:12]})"
    folder = settings.begin(
        source,
        epoch,
        "filter",
        found={"selection": selection},
        folder=settings.folder(source),
    )
    filter_report.write_selection(kept, numbers, folder, uids=source.uids())
    filter_report.write_overlaps(methods, kept, z, folder)
    filter_report.write_embedding_figure(kept, latent_plane(source, epoch, z), folder)
    images_error = filter_report.write_images(source, kept, numbers, folder)
    failures: list[str] = []
    if makes_volumes:
        with settings.pool(opened, executor) as pool:
            failures = _write_mean_volumes(pool, z, kept, folder, progress)
    commands = []
    if isinstance(source, RunReader):
        commands = selection_commands(source, folder.at("kept.ind.pkl"), name="kept")
    filter_report.write_filter_report(
        methods, kept, folder, title=source.title(epoch), commands=commands
    )
    folder.finish()
    return FilterResult(
        folder=folder,
        epoch=epoch,
        numbers=numbers,
        kept=kept,
        methods=methods,
        commands=commands,
        images_error=images_error,
        failures=failures,
    )


def _write_mean_volumes(
    pool: "DecoderPool",
    z: "np.ndarray",
    kept: "np.ndarray",
    folder: "ResultFolder",
    progress: Progress,
) -> list[str]:
    """Write the mean volumes of kept and of dropped particles; return what failed, and why.

    Args:
        pool: Decodes the volumes.
        z: Latents of all particles (n zdim).
        kept: Whether each particle is kept (n).
        folder: Where to write.
        progress: Called as volumes are decoded.
    """
    from raydrgn.latent.filter_report import write_mean_volumes
    from raydrgn.latent.mean_volumes import mean_volume

    means, failures = {}, []
    for name, members in (("kept", kept), ("dropped", ~kept)):
        mean, errors = mean_volume(pool, z[members], name=name, progress=progress)
        failures += errors
        if mean is not None:
            means[name] = mean
    write_mean_volumes(means, folder, pixel_size_angstrom=pool.pixel_size_angstrom)
    return failures


def run_groups(
    settings: FilterSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> GroupsResult:
    """Show clusters or components with their particles and mean volumes, and select nothing.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it; if the settings select
            particles, which ``run`` takes.
    """
    if not settings.only_shows:
        raise ConfigError(
            "These settings select particles: call run with them. To show clusters before that, "
            "leave out what selects, and give --show or --gmm."
        )
    from raydrgn.io.storage import checksum
    from raydrgn.latent import groups_report
    from raydrgn.reporting.latent_plane import latent_plane
    from raydrgn.reporting.report import Section

    opened = settings.open(executor)
    source, epoch, z, makes_volumes = opened
    numbers = source.original_numbers(len(z))
    groups = _groups(settings, opened, numbers)
    folder = settings.begin(
        source,
        epoch,
        "filter",
        found={"shown": checksum(groups.labels.tobytes())[:12]},
        folder=settings.folder(source),
    )
    groups_report.write_labels(groups, folder, uids=source.uids())
    images, images_error = groups_report.write_images(groups, source, folder, progress=progress)
    failures: list[str] = []
    volumes = Section(title="Mean volumes")
    if makes_volumes:
        with settings.pool(opened, executor) as pool:
            volumes, failures = groups_report.write_volumes(groups, pool, folder, progress=progress)
    commands = _commands_by_null(settings, opened)
    commands += groups_report.next_commands(groups, _words(settings))
    groups_report.write_groups_report(
        groups,
        latent_plane(source, epoch, z),
        folder,
        title=source.title(epoch),
        images=images,
        volumes=volumes,
        commands=commands,
    )
    folder.finish()
    return GroupsResult(
        folder=folder,
        epoch=epoch,
        groups=groups,
        commands=commands,
        images_error=images_error,
        failures=failures,
    )


def _commands_by_null(settings: FilterSettings, opened: "OpenedLatents") -> list[str]:
    """Return what drops images that show no particle, if there are any: better than by clusters."""
    from raydrgn.run.reader import RunReader

    source = opened.source
    if not (isinstance(source, RunReader) and source.is_mixture):
        return []
    null = source.estimates(opened.epoch)["null_probability"]
    if not (null > SHOWS_NOTHING).any():
        return []
    words = shlex.join([*_first_words(settings), "--null", f"{SHOWS_NOTHING:g}"])
    return [words + settings.volume_words()]


def _first_words(settings: FilterSettings) -> list[str]:
    from raydrgn.io import storage

    epoch = [] if settings.epoch is None else [str(settings.epoch)]
    return ["raydrgn", "filter", storage.absolute(settings.run), *epoch]


def _words(settings: FilterSettings) -> str:
    """Return the command that selects by what is shown, but for what it drops."""
    from raydrgn.io import storage

    words = _first_words(settings)
    if settings.gmm is not None:
        words += ["--gmm", str(settings.gmm)]
    elif settings.labels is not None:
        words += ["--labels", storage.absolute(settings.labels)]
    else:
        words += ["--ksample", str(settings.ksample)]
    return shlex.join(words) + settings.volume_words()


def _groups(settings: FilterSettings, opened: "OpenedLatents", numbers: "np.ndarray") -> "Groups":
    from raydrgn.clustering.clusters import mixture
    from raydrgn.latent.groups_report import Groups
    from raydrgn.reporting.analysis_results import AnalysisResults

    z = opened.z
    if settings.gmm is not None:
        labels = mixture(z, settings.gmm).labels
    else:
        labels = _labels(
            settings, opened.source, numbers, AnalysisResults(opened.source, opened.epoch)
        )
    noun = "cluster" if settings.gmm is None else "component"
    return Groups(noun=noun, labels=labels, z=z, numbers=numbers)


def _apply_methods(
    settings: FilterSettings, opened: "OpenedLatents", numbers: "np.ndarray"
) -> "list[Method]":
    """Return each of the chosen methods, with the particles that it keeps."""
    from raydrgn.clustering.clusters import mixture
    from raydrgn.io.indices import read_original_numbers
    from raydrgn.latent import filters
    from raydrgn.latent.conditions import by_conditions, read_conditions
    from raydrgn.latent.numeric_values import ConditionValues
    from raydrgn.latent.values import ParticleValues
    from raydrgn.reporting.analysis_results import AnalysisResults

    z, analysis = opened.z, AnalysisResults(opened.source, opened.epoch)
    found = []
    keep = whole_numbers(settings.keep_clusters, "--keep-clusters", ranges=True)
    drop = whole_numbers(settings.drop_clusters, "--drop-clusters", ranges=True)
    if keep or drop:
        labels = _labels(settings, opened.source, numbers, analysis)
        found.append(filters.by_clusters(labels, keep=keep, drop=drop))
    components = None
    if settings.gmm is not None:
        components = mixture(z, settings.gmm)
        if dropped := whole_numbers(settings.drop, "--drop", ranges=True):
            found.append(filters.by_mixture(components, dropped))
    if settings.where is not None or settings.conditions is not None:
        values = ParticleValues(opened.source, opened.epoch, z, labels=settings.labels)
        if settings.where is not None:
            own = {"cluster": lambda: _labels(settings, opened.source, numbers, analysis)}
            if components is not None:
                own["component"] = lambda: components.labels
            found.append(filters.by_condition(settings.where, ConditionValues(values, own)))
        if settings.conditions is not None:
            found.append(by_conditions(read_conditions(settings.conditions), values))
    if settings.zscore is not None:
        found.append(filters.by_magnitude(z, settings.zscore))
    if settings.umap_polygon is not None:
        corners = filters.read_polygon(settings.umap_polygon)
        found.append(filters.by_region(analysis.require_umap(len(z)), corners))
    if settings.null is not None:
        estimates = opened.source.estimates(opened.epoch)
        null = filters.by_null(estimates["null_probability"], settings.null)
        if null.kept.all():
            why = _why_no_junk(opened, settings.null)
            log.warning("no image has a null probability above %g: %s", settings.null, why)
        found.append(null)
    if settings.ind is not None:
        found.append(filters.by_selection(numbers, read_original_numbers(settings.ind, numbers)))
    return found


def _why_no_junk(opened: "OpenedLatents", limit: float) -> str:
    """Return why no image of a mixture of factor analysers has a null probability above a limit."""
    from raydrgn.run.config import RunConfig
    from raydrgn.run.mixture import read_mixture
    from raydrgn.run.reader import RunReader

    if limit >= 1:
        return "1 is the highest there is, and keeps all"
    assert isinstance(opened.source, RunReader)  # which alone has estimates
    config = RunConfig.read(opened.source.files.config)
    if config.mfa is not None and not config.mfa.null_class:
        return "the run, of `raydrgn train --no-null-class`, did not look for such images"
    if read_mixture(opened.source, opened.epoch).priors.null_share == 0:
        return (
            "the mean explains too little of each image for the fit to look for such images (its "
            "run.log has a warning)"
        )
    return "all seem to show a particle"


def _labels(
    settings: FilterSettings,
    source: "LatentSource",
    numbers: "np.ndarray",
    analysis: "AnalysisResults",
) -> "np.ndarray":
    """Return the cluster of each particle: of k-means, or of the file given."""
    from raydrgn.latent.own_labels import own_labels
    from raydrgn.latent.values import particles_of

    if settings.labels is None:
        return analysis.labels(settings.ksample, len(numbers))
    return own_labels(settings.labels, len(numbers), numbers, particles=particles_of(source))
