"""Integer lattices of Fourier points: the half disc of an image and the half ball of a volume.

A real image has F(-k) = conj F(k), so one of each pair (k, -k) is enough. Which one, and in
which order, is fixed in ``raydrgn.conventions``.
"""

import numpy as np
import torch
from torch import Tensor

from raydrgn.geometry.box import check_box
from raydrgn.shapes import Float, Int


def half_disc(box: int) -> Int[Tensor, "n 2"]:
    """Return the points (kx, ky) with 0 < |k| <= box/2, one of each pair (k, -k).

    Row-major order with ky < 0 first, then ky = 0 with kx < 0: the first half of the disc's points
    in the order in which cryoDRGN's encoder takes its pixels.

    Raises:
        ConfigError: If the box is odd.
    """
    check_box(box)
    half = box // 2
    ticks = np.arange(-half, half + 1)
    y, x = (axis.ravel() for axis in np.meshgrid(ticks, ticks, indexing="ij"))
    kept = (x**2 + y**2 <= half**2) & ((y < 0) | ((y == 0) & (x < 0)))
    return torch.from_numpy(np.stack([x[kept], y[kept]], axis=-1))


def half_ball(box: int, *, radius: float | None = None) -> Int[Tensor, "n 3"]:
    """Return the points (kx, ky, kz) with |k| <= radius, the origin and one of each pair (k, -k).

    Those with kz < 0, then in the plane kz = 0 those of ``half_disc``. ``radius`` is box/2 if not
    given; a box or more gives half of the whole cube.

    Raises:
        ConfigError: If the box is odd.
    """
    check_box(box)
    half = box // 2
    limit = half if radius is None else radius
    ticks = np.arange(-half, half + 1)
    z, y, x = (axis.ravel() for axis in np.meshgrid(ticks[: half + 1], ticks, ticks, indexing="ij"))
    first_half = (z < 0) | (y < 0) | ((y == 0) & (x <= 0))
    kept = (x**2 + y**2 + z**2 <= limit**2) & first_half
    return torch.from_numpy(np.stack([x[kept], y[kept], z[kept]], axis=-1))


def plane_coordinates(points: Int[Tensor, "n 2"], box: int) -> Float[Tensor, "n 3"]:
    """Place lattice points in the image plane, as row vectors (x, y, 0) in cycles per pixel."""
    return torch.nn.functional.pad(points.to(torch.float32) / box, (0, 1))
