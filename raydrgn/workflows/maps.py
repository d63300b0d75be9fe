"""``fsc``, ``flip`` and ``invert``: two maps correlated; a map of opposite hand or sign."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds, check_map_name

if TYPE_CHECKING:
    from raydrgn.inputs.map_pairs import MapCorrelation
    from raydrgn.reporting.result_folder import ResultFolder


@dataclass(frozen=True, kw_only=True)
class FscSettings:
    """Settings of ``fsc``."""

    first: Annotated[str, Setting("Map (.mrc).", is_argument=True, metavar="A")]

    second: Annotated[str, Setting("Map on the same grid.", is_argument=True, metavar="B")]

    mask: Annotated[
        str | None,
        Setting("Mask on the same grid, from 0 to 1; what it adds to the correlation is removed."),
    ] = None

    pixel_size_angstrom: Annotated[
        float | None,
        Setting("Pixel size, Å, instead of that in the maps.", flags=("--pixel-size",), above=0),
    ] = None

    out: Annotated[
        str | None, Setting("Folder for fsc.csv and fsc.png.", flags=("-o", "--out"))
    ] = None

    overwrite: Annotated[bool, Setting("Replace earlier results in the folder.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class FscResult:
    """The correlation of two maps."""

    correlation: "MapCorrelation"
    folder: "ResultFolder | None"
    """None where no folder was asked for."""

    relation: str | None
    """That the maps agree but for sign or hand; None if they do not."""

    def lines(self) -> list[str]:
        """Return in words the resolution at each threshold."""
        from raydrgn.inputs.map_pairs import describe

        return [*describe(self.correlation), *([self.relation] if self.relation else [])]


@dataclass(frozen=True, kw_only=True)
class FlipSettings:
    """Settings of ``flip``."""

    map: Annotated[str, Setting("Map (.mrc).", is_argument=True)]

    out: Annotated[str, Setting("Map to write: .mrc or .map.", flags=("-o", "--out"))]

    def __post_init__(self) -> None:
        check_bounds(self)
        check_map_name(self.out)


@dataclass(frozen=True, kw_only=True)
class InvertSettings:
    """Settings of ``invert``."""

    map: Annotated[str, Setting("Map (.mrc).", is_argument=True)]

    out: Annotated[str, Setting("Map to write: .mrc or .map.", flags=("-o", "--out"))]

    def __post_init__(self) -> None:
        check_bounds(self)
        check_map_name(self.out)


@dataclass(frozen=True, kw_only=True)
class MapResult:
    """A map that was written."""

    out: str
    box: int
    pixel_size_angstrom: float
    """0 where the header had none."""


def run_fsc(
    settings: FscSettings, *, executor: Executor = IN_PROCESS, progress: Progress = silent
) -> FscResult:
    """Correlate two maps shell by shell.

    Raises:
        RaydrgnError: If the maps or the mask are on different grids, or the folder is in the way.
    """
    from raydrgn.inputs.map_pairs import correlate, read_pair, relation, write_correlation
    from raydrgn.io import storage
    from raydrgn.reporting.result_folder import ResultFolder

    pair = read_pair(
        settings.first,
        settings.second,
        settings.mask,
        pixel_size_angstrom=settings.pixel_size_angstrom,
    )
    folder = None if settings.out is None else ResultFolder(settings.out)
    if folder is not None:
        folder.require_writable()
    found = correlate(pair)
    if folder is not None:
        read = [uri for uri in (settings.first, settings.second, settings.mask) if uri]
        record = {storage.absolute(uri): storage.checksum(storage.read_bytes(uri)) for uri in read}
        folder.begin(
            {"command": "fsc", "maps": record, "pixel_size_angstrom": found.pixel_size_angstrom},
            made_from=None,
            overwrite=settings.overwrite,
        )
        write_correlation(found, folder)
        folder.finish()
    return FscResult(correlation=found, folder=folder, relation=relation(pair, found))


def run_flip(
    settings: FlipSettings, *, executor: Executor = IN_PROCESS, progress: Progress = silent
) -> MapResult:
    """Write a map of opposite handedness: the order of its z slices reversed.

    Raises:
        RaydrgnError: If the map cannot be read, or the output would replace it.
    """
    return _write_changed(settings.map, settings.out, flip=True)


def run_invert(
    settings: InvertSettings, *, executor: Executor = IN_PROCESS, progress: Progress = silent
) -> MapResult:
    """Write a map of opposite sign.

    Raises:
        RaydrgnError: If the map cannot be read, or the output would replace it.
    """
    return _write_changed(settings.map, settings.out, flip=False)


def _write_changed(uri: str, out: str, *, flip: bool) -> MapResult:
    from raydrgn.io import storage
    from raydrgn.io.mrc import read_volume, write_volume

    storage.refuse_to_replace(out, [uri])
    volume, header = read_volume(uri)
    write_volume(
        out,
        volume[::-1] if flip else -volume,
        pixel_size_angstrom=header.pixel_size_angstrom,
        origin_angstrom=header.stored_origin_angstrom,
        start_px=header.start_px,
    )
    return MapResult(out=out, box=len(volume), pixel_size_angstrom=header.pixel_size_angstrom)
