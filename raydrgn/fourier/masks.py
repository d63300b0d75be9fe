"""Soft masks: from maps by threshold and dilation, and of plain shape."""

import math

import numpy as np
from scipy import ndimage

from raydrgn.fourier.peaks import contour_level, peak_density
from raydrgn.shapes import Float


def soft_mask(
    volume: Float[np.ndarray, "d d d"],
    *,
    pixel_size_angstrom: float,
    dilate_angstrom: float = 25.0,
    edge_angstrom: float = 15.0,
    threshold: float | None = None,
) -> Float[np.ndarray, "d d d"]:
    """Return a mask of a map's density, 1 inside, falling as a cosine over its edge.

    The voxels above the threshold are grown by steps to the six neighbours, one for each whole
    pixel of ``dilate_angstrom``; the edge follows the Euclidean distance to them.

    Args:
        volume: Density.
        pixel_size_angstrom: Edge of a voxel.
        dilate_angstrom: How far the mask reaches beyond the density.
        edge_angstrom: Width of the soft edge; 0 gives a binary mask.
        threshold: Density that counts; half of the peak if not given.
    """
    level = contour_level(peak_density(volume)) if threshold is None else threshold
    inside = volume >= level
    steps = int(dilate_angstrom // pixel_size_angstrom)
    if steps:
        inside = ndimage.binary_dilation(inside, iterations=steps)
    width = edge_angstrom / pixel_size_angstrom
    if width <= 0:
        return inside.astype(np.float32)
    distance = np.minimum(ndimage.distance_transform_edt(~inside), width)
    return np.cos(math.pi / 2 * distance / width).round(6).astype(np.float32)


def soft_sphere(box: int, *, edge_px: float = 3.0) -> Float[np.ndarray, "d d d"]:
    """Return 1 within the largest sphere about the centre voxel, less a cosine edge."""
    ticks = np.arange(-(box // 2), box // 2)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    inside = box // 2 - 1 - edge_px
    beyond = np.clip((np.sqrt(x**2 + y**2 + z**2) - inside) / edge_px, 0, 1)
    return np.cos(math.pi / 2 * beyond).astype(np.float32)
