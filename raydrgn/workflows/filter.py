"""``filter``: a selection of particles, by one or several methods together.

Also shows clusters or components with their particles, before anything is dropped.
"""

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydrgn.errors import ConfigError
from raydrgn.latent.options import SelectionOptions
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.workflows.epoch import LatentSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.latent.filters import Method
    from raydrgn.latent.groups_report import Groups
    from raydrgn.latent.selection import ParticleSelection
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.latents_file import LatentSource
    from raydrgn.workflows.epoch import OpenedLatents


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

    opened = settings.open(executor)
    source, epoch, z, makes_volumes = opened
    selection = _selection(settings, opened)
    numbers, methods = selection.numbers, selection.methods()
    kept = kept_by_all(methods)
    found = f"{kept.sum()} of {len(kept)} particles ({checksum(kept.tobytes())[:12]})"
    folder = _begin(settings, opened, {"selection": found})
    filter_report.write_selection(kept, numbers, folder, uids=source.uids())
    filter_report.write_overlaps(methods, kept, z, folder)
    filter_report.write_embedding_figure(kept, latent_plane(source, epoch, z), folder)
    images_error = filter_report.write_images(source, kept, numbers, folder)
    failures: list[str] = []
    if makes_volumes:
        with settings.pool(opened, executor) as pool:
            failures = _write_mean_volumes(pool, z, kept, folder, progress)
    commands = _commands_of_kept(source, folder)
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


def _selection(settings: FilterSettings, opened: "OpenedLatents") -> "ParticleSelection":
    """Return what selects particles, once it is known that the results can be written."""
    from raydrgn.latent.selection import ParticleSelection

    source, epoch, z, _ = opened
    place = settings.folder(source)
    settings.result_folder(source, epoch, "filter", place).require_writable()
    numbers = source.original_numbers(len(z))
    return ParticleSelection(options=settings, source=source, epoch=epoch, z=z, numbers=numbers)


def _begin(
    settings: FilterSettings, opened: "OpenedLatents", found: dict[str, str]
) -> "ResultFolder":
    """Return the folder of this try, begun or continued, with a checksum of what was found."""
    source, epoch = opened.source, opened.epoch
    return settings.begin(source, epoch, "filter", found=found, folder=settings.folder(source))


def _commands_of_kept(source: "LatentSource", folder: "ResultFolder") -> list[str]:
    """Return what exports the kept particles, and trains on them; none of a file of latents."""
    from raydrgn.run.next_commands import selection_commands
    from raydrgn.run.reader import RunReader

    if not isinstance(source, RunReader):
        return []
    return selection_commands(source, folder.at("kept.ind.pkl"), name="kept")


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
    groups = _selection(settings, opened).groups()
    folder = _begin(settings, opened, {"shown": checksum(groups.labels.tobytes())[:12]})
    groups_report.write_labels(groups, folder, uids=source.uids())
    images, images_error = groups_report.write_images(groups, source, folder, progress=progress)
    failures: list[str] = []
    volumes = Section(title="Mean volumes")
    if makes_volumes:
        with settings.pool(opened, executor) as pool:
            volumes, failures = groups_report.write_volumes(groups, pool, folder, progress=progress)
    commands = _commands_by_groups(settings, opened, groups)
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


def _commands_by_groups(
    settings: FilterSettings, opened: "OpenedLatents", groups: "Groups"
) -> list[str]:
    """Return what selects by the groups that are shown, and before that by what is better."""
    from raydrgn.latent.groups_report import next_commands

    return _commands_by_null(settings, opened) + next_commands(groups, _words(settings, opened))


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


def _words(settings: FilterSettings, opened: "OpenedLatents") -> str:
    """Return the command that selects by what is shown, but for what it drops."""
    from raydrgn.io import storage
    from raydrgn.reporting.analysis_results import AnalysisResults

    words = _first_words(settings)
    if settings.gmm is not None:
        words += ["--gmm", str(settings.gmm)]
    elif settings.labels is not None:
        words += ["--labels", storage.absolute(settings.labels)]
    else:
        analysis = AnalysisResults(opened.source, opened.epoch)
        words += ["--ksample", str(settings.ksample or analysis.ksample())]
    return shlex.join(words) + settings.volume_words()
