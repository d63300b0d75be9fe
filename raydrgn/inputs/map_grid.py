"""A map on the grid of volumes whose box and pixel size are others than the map's."""

import math

import torch

from raydrgn.inputs.comparison import on_lattice
from raydrgn.io.mrc import read_header, read_volume, write_volume
from raydrgn.io.storage import Uri

SAME_FIELD = 1e-3
"""Relative difference up to which two fields (box × pixel size) are the same."""


def has_field(uri: Uri, field_angstrom: float) -> bool:
    """Return whether box × pixel size of a map is ``field_angstrom``."""
    header = read_header(uri)
    own = header.shape[-1] * header.pixel_size_angstrom
    return math.isclose(own, field_angstrom, rel_tol=SAME_FIELD)


def write_on_grid(uri: Uri, out: Uri, *, box: int, field_angstrom: float) -> None:
    """Write a map on the grid of volumes with another field, about the same centre.

    Atoms of a model in the map lie where they did: the origin in the header is that of the new
    first voxel. Where the new grid reaches beyond the map, its density is 0.

    Args:
        uri: The map.
        out: File to write.
        box: Of the grid, px.
        field_angstrom: Box × pixel size of the grid.
    """
    volume, header = read_volume(uri)
    old_box, old_size = volume.shape[-1], header.pixel_size_angstrom
    size = field_angstrom / box
    scale = field_angstrom / (old_box * old_size)
    moved = on_lattice(torch.from_numpy(volume), scale=scale, box=box).numpy()
    moved *= (old_size / size) ** 3  # on_lattice keeps transforms, and so sums, as they are
    corner = old_box // 2 * old_size - box // 2 * size  # of the centre, to the new first voxel
    x, y, z = (position + corner for position in header.origin_angstrom)
    write_volume(out, moved, pixel_size_angstrom=size, origin_angstrom=(x, y, z))
