"""``occupancy masks``: mask and reference density of each subunit of an atomic model."""

import logging
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.occupancy.options import MaskOptions
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.occupancy.alignment import Alignment
    from raydrgn.occupancy.masking import MapGrid, MaskSummary
    from raydrgn.occupancy.model_fit import ModelFit
    from raydrgn.occupancy.selection import Subunit
    from raydrgn.reporting.result_folder import ResultFolder

log = logging.getLogger(__name__)

YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class OccupancyMasksSettings:
    """Settings of ``occupancy masks``."""

    models: Annotated[
        tuple[str, ...],
        Setting(
            "Atomic models (PDB, mmCIF), or maps (.mrc) of one subunit each.",
            is_argument=True,
            metavar="MODEL…",
        ),
    ]

    map: Annotated[str, Setting("A map on the grid of those to score; the model is fitted to it.")]

    out: Annotated[str, Setting("Folder for masks and references.", flags=("-o", "--out"))]

    by: Annotated[
        str,
        Setting(
            "What a subunit is: a chain, a file, or a selection that a YAML file names.",
            metavar="chain|file|FILE.yaml",
        ),
    ] = "chain"

    masks: MaskOptions = field(default_factory=MaskOptions)

    fit: Annotated[
        bool,
        Setting(
            "Move the model, as a rigid body, to where it fits the map best; the models moved are "
            "written into OUT/model."
        ),
    ] = False

    origin: Annotated[
        str | None,
        Setting(
            "Position of the map's first voxel, Å, instead of the one in its header.",
            metavar="X,Y,Z",
        ),
    ] = None

    pixel_size_angstrom: Annotated[
        float | None,
        Setting(
            "Pixel size of the map, Å, instead of the one in its header.",
            flags=("--pixel-size",),
            above=0,
        ),
    ] = None

    overwrite: Annotated[bool, Setting("Replace earlier results in the folder.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.by not in ("chain", "file") and not self.selects:
            raise ConfigError(
                f"--by is chain, file or the name of a .yaml file, but it was {self.by!r}."
            )
        _ = self.origin_angstrom

    @property
    def selects(self) -> bool:
        """Whether subunits are the selections of a YAML file."""
        return self.by.endswith(YAML_SUFFIXES)

    @property
    def origin_angstrom(self) -> tuple[float, float, float] | None:
        """Position of the map's first voxel as x, y, z, if it is given."""
        if self.origin is None:
            return None
        try:
            x, y, z = map(float, self.origin.replace(",", " ").split())
        except ValueError as error:
            raise ConfigError(
                f"--origin takes three numbers, such as 0,0,0, but it was {self.origin!r}."
            ) from error
        if not all(math.isfinite(value) for value in (x, y, z)):
            raise ConfigError(f"--origin takes finite numbers, but it was {self.origin!r}.")
        return x, y, z


@dataclass(frozen=True, kw_only=True)
class OccupancyMasksResult:
    """What ``occupancy masks`` made; the masks themselves are in the folder."""

    folder: "ResultFolder"
    masks: "list[MaskSummary]"
    alignment: "Alignment"
    """How well the map and the model fit."""

    fit: "ModelFit | None" = None
    """How the model was moved, with ``--fit``."""


def run(
    settings: OccupancyMasksSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> OccupancyMasksResult:
    """Make masks and reference densities, and write them with a figure of their outlines.

    Raises:
        RaydrgnError: If models, map or settings do not allow it.
    """
    from raydrgn.io import storage
    from raydrgn.occupancy.selection import subunits_of_models
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.reporting.result_folder import ResultFolder

    uris = [storage.absolute(uri) for uri in settings.models]
    refuse_inputs(settings.out, [*uris, storage.absolute(settings.map)])
    grid, subunits, warning = read_inputs(settings)
    if warning:
        log.warning(warning)
    folder = ResultFolder(settings.out)
    folder.begin(_record(settings, uris, grid), made_from=None, overwrite=settings.overwrite)
    fit = None
    if settings.fit:
        fit = _fit(uris, grid, settings.masks.resolution_angstrom, folder, progress)
        subunits = subunits_of_models(_fitted(uris, folder.uri), settings.by)
        _check_placement(subunits, grid)
    return replace(_write(settings, subunits, uris, grid, folder, progress), fit=fit)


def read_inputs(
    settings: OccupancyMasksSettings,
) -> "tuple[MapGrid, list[Subunit], str | None]":
    """Read map and models, and check that they belong together; make nothing.

    Returns:
        The map, the subunits (none if the models are maps), and a warning if some of the atoms lie
        outside the map.

    Raises:
        RaydrgnError: If models, map or settings do not allow masks.
    """
    from raydrgn.io import storage
    from raydrgn.occupancy import masking
    from raydrgn.occupancy.selection import subunits_of_models
    from raydrgn.occupancy.table import check_subunit_names

    uris = [storage.absolute(uri) for uri in settings.models]
    grid = masking.read_grid(
        storage.absolute(settings.map),
        origin_angstrom=settings.origin_angstrom,
        pixel_size_angstrom=settings.pixel_size_angstrom,
    )
    subunits = subunits_of_models(uris, settings.by)
    if settings.fit and not subunits:
        raise ConfigError("--fit moves atomic models, but the files are maps; leave it out.")
    warning = None
    if subunits and not settings.fit:
        warning = masking.check_placement(subunits, grid)
    names = [subunit.name for subunit in subunits] or [masking.name_of_map(uri) for uri in uris]
    check_subunit_names(names)
    return grid, subunits, warning


def _check_placement(subunits: "list[Subunit]", grid: "MapGrid") -> None:
    """Refuse a model that lies outside the map, and warn of one of which a part does."""
    from raydrgn.occupancy.masking import check_placement

    if subunits and (warning := check_placement(subunits, grid)):
        log.warning(warning)


def _fitted(uris: list[str], out: str) -> list[str]:
    """Return where the models that were moved are."""
    from raydrgn.io import storage
    from raydrgn.occupancy.atomic_models import fitted_name, model_places

    places = model_places([fitted_name(uri) for uri in uris])
    return [storage.join(storage.absolute(out), place) for place in places]


def _fit(
    uris: list[str],
    grid: "MapGrid",
    resolution_angstrom: float,
    folder: "ResultFolder",
    progress: Progress,
) -> "ModelFit":
    """Find where the models, as one body, fit the map, and write them there."""
    import numpy as np

    from raydrgn.occupancy.atomic_models import write_moved
    from raydrgn.occupancy.model_fit import ModelInMap

    model = ModelInMap.read(uris, grid, resolution_angstrom=resolution_angstrom)
    found = model.fit(progress)
    shift = found.shift_angstrom(np.array(grid.origin_angstrom))
    for uri, out in zip(uris, _fitted(uris, folder.uri), strict=True):
        write_moved(uri, out, rotation=found.motion.rotation, shift_angstrom=shift)
    return found


def _record(
    settings: OccupancyMasksSettings, uris: list[str], grid: "MapGrid"
) -> dict[str, object]:
    """Return the settings that change the masks, with checksums of the files read."""
    from raydrgn.io import storage

    selection = [storage.absolute(settings.by)] if settings.selects else []
    inputs = [*uris, grid.uri, *selection]
    return {
        "models": _fitted(uris, settings.out) if settings.fit else uris,
        "map": grid.uri,
        "by": selection[0] if selection else settings.by,
        "checksums": [storage.checksum(storage.read_bytes(uri)) for uri in inputs],
        "origin": grid.origin_angstrom,
        "pixel_size": grid.pixel_size_angstrom,
        **asdict(settings.masks),
        **({"fit": True} if settings.fit else {}),
    }


def _write(
    settings: OccupancyMasksSettings,
    subunits: "list[Subunit]",
    uris: list[str],
    grid: "MapGrid",
    folder: "ResultFolder",
    progress: Progress,
) -> OccupancyMasksResult:
    """Make masks one by one and write them, with their listing and figure."""
    import numpy as np

    from raydrgn.occupancy import masking
    from raydrgn.occupancy.alignment import alignment
    from raydrgn.occupancy.mask_figure import mask_figure

    density, masks = np.zeros_like(grid.volume), []
    for subunit in masking.make_masks(subunits, uris, grid, settings.masks):
        masks.append(masking.write_subunit(folder, subunit, grid))
        density += subunit.density
        progress("masks", len(masks), len(subunits) or len(uris), unit="subunits")
    masking.write_listing(folder, subunits, masks, grid)
    size = grid.pixel_size_angstrom
    folder.write_figure("subunits.png", mask_figure(grid.volume, masks, pixel_size_angstrom=size))
    found = alignment(grid.volume[None], density, pixel_size_angstrom=size)
    if found.warning:
        log.warning(found.warning)
    folder.finish()
    return OccupancyMasksResult(folder=folder, masks=masks, alignment=found)
