"""Masks and reference densities of subunits on the grid of a map."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import InputError
from raydrgn.fourier.masks import soft_mask
from raydrgn.fourier.peaks import PEAK_PERCENTILE
from raydrgn.io import storage
from raydrgn.io.masks import SAME_PIXEL_SIZE
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.io.storage import Uri
from raydrgn.occupancy.molmap import density_of_atoms
from raydrgn.occupancy.options import MaskOptions
from raydrgn.occupancy.selection import Subunit
from raydrgn.occupancy.subunits import MASK_FOLDER, MASK_PREFIX, REFERENCE_FOLDER
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

MODEL_THRESHOLD = 0.01
"""Density, in atomic numbers per Å³, from which a voxel belongs to a subunit made of atoms."""

LISTING_NAME = "subunits.json"
"""Which atoms of which files each subunit is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapGrid:
    """The grid of the maps to score, and one of them."""

    uri: Uri
    volume: Float[np.ndarray, "d d d"]
    pixel_size_angstrom: float
    origin_angstrom: tuple[float, float, float]
    """Position (x, y, z) of the first voxel in the model's frame."""

    header_angstrom: float
    """Pixel size in the map's header, which may be wrong; 0 where it has none."""

    @property
    def box(self) -> int:
        """Edge in pixels."""
        return int(self.volume.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class SubunitMask:
    """Mask and reference density of a subunit."""

    name: str
    mask: Float[np.ndarray, "d d d"]
    density: Float[np.ndarray, "d d d"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSummary:
    """Summary of a mask and a reference density that were written."""

    name: str
    voxels: Int[np.ndarray, " m"]
    """Voxels within the mask, by their number in the order of a map's file."""

    density: float
    """Sum of the reference density."""


def read_grid(
    uri: Uri,
    *,
    origin_angstrom: tuple[float, float, float] | None = None,
    pixel_size_angstrom: float | None = None,
) -> MapGrid:
    """Read a map; its header's origin and pixel size may be replaced.

    A position that the header has as a number of voxels is of the pixel size that is given.

    Raises:
        InputError: If it has no pixel size.
    """
    volume, header = read_volume(uri)
    size = pixel_size_angstrom or header.pixel_size_angstrom
    if not size:
        raise InputError(f"{uri} has no pixel size in its header. Give it with --pixel-size.")
    return MapGrid(
        uri=uri,
        volume=volume,
        pixel_size_angstrom=size,
        origin_angstrom=header.origin_at(size) if origin_angstrom is None else origin_angstrom,
        header_angstrom=header.pixel_size_angstrom,
    )


def check_placement(subunits: Sequence[Subunit], grid: MapGrid) -> str | None:
    """Compare the positions of atoms with the extent of the map.

    Returns:
        A warning if some of the atoms lie outside the map.

    Raises:
        InputError: If most of the atoms lie outside the map: how far, and with which origin they
            would lie inside.
    """
    atoms = np.concatenate(
        [
            model.positions_angstrom[chosen]
            for subunit in subunits
            for model, chosen in subunit.parts
        ]
    )
    edge = grid.box * grid.pixel_size_angstrom
    origin = np.array(grid.origin_angstrom)
    beyond = _beyond(atoms - origin, edge)
    outside = int((beyond > 0).sum())
    if outside <= len(atoms) / 2:
        return (
            f"{outside:,} of {len(atoms):,} atoms lie outside the map, up to {beyond.max():.0f} Å: "
            "the box is smaller than the model."
            if outside
            else None
        )
    centre = (atoms.min(axis=0) + atoms.max(axis=0)) / 2
    offset = centre - (origin + edge / 2)
    remedy = (
        "Give --fit, to have the model moved into the map. If the header of the map "
        f"({grid.origin_angstrom}, {grid.pixel_size_angstrom:.4g} Å) is wrong, give --origin or "
        "--pixel-size."
    )
    for other in (np.zeros(3), np.full(3, -edge / 2)):
        if (_beyond(atoms - other, edge) > 0).mean() < 0.01:
            given = ",".join(f"{value:g}" for value in other)
            remedy = (
                f"The origin in the header of the map may be wrong: with --origin {given} the "
                "model lies inside."
            )
    raise InputError(
        f"{outside:,} of {len(atoms):,} atoms lie outside {grid.uri}. The map extends {edge:.0f} Å "
        f"from {_point(origin)}. The centre of the model is at {_point(centre)}, "
        f"{np.linalg.norm(offset):.0f} Å from the centre of the map, by {_point(offset)}. {remedy}"
    )


def _beyond(positions: Float[np.ndarray, "n 3"], edge: float) -> Float[np.ndarray, " n"]:
    """Return how far positions lie outside a box that begins at 0; 0 within."""
    return np.maximum(-positions, positions - edge).max(axis=1).clip(min=0)


def _point(xyz: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.0f}" for value in xyz) + ") Å"


def _densities(
    subunits: Sequence[Subunit], grid: MapGrid, options: MaskOptions
) -> Iterator[tuple[str, Float[np.ndarray, "d d d"]]]:
    """Yield name and density of each subunit."""
    for subunit in subunits:
        total = np.zeros_like(grid.volume)
        for model, chosen in subunit.parts:
            total += density_of_atoms(
                model.positions_angstrom[chosen] - np.array(grid.origin_angstrom),
                model.atomic_numbers[chosen],
                resolution_angstrom=options.resolution_angstrom,
                box=grid.box,
                pixel_size_angstrom=grid.pixel_size_angstrom,
            )
        yield subunit.name, total


def _densities_of_maps(
    uris: Sequence[Uri], grid: MapGrid
) -> Iterator[tuple[str, Float[np.ndarray, "d d d"]]]:
    """Yield name and density of each subunit that is a map itself.

    Its header may have the pixel size of the grid, or that of the grid's own header: where that is
    wrong, it is in maps of one origin.

    Raises:
        InputError: If one is on another grid.
    """
    for uri in uris:
        volume, header = read_volume(uri)
        size = header.pixel_size_angstrom or grid.pixel_size_angstrom
        same = any(
            math.isclose(size, other, rel_tol=SAME_PIXEL_SIZE)
            for other in (grid.pixel_size_angstrom, grid.header_angstrom)
        )
        if volume.shape != grid.volume.shape or not same:
            raise InputError(
                f"{uri} has a box of {volume.shape[0]} px of {size:.4g} Å, but {grid.uri} has "
                f"{grid.box} px of {grid.pixel_size_angstrom:.4g} Å. Resample it to that grid."
            )
        yield name_of_map(uri), volume


def name_of_map(uri: Uri) -> str:
    """Return the name of a subunit that is given by a map or a mask."""
    return PurePosixPath(uri).stem.removeprefix(MASK_PREFIX)


def make_masks(
    subunits: Sequence[Subunit], maps: Sequence[Uri], grid: MapGrid, options: MaskOptions
) -> Iterator[SubunitMask]:
    """Yield mask and density of each subunit: of atoms, or, where there are none, of maps.

    Raises:
        InputError: If the mask of a subunit is empty, or a map is on another grid.
    """
    threshold = options.threshold
    if subunits and threshold is None:
        threshold = MODEL_THRESHOLD
    densities = _densities(subunits, grid, options) if subunits else _densities_of_maps(maps, grid)
    for name, density in densities:
        mask = soft_mask(
            density,
            pixel_size_angstrom=grid.pixel_size_angstrom,
            dilate_angstrom=options.extend_angstrom,
            edge_angstrom=options.soft_angstrom,
            threshold=threshold,
        )
        if not density.any() or not mask.any():
            half = f"half of the {PEAK_PERCENTILE:g}th percentile of the density"
            raise InputError(
                f"The mask of {name} is empty: the largest density is {density.max():.3g}, and "
                f"the threshold is {half if threshold is None else threshold}. "
                "Lower --threshold, or check that the subunit lies inside the map."
            )
        yield SubunitMask(name=name, mask=mask, density=density)


def write_subunit(folder: ResultFolder, subunit: SubunitMask, grid: MapGrid) -> MaskSummary:
    """Write mask and reference density of a subunit, in the frame of the map."""
    for uri, volume in (
        (folder.at(MASK_FOLDER, f"{MASK_PREFIX}{subunit.name}.mrc"), subunit.mask),
        (folder.at(REFERENCE_FOLDER, f"{subunit.name}.mrc"), subunit.density),
    ):
        write_volume(
            uri,
            volume,
            pixel_size_angstrom=grid.pixel_size_angstrom,
            origin_angstrom=grid.origin_angstrom,
        )
    return MaskSummary(
        name=subunit.name,
        voxels=np.flatnonzero(subunit.mask.reshape(-1) > 0.5),
        density=float(subunit.density.sum()),
    )


def write_listing(
    folder: ResultFolder,
    subunits: Sequence[Subunit],
    written: Sequence[MaskSummary],
    grid: MapGrid,
) -> None:
    """Write ``subunits.json``: which atoms and how many voxels each subunit has.

    ``parts`` name a file and the atoms in it as ChimeraX specifies them, without the model's
    number, such as ``/A:10-50``.
    """
    parts = {
        subunit.name: [
            {"model": model.uri, "atoms": int(chosen.sum()), "chimerax": model.chimerax(chosen)}
            for model, chosen in subunit.parts
        ]
        for subunit in subunits
    }
    text = json.dumps(
        {
            "map": grid.uri,
            "pixel_size_angstrom": grid.pixel_size_angstrom,
            "origin_angstrom": grid.origin_angstrom,
            "subunits": [
                {
                    "name": mask.name,
                    "voxels": len(mask.voxels),
                    "density": mask.density,
                    "parts": parts.get(mask.name, []),
                }
                for mask in written
            ],
        },
        indent=1,
    )
    storage.write_bytes(folder.at(LISTING_NAME), text.encode())
