"""``occupancy classes``: volume classes and structural blocks of a table of occupancies."""

import logging
import shlex
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ConfigError
from raydrgn.occupancy.options import ClassOptions
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.occupancy.block_model import BlockModel
    from raydrgn.occupancy.centroids import Centroids
    from raydrgn.occupancy.classes import OccupancyClasses
    from raydrgn.occupancy.membership import ClassParticles
    from raydrgn.occupancy.scored_table import ScoredTable
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader
    from raydrgn.shapes import Int

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
    from raydrgn.model.device import gpu_problem
    from raydrgn.occupancy.class_report import ReportContent, write_class_report
    from raydrgn.occupancy.scored_table import ScoredTable

    scored = ScoredTable.read(settings.table)
    origin = scored.origin
    if scored.run is not None and not settings.skip_volumes:
        executor.check_pool(gpu_problem)
    options = replace(settings.clustering, scale=settings.clustering.scale or origin.scale)
    found, particles = scored.find_classes(options, scored.chosen(settings.chosen))
    uris, by = (list(settings.models), settings.by) if settings.models else origin.models()
    models = _models(found, uris, by)
    folder = _begin(settings, scored, found, uris, by)
    selected = _write_classes(found, particles, models, folder)
    centroids = None
    if not settings.skip_volumes:
        centroids = _centroids(found, scored, particles, folder, executor, progress)
    content = ReportContent(
        title=scored.title,
        found=found,
        particles=particles,
        embedding=scored.embedding(particles),
        centroids=centroids,
        models=models,
        num_selected=None if selected is None else len(selected),
        commands=_next_commands(settings, scored.run, particles, folder, found.classes.count),
    )
    write_class_report(content, folder)
    folder.finish()
    return OccupancyClassesResult(
        folder=folder, clustered=found, particles=particles, selected=selected, centroids=centroids
    )


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


def _begin(
    settings: OccupancyClassesSettings,
    scored: "ScoredTable",
    found: "OccupancyClasses",
    models: list[str],
    by: str | None,
) -> "ResultFolder":
    """Return the folder of results, begun or continued; refuse one that has what is read."""
    from raydrgn.io import storage
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.reporting.result_folder import ResultFolder

    origin, opened = scored.origin, scored.run
    folder = ResultFolder(settings.out or storage.join(origin.folder, "classes"))
    inputs = [storage.absolute(settings.table), *origin.inputs(), *models, *([by] if by else [])]
    refuse_inputs(folder.uri, inputs)
    folder.begin(
        _record(settings, found, scored.table, models, by),
        made_from=opened.identity(origin.epoch) if opened else None,
        overwrite=settings.overwrite,
    )
    return folder


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
    scored: "ScoredTable",
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
    origin = scored.origin
    if scored.run is not None and particles is not None:
        state, options = origin.decoder(scored.run)
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
