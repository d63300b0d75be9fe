"""Masks and reference densities of subunits on the grid of a map."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.fourier.masks import soft_mask
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import AtomicModel
from raydrgn.occupancy.molmap import density_of_atoms
from raydrgn.occupancy.selection import Subunit
from raydrgn.occupancy.subunits import MASK_FOLDER, MASK_PREFIX, REFERENCE_FOLDER, SAME_PIXEL_SIZE
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Bool, Float, Int

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

    @property
    def box(self) -> int:
        """Edge in pixels."""
        return int(self.volume.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskOptions:
    """How masks are made of densities."""

    resolution_angstrom: float = 10.0
    threshold: float | None = None
    """Density that counts; 0.01 for atoms and half of the 99.99th percentile for maps if unset."""

    extend_angstrom: float = 0.0
    soft_angstrom: float = 0.0

    def __post_init__(self) -> None:
        for name, wanted in (
            ("resolution", self.resolution_angstrom),
            ("threshold", self.threshold),
        ):
            if wanted is not None and not 0 < wanted < math.inf:
                raise ConfigError(f"--{name} must be a positive number, got {wanted}.")
        for name, value in (("extend", self.extend_angstrom), ("soft", self.soft_angstrom)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"--{name} must be a number, and not negative, got {value}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeSubunit:
    """Mask and density of a subunit."""

    name: str
    mask: Float[np.ndarray, "d d d"]
    density: Float[np.ndarray, "d d d"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """What is kept in memory of a subunit that was written."""

    name: str
    voxels: Int[np.ndarray, " m"]
    """Those within its mask, by their number in the order of a map's file."""

    density: float
    """Sum of its density."""


def read_grid(
    uri: Uri,
    *,
    origin_angstrom: tuple[float, float, float] | None = None,
    pixel_size_angstrom: float | None = None,
) -> MapGrid:
    """Read a map; its header's origin and pixel size may be replaced.

    Raises:
        InputError: If it does not say its pixel size.
    """
    volume, header = read_volume(uri)
    size = pixel_size_angstrom or header.pixel_size_angstrom
    if not size:
        raise InputError(f"{uri} does not say its pixel size; give it with --pixel-size.")
    return MapGrid(
        uri=uri,
        volume=volume,
        pixel_size_angstrom=size,
        origin_angstrom=header.origin_angstrom if origin_angstrom is None else origin_angstrom,
    )


def check_placement(subunits: Sequence[Subunit], grid: MapGrid) -> str | None:
    """Compare where the atoms are with where the map is; return what is to be warned of.

    Raises:
        InputError: If most of the atoms lie outside the map; says how far off they are, and with
            which origin they would lie inside.
    """
    atoms = np.concatenate(
        [model.positions_angstrom[chosen] for one in subunits for model, chosen in one.parts]
    )
    edge = grid.box * grid.pixel_size_angstrom
    origin = np.array(grid.origin_angstrom)
    beyond = _beyond(atoms - origin, edge)
    outside = int((beyond > 0).sum())
    if outside <= len(atoms) / 2:
        return (
            f"{outside:,} of {len(atoms):,} atoms lie outside the map, up to {beyond.max():.0f} Å; "
            "the box cuts the model."
            if outside
            else None
        )
    centre = (atoms.min(axis=0) + atoms.max(axis=0)) / 2
    off = centre - (origin + edge / 2)
    hint = (
        f"move the model, or say --origin or --pixel-size if the header ({grid.origin_angstrom}, "
        f"{grid.pixel_size_angstrom:.4g} Å) is wrong"
    )
    for other in (np.zeros(3), np.full(3, -edge / 2)):
        if (_beyond(atoms - other, edge) > 0).mean() < 0.01:
            said = ",".join(f"{value:g}" for value in other)
            hint = f"with --origin {said} the model lies inside: the map's header may be wrong"
    raise InputError(
        f"{outside:,} of {len(atoms):,} atoms lie outside {grid.uri}. The map spans {edge:.0f} Å "
        f"from {_place(origin)}; the model's centre is at {_place(centre)}, off that of the map by "
        f"{_place(off)}, {np.linalg.norm(off):.0f} Å. Fit both together: {hint}."
    )


def _beyond(places: Float[np.ndarray, "n 3"], edge: float) -> Float[np.ndarray, " n"]:
    """Return how far places lie outside a box that begins at 0; 0 within."""
    return np.maximum(-places, places - edge).max(axis=1).clip(min=0)


def _place(xyz: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.0f}" for value in xyz) + ") Å"


def _densities(
    subunits: Sequence[Subunit], grid: MapGrid, options: MaskOptions
) -> Iterator[tuple[str, Float[np.ndarray, "d d d"]]]:
    """Give name and density of each subunit."""
    for one in subunits:
        total = np.zeros_like(grid.volume)
        for model, chosen in one.parts:
            total += density_of_atoms(
                model.positions_angstrom[chosen] - np.array(grid.origin_angstrom),
                model.atomic_numbers[chosen],
                resolution_angstrom=options.resolution_angstrom,
                box=grid.box,
                pixel_size_angstrom=grid.pixel_size_angstrom,
            )
        yield one.name, total


def _densities_of_maps(
    uris: Sequence[Uri], grid: MapGrid
) -> Iterator[tuple[str, Float[np.ndarray, "d d d"]]]:
    """Give name and density of each subunit that is a map itself.

    Raises:
        InputError: If one is on another grid.
    """
    for uri in uris:
        volume, header = read_volume(uri)
        size = header.pixel_size_angstrom or grid.pixel_size_angstrom
        same = math.isclose(size, grid.pixel_size_angstrom, rel_tol=SAME_PIXEL_SIZE)
        if volume.shape != grid.volume.shape or not same:
            raise InputError(
                f"{uri} has a box of {volume.shape[0]} px of {size:.4g} Å, but {grid.uri} has "
                f"{grid.box} px of {grid.pixel_size_angstrom:.4g} Å; bring it to that grid first."
            )
        yield name_of_map(uri), volume


def name_of_map(uri: Uri) -> str:
    """Return the name of a subunit that is given by a map or a mask."""
    return PurePosixPath(uri).stem.removeprefix(MASK_PREFIX)


def make_masks(
    subunits: Sequence[Subunit], maps: Sequence[Uri], grid: MapGrid, options: MaskOptions
) -> Iterator[MadeSubunit]:
    """Give mask and density of each subunit: of atoms, or, where there are none, of maps.

    Raises:
        InputError: If a mask would be empty, names the subunit; or if a map is on another grid.
    """
    threshold = options.threshold
    if subunits and threshold is None:
        threshold = MODEL_THRESHOLD
    made = _densities(subunits, grid, options) if subunits else _densities_of_maps(maps, grid)
    for name, density in made:
        mask = soft_mask(
            density,
            pixel_size_angstrom=grid.pixel_size_angstrom,
            dilate_angstrom=options.extend_angstrom,
            edge_angstrom=options.soft_angstrom,
            threshold=threshold,
        )
        if not density.any() or not mask.any():
            raise InputError(
                f"The mask of {name} would be empty: its density reaches {density.max():.3g}, and "
                f"voxels count from {threshold if threshold is not None else 'half of that'} on. "
                "Lower --threshold, or see whether the subunit lies in the map."
            )
        yield MadeSubunit(name=name, mask=mask, density=density)


def write_subunit(folder: ResultFolder, one: MadeSubunit, grid: MapGrid) -> Outline:
    """Write mask and reference density of a subunit, in the frame of the map."""
    for place, volume in (
        (folder.at(MASK_FOLDER, f"{MASK_PREFIX}{one.name}.mrc"), one.mask),
        (folder.at(REFERENCE_FOLDER, f"{one.name}.mrc"), one.density),
    ):
        write_volume(
            place,
            volume,
            pixel_size_angstrom=grid.pixel_size_angstrom,
            origin_angstrom=grid.origin_angstrom,
        )
    return Outline(
        name=one.name,
        voxels=np.flatnonzero(one.mask.reshape(-1) > 0.5),
        density=float(one.density.sum()),
    )


def listing(subunits: Sequence[Subunit], made: Sequence[Outline], grid: MapGrid) -> str:
    """Return as JSON which atoms and how many voxels each subunit has.

    ``parts`` name a file and the atoms in it as ChimeraX specifies them, without the model's
    number, such as ``/A:10-50``.
    """
    parts = {
        one.name: [
            {"model": model.uri, "atoms": int(chosen.sum()), "chimerax": _chimerax(model, chosen)}
            for model, chosen in one.parts
        ]
        for one in subunits
    }
    return json.dumps(
        {
            "map": grid.uri,
            "pixel_size_angstrom": grid.pixel_size_angstrom,
            "origin_angstrom": grid.origin_angstrom,
            "subunits": [
                {
                    "name": one.name,
                    "voxels": len(one.voxels),
                    "density": one.density,
                    "parts": parts.get(one.name, []),
                }
                for one in made
            ],
        },
        indent=1,
    )


def _chimerax(model: AtomicModel, chosen: Bool[np.ndarray, " n"]) -> str:
    """Return atoms as ChimeraX specifies them: whole chains, or runs of residues."""
    found = []
    for chain in model.chain_names():
        own = model.chains == chain
        here = own & chosen
        if not here.any():
            continue
        if (own == here).all():
            found.append(f"/{chain}")
            continue
        numbers, every = np.unique(model.residues[here]), np.unique(model.residues[own])
        places = np.searchsorted(every, numbers)
        runs = np.split(numbers, np.flatnonzero(np.diff(places) > 1) + 1)
        said = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
        found.append(f"/{chain}:{','.join(said)}")
    return " ".join(found)
