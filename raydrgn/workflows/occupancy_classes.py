"""``occupancy classes``: volume classes and structural blocks of a table of occupancies."""

import logging
import shlex
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from raydrgn.errors import ConfigError
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.occupancy.options import ClassOptions
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.occupancy.block_model import BlockModel
    from raydrgn.occupancy.centroids import Centroids
    from raydrgn.occupancy.classes import OccupancyClasses
    from raydrgn.occupancy.membership import ClassParticles, ClusteredVolumes
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.occupancy.table_origin import TableOrigin
    from raydrgn.reporting.latent_plane import Plane
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader
    from raydrgn.shapes import Bool, Int

log = logging.getLogger(__name__)

LISTED_SUBUNITS = 10
"""Subunits that a message names at most."""


@dataclass(frozen=True, kw_only=True)
class OccupancyClassesSettings:
    """Settings of ``occupancy classes``."""

    table: Annotated[
        str,
        Setting(
            "Folder of `occupancy score`; or occupancies.csv of MAVEn.",
            is_argument=True,
            metavar="OUT",
        ),
    ]

    clustering: ClassOptions = field(default_factory=ClassOptions)

    chosen: Annotated[
        str | None,
        Setting(
            "Cluster only the volumes of these particles again: .pkl, .npy or text of their "
            "numbers in the original set, such as C1/ind.pkl of an earlier clustering.",
            flags=("--particles",),
            metavar="FILE",
        ),
    ] = None

    models: Annotated[
        tuple[str, ...],
        Setting(
            "Atomic model (PDB or mmCIF) to colour by block; that of the masks by default. May be "
            "repeated.",
            flags=("--model",),
        ),
    ] = ()

    by: Annotated[
        str | None,
        Setting("YAML file of selections, where the subunits are not chains or files."),
    ] = None

    skip_volumes: Annotated[bool, Setting("Make no centroid volumes.")] = False

    out: Annotated[
        str | None,
        Setting(
            "Folder for the results; OUT/classes by default. With --particles it must be given.",
            flags=("-o", "--out"),
        ),
    ] = None

    overwrite: Annotated[bool, Setting("Replace earlier results in the folder.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.chosen is not None and self.out is None:
            raise ConfigError(
                "--particles clusters a part of the table: give -o a folder beside OUT/classes, "
                "which is that of the whole."
            )


@dataclass(frozen=True, kw_only=True)
class OccupancyClassesResult:
    """What ``occupancy classes`` found; the folder has it as files, with a report."""

    folder: "ResultFolder"
    clustered: "OccupancyClasses"
    """The table with its classes, blocks and correlations."""

    particles: "ClassParticles | None"
    """Class of each particle of the run; None for a table of maps."""

    selected: "Int[np.ndarray, ' q'] | None"
    """Original numbers of the particles of the volumes that ``where`` selects."""

    centroids: "Centroids | None"

    @property
    def titles(self) -> list[str]:
        """Name and share of each class."""
        from raydrgn.occupancy.class_tables import class_titles

        return class_titles(self.clustered, self.particles)

    @property
    def failures(self) -> list[str]:
        """Centroid volumes that could not be made, and why."""
        return self.centroids.made.failures if self.centroids else []


def run(
    settings: OccupancyClassesSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> OccupancyClassesResult:
    """Find classes and blocks, and write tables, particles, centroid volumes and a report.

    Raises:
        RaydrgnError: If the table, its run, the settings or the folder do not allow it.
    """
    from raydrgn.io import storage
    from raydrgn.model.device import gpu_problem
    from raydrgn.occupancy.class_report import ReportContent, write_class_report
    from raydrgn.occupancy.classes import find_classes
    from raydrgn.occupancy.membership import class_particles
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.occupancy.table_origin import TableOrigin
    from raydrgn.reporting.result_folder import ResultFolder

    origin, table = TableOrigin.of(settings.table), OccupancyTable.read(settings.table)
    options = replace(settings.clustering, scale=settings.clustering.scale or origin.scale)
    opened = origin.open_run()
    if opened is not None and not settings.skip_volumes:
        executor.check_pool(gpu_problem)
    chosen = _read_chosen(settings, table, opened, origin.epoch)
    volumes = _clustered(table, origin, opened, chosen)
    whole = None if chosen is None else table.select(volumes.whole)
    found = find_classes(table.select(volumes.rows), options, whole=whole)
    particles = None
    if volumes.members is not None:
        particles = class_particles(found.classes.labels, volumes.members)
    uris, by = (list(settings.models), settings.by) if settings.models else origin.models()
    models = _models(found, uris, by)
    folder = ResultFolder(settings.out or storage.join(origin.folder, "classes"))
    inputs = [storage.absolute(settings.table), *origin.inputs(), *uris, *([by] if by else [])]
    refuse_inputs(folder.uri, inputs)
    folder.begin(
        _record(settings, found, table, uris, by),
        made_from=opened.identity(origin.epoch) if opened else None,
        overwrite=settings.overwrite,
    )
    selected = _write_classes(found, particles, models, folder)
    centroids = None
    if not settings.skip_volumes:
        centroids = _centroids(found, origin, opened, particles, folder, executor, progress)
    content = ReportContent(
        title=f"{opened.files.root}, epoch {origin.epoch}" if opened else origin.folder,
        found=found,
        particles=particles,
        embedding=_embedding(opened, origin.epoch, particles),
        centroids=centroids,
        models=models,
        num_selected=None if selected is None else len(selected),
        commands=_next_commands(settings, opened, particles, folder, found.classes.count),
    )
    write_class_report(content, folder)
    folder.finish()
    return OccupancyClassesResult(
        folder=folder, clustered=found, particles=particles, selected=selected, centroids=centroids
    )


class _Chosen(NamedTuple):
    """Particles that are clustered again, and the rows of a table that are their volumes."""

    numbers: "Int[np.ndarray, ' q']"
    rows: "Int[np.ndarray, ' k']"


def _read_chosen(
    settings: OccupancyClassesSettings,
    table: "OccupancyTable",
    opened: "RunReader | None",
    epoch: int | None,
) -> _Chosen | None:
    """Return the particles of ``settings.chosen``; None where the whole table is clustered."""
    from raydrgn.io.indices import read_indices, read_original_numbers

    if settings.chosen is None:
        return None
    if opened is not None:
        known = opened.original_numbers(len(opened.latents(epoch)))
        numbers = read_original_numbers(settings.chosen, known)
    else:
        numbers = read_indices(settings.chosen)
    return _Chosen(numbers, table.rows_of(numbers, settings.chosen))


def _clustered(
    table: "OccupancyTable",
    origin: "TableOrigin",
    opened: "RunReader | None",
    chosen: _Chosen | None,
) -> "ClusteredVolumes":
    """Return the volumes to cluster: those chosen, but for images without a particle."""
    import numpy as np

    from raydrgn.occupancy.membership import ClusteredVolumes, membership

    if opened is not None:
        members = membership(table, opened, origin.epoch, labels=origin.labels())
        null = _images_without_particle(opened, origin.epoch)
        return members.clustered(null, *(chosen or (None, None)), count=len(table))
    every = np.arange(len(table))
    return ClusteredVolumes(every if chosen is None else chosen.rows, every, None)


def _write_classes(
    found: "OccupancyClasses",
    particles: "ClassParticles | None",
    models: "list[BlockModel]",
    folder: "ResultFolder",
) -> "Int[np.ndarray, ' q'] | None":
    """Write tables, particles and the script of the models; return the selected particles."""
    from raydrgn.occupancy import class_tables
    from raydrgn.occupancy.block_model import write_script

    class_tables.write_tables(found, particles, folder)
    selected = class_tables.selected_particles(found, particles)
    if particles is not None:
        class_tables.write_particles(particles, selected, folder)
    if models:
        write_script(models, found.blocks.count, folder)
    return selected


def _images_without_particle(
    opened: "RunReader", epoch: int | None
) -> "Bool[np.ndarray, ' p'] | None":
    """Mark images that show no particle, where a mixture has looked for them."""
    return (
        opened.estimates(epoch)["null_probability"] > SHOWS_NOTHING if opened.is_mixture else None
    )


def _next_commands(
    settings: OccupancyClassesSettings,
    opened: "RunReader | None",
    particles: "ClassParticles | None",
    folder: "ResultFolder",
    count: int,
) -> list[str]:
    """Return what usually comes after, filled in for the class of the most particles."""
    from raydrgn.io import storage
    from raydrgn.occupancy.class_tables import IND
    from raydrgn.run.next_commands import selection_commands

    again = ["raydrgn", "occupancy", "classes", storage.absolute(settings.table)]
    if opened is None or particles is None:
        return [
            shlex.join([*again, "--classes", str(count + 1), "-o", f"{folder.uri}-{count + 1}"])
        ]
    counts = particles.counts()
    name = f"C{1 + counts.index(max(counts))}"
    ind = folder.at(name, IND)
    return [
        *selection_commands(opened, ind, name=name),
        shlex.join([*again, "--particles", ind, "-o", f"{folder.uri}-{name}"]),
    ]


def _record(
    settings: OccupancyClassesSettings,
    found: "OccupancyClasses",
    table: "OccupancyTable",
    models: list[str],
    by: str | None,
) -> dict[str, Any]:
    """Return what the results are made from, and the settings that change them."""
    from raydrgn.io import storage

    record = {
        "table_checksum": found.table.checksum(),
        **asdict(found.options),
        "models": [storage.absolute(model) for model in models],
        "by": storage.absolute(by) if by else None,
        "volumes": not settings.skip_volumes,
    }
    if settings.chosen is not None:
        record["particles"] = storage.absolute(settings.chosen)
        record["whole_table_checksum"] = table.checksum()
    return record


def _models(found: "OccupancyClasses", uris: list[str], by: str | None) -> "list[BlockModel]":
    """Read the atomic models, and report subunits that have no atoms in them."""
    from raydrgn.occupancy.block_model import block_models

    if not uris:
        return []
    models, missing = block_models(found, uris, selection=by)
    if missing:
        listed = ", ".join(missing[:LISTED_SUBUNITS])
        log.warning("%d subunits have no atoms in the model: %s", len(missing), listed)
    return models


def _centroids(
    found: "OccupancyClasses",
    origin: "TableOrigin",
    opened: "RunReader | None",
    particles: "ClassParticles | None",
    folder: "ResultFolder",
    executor: Executor,
    progress: Progress,
) -> "Centroids | None":
    """Make the centroid volume of each class; None if the volumes of the table are not known."""
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.occupancy.centroids import copy_centroids, decode_centroids
    from raydrgn.occupancy.class_tables import class_titles

    titles = class_titles(found, particles)
    if opened is not None and particles is not None:
        state, options = origin.decoder(opened)
        with DecoderPool(state, options, executor) as pool:
            return decode_centroids(pool, particles, titles, folder, progress=progress)
    maps = origin.maps(found.table.source)
    if maps:
        return copy_centroids(found, maps, titles, folder)
    log.info(
        "%s does not record which volumes were scored, so that there are no centroid volumes and "
        "no particles of classes",
        origin.folder,
    )
    return None


def _embedding(
    opened: "RunReader | None", epoch: int | None, particles: "ClassParticles | None"
) -> "Plane | None":
    """Return two dimensions to show the particles in, if the run is known."""
    from raydrgn.reporting.latent_plane import latent_plane

    if opened is None or particles is None:
        return None
    return latent_plane(opened, epoch, particles.members.z)
