"""``raydrgn occupancy masks``."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.options import Overwrite, positive

if TYPE_CHECKING:
    from raydrgn.occupancy.masking import MapGrid, MaskOptions
    from raydrgn.occupancy.selection import Subunit
    from raydrgn.reporting.result_folder import ResultFolder

YAML_SUFFIXES = (".yaml", ".yml")


def masks(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…", help="Atomic models (PDB, mmCIF), or maps (.mrc) of one subunit each."
        ),
    ],
    map_: Annotated[
        str, typer.Option("--map", help="A map on the grid of those to score, fitted to the model.")
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder to write.")],
    by: Annotated[
        str,
        typer.Option(
            metavar="chain|file|FILE.yaml",
            help="What a subunit is: a chain, a file, or what a YAML file names.",
        ),
    ] = "chain",
    resolution: Annotated[float, typer.Option(help="Of the densities of atoms, Å.")] = 10.0,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Density that counts; 0.01 for atoms by default, and for maps half of their "
            "99.99th percentile."
        ),
    ] = None,
    extend: Annotated[
        float, typer.Option(help="How far masks reach beyond the density, Å; whole pixels.")
    ] = 0.0,
    soft: Annotated[float, typer.Option(help="Width of a cosine edge beyond that, Å.")] = 0.0,
    origin: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Place of the map's first voxel, Å, if not as it says."),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(callback=positive, help="Of the map, Å, if not as it says.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make the mask and the reference density of each subunit of an atomic model.

    Writes OUT/masks/Mask_NAME.mrc, OUT/reference/NAME.mrc, OUT/subunits.json (which atoms each is)
    and OUT/subunits.png, the outlines on slices of the map. Densities are those of ChimeraX's
    molmap.

    A YAML file names selections: `uL1: A`, `H68: AA:1852-1893`, `stalk: [G, {chains: [H, I],
    residues: [1-60]}]`, `core: {chain: C, secondary: helix}`; also `helices`, `sheets` (by their
    number in the file) and `file`.
    """
    from dataclasses import asdict

    from raydrgn.io import storage
    from raydrgn.occupancy import masking
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.occupancy.table import check_subunit_names
    from raydrgn.reporting.result_folder import ResultFolder

    uris = [storage.absolute(uri) for uri in models]
    options = masking.MaskOptions(
        resolution_angstrom=resolution,
        threshold=threshold,
        extend_angstrom=extend,
        soft_angstrom=soft,
    )
    grid = masking.read_grid(
        storage.absolute(map_), origin_angstrom=_origin(origin), pixel_size_angstrom=pixel_size
    )
    refuse_inputs(out, [*uris, grid.uri])
    subunits = _subunits(uris, by, grid)
    check_subunit_names([one.name for one in subunits] or [masking.name_of_map(u) for u in uris])
    read = [*uris, grid.uri, *([by] if by.endswith(YAML_SUFFIXES) else [])]
    settings = {
        "models": uris,
        "map": grid.uri,
        "by": by,
        "contents": [storage.checksum(storage.read_bytes(uri)) for uri in read],
        "origin": grid.origin_angstrom,
        "pixel_size": grid.pixel_size_angstrom,
    }
    folder = ResultFolder(out)
    folder.begin(settings | asdict(options), overwrite=overwrite)
    _write(folder, subunits, uris, grid, options)


def _write(
    folder: "ResultFolder",
    subunits: "list[Subunit]",
    uris: Sequence[str],
    grid: "MapGrid",
    options: "MaskOptions",
) -> None:
    """Write masks, references, what they are and where they lie; say how model and map fit."""
    import numpy as np

    from raydrgn.io import storage
    from raydrgn.occupancy import masking
    from raydrgn.occupancy.alignment import alignment
    from raydrgn.occupancy.outlines import outline_figure

    total, outlines = np.zeros_like(grid.volume), []
    count = len(subunits) or len(uris)
    with metering("subunits") as meter:
        for one in masking.make_masks(subunits, uris, grid, options):
            outlines.append(masking.write_subunit(folder, one, grid))
            total += one.density
            meter.show("masks", len(outlines), count)
    listed = masking.listing(subunits, outlines, grid)
    storage.write_bytes(folder.at(masking.LISTING_NAME), listed.encode())
    size = grid.pixel_size_angstrom
    folder.write_figure(
        "subunits.png", outline_figure(grid.volume, outlines, pixel_size_angstrom=size)
    )
    found = alignment(grid.volume[None], total, pixel_size_angstrom=size)
    if found.complaint():
        _warn(str(found.complaint()))
    voxels = sorted(len(one.voxels) for one in outlines)
    console.print(
        f"{count} subunits of {voxels[0]}–{voxels[-1]} voxels → {folder.uri}; the map correlates "
        f"with the model at {found.correlation:.2f}",
        highlight=False,
        soft_wrap=True,
    )


def _subunits(uris: Sequence[str], by: str, grid: "MapGrid") -> "list[Subunit]":
    """Return the subunits of atomic models; none where maps are given."""
    from raydrgn.errors import ConfigError
    from raydrgn.occupancy import masking, selection
    from raydrgn.occupancy.atomic_models import MODEL_SUFFIXES, is_model, read_model

    atomic = [is_model(uri) for uri in uris]
    if not any(atomic):
        if any(not uri.endswith((".mrc", ".map")) for uri in uris):
            raise ConfigError(
                f"{uris[0]} is neither an atomic model ({', '.join(MODEL_SUFFIXES)}) nor a map "
                "(.mrc, .map)."
            )
        return []
    if not all(atomic):
        raise ConfigError("Give atomic models or maps, not both at once.")
    read = [read_model(uri) for uri in uris]
    if by == "chain":
        subunits = selection.by_chain(read)
    elif by == "file":
        subunits = selection.by_file(read)
    elif by.endswith(YAML_SUFFIXES):
        subunits = selection.by_selection(by, read)
    else:
        raise ConfigError(f"--by is chain, file or the name of a .yaml file, not {by!r}.")
    warning = masking.check_placement(subunits, grid)
    if warning:
        _warn(warning)
    return subunits


def _origin(text: str | None) -> tuple[float, float, float] | None:
    from raydrgn.errors import ConfigError

    if text is None:
        return None
    try:
        x, y, z = map(float, text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(f"--origin takes three numbers, as 0,0,0; got {text!r}.") from error
    if not all(map(math.isfinite, (x, y, z))):
        raise ConfigError(f"--origin takes finite numbers, got {text!r}.")
    return x, y, z


def _warn(what: str) -> None:
    messages.print(f"[bold yellow]warning:[/] {what}", highlight=False, soft_wrap=True)
