"""Masks in files: which voxels of a grid they hold, and whether volumes are on that grid."""

import math
from dataclasses import dataclass

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.mrc import MrcHeader, read_volume
from raydrgn.io.storage import Uri
from raydrgn.shapes import Bool, Float

INSIDE = 0.5
"""Value of a soft mask from which a voxel is inside."""

OUTSIDE_RANGE = 1e-3
"""How far values of a mask may lie outside 0 to 1."""

SAME_PIXEL_SIZE = 2e-3
"""Relative difference of pixel sizes that rounding in headers explains."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A region of the grid of some volumes."""

    uri: Uri
    inside: Bool[np.ndarray, "d d d"]
    pixel_size_angstrom: float
    """0 where the file does not contain it."""

    origin_angstrom: tuple[float, float, float]

    @property
    def box(self) -> int:
        """Edge of the grid, voxels."""
        return len(self.inside)

    @property
    def num_voxels(self) -> int:
        """Voxels inside."""
        return int(self.inside.sum())

    def check_grid(
        self, box: int, pixel_size_angstrom: float, *, what: str, remedy: str = ""
    ) -> None:
        """Refuse volumes of another grid; an unknown pixel size (0) fits any.

        Args:
            box: Edge of the volumes, voxels.
            pixel_size_angstrom: Of the volumes.
            what: The volume, as the message names it.
            remedy: What the user can do, instead of another mask.

        Raises:
            InputError: With both grids.
        """
        volumes, own = (box, pixel_size_angstrom), (self.box, self.pixel_size_angstrom)
        if not is_same_grid(volumes, own):
            raise InputError(
                f"{what} has {describe_grid(*volumes)}, but the mask {self.uri} has "
                f"{describe_grid(*own)}. {remedy}Make the mask of a map on the grid of the "
                "volumes: `raydrgn occupancy masks MAP --map MAP -o OUT`."
            )

    def in_box(self, values: Float[np.ndarray, " m"]) -> Float[np.ndarray, "d d d"]:
        """Return a volume with these values inside the mask, and 0 outside."""
        return in_box(values, self.inside)


def in_box(
    values: Float[np.ndarray, " m"], inside: Bool[np.ndarray, "d d d"]
) -> Float[np.ndarray, "d d d"]:
    """Return a volume with these values inside a mask, and 0 outside."""
    volume = np.zeros(inside.shape, dtype=np.float32)
    volume[inside] = values
    return volume


def read_mask(uri: Uri) -> Mask:
    """Read a mask with values from 0 to 1; voxels of 0.5 and more are inside.

    Raises:
        InputError: If it is empty, or has other values, as a map has that is not a mask.
    """
    return read_soft_mask(uri)[0]


def read_soft_mask(uri: Uri) -> tuple[Mask, Float[np.ndarray, "d d d"]]:
    """Read a mask as ``read_mask`` does, and its values, from 0 to 1.

    Raises:
        InputError: As ``read_mask``.
    """
    volume, header = read_volume(uri)
    inside = volume >= INSIDE
    if not inside.any():
        raise InputError(f"{uri} has no voxel of {INSIDE:g} or more: it is empty, or not a mask.")
    check_range(uri, volume)
    return _of(header, inside), np.clip(volume, 0, 1).astype(np.float32)


def read_region(uri: Uri) -> Mask:
    """Read a map of any scale as a mask; voxels above half of its maximum are inside.

    Raises:
        InputError: If no voxel is positive.
    """
    volume, header = read_volume(uri)
    highest = float(volume.max())
    if not highest > 0:
        raise InputError(
            f"The mask {uri} is empty: its highest value is {highest:g}, and voxels above half of "
            "a positive maximum are counted."
        )
    return _of(header, volume > highest / 2)


def _of(header: MrcHeader, inside: Bool[np.ndarray, "d d d"]) -> Mask:
    return Mask(header.uri, inside, header.pixel_size_angstrom, header.origin_angstrom)


def is_same_grid(first: tuple[int, float], second: tuple[int, float]) -> bool:
    """Return whether two boxes (px) and pixel sizes (Å) are alike; an unknown size (0) fits any."""
    sizes = (first[1], second[1])
    is_close = not all(sizes) or math.isclose(*sizes, rel_tol=SAME_PIXEL_SIZE)
    return first[0] == second[0] and is_close


def describe_grid(box: int, pixel_size_angstrom: float) -> str:
    """Return a grid in words."""
    size = f"{pixel_size_angstrom:.4g} Å" if pixel_size_angstrom else "unknown size"
    return f"a box of {box} px with pixels of {size}"


def check_range(uri: Uri, values: Float[np.ndarray, "d d d"]) -> None:
    """Refuse values that are not those of a mask.

    Raises:
        InputError: If some lie outside 0 to 1.
    """
    if values.max() > 1 + OUTSIDE_RANGE or values.min() < -OUTSIDE_RANGE:
        raise InputError(
            f"{uri} has values from {values.min():.3g} to {values.max():.3g}, but a mask is "
            "between 0 and 1. Make one of a map with "
            "`raydrgn occupancy masks MAP --map MAP -o OUT`."
        )
