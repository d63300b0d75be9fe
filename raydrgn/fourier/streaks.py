"""Streaks: density outside a particle that goes on along rays, or along parallel lines.

Decoders draw them where few particles support a latent, as does a back-projection of few images.
"""

import numpy as np
import torch
from scipy import fft, ndimage

from raydrgn.fourier.resample import resample
from raydrgn.shapes import Bool, Float

BOX = 64
"""Larger volumes are measured at this box."""

CLEAR_STREAKS = 0.6
"""Correlation from which there are streaks: smooth noise exceeded it once in 12."""

LEAST_SD = 0.01
"""SD of the density outside, over the peak, below which streaks would not be seen."""

PARTICLE, MARGIN_PX = 0.25, 3
"""Share of the peak from which a voxel is of the particle, and how far that reaches beyond it."""

DIRECTIONS = 600
STEP_PX = 0.5
"""Distance of samples on a ray."""

SHORTEST_PX = 6
"""Length of the rays that are compared, outside the particle; of a tenth of all at least."""


def streaks(volume: Float[np.ndarray, "d d d"], peak: float) -> float:
    """Return how far density outside a particle goes on along lines: 0 for noise, up to 1.

    It is the larger of two correlations of the density outside, less its mean at each radius, up to
    the largest sphere in the box. Radial: between the means over the first and over the last third
    of a ray from the centre, over all directions. Directional: of the density with itself,
    displaced along a line by a sixth to a third of the box, in the direction of the highest.

    Args:
        volume: Density, positive.
        peak: Its peak.

    Returns:
        The correlation; 0 where the density outside is flat, and NaN where the particle leaves no
        room to measure it.
    """
    if len(volume) > BOX:
        small = resample(torch.from_numpy(volume.astype(np.float32)), box=BOX, ndim=3).numpy()
        volume = (BOX / len(volume)) ** 3 * small
    outside, density = _outside(volume.astype(np.float64), peak)
    if outside.sum() < 0.05 * outside.size:
        return float("nan")
    variance = float(np.mean(density[outside] ** 2))
    if np.sqrt(variance) < LEAST_SD * peak:
        return 0.0
    found = max(_along_rays(outside, density), _along_lines(outside, density) / variance)
    return min(max(found, 0.0), 1.0)


def _outside(
    volume: Float[np.ndarray, "d d d"], peak: float
) -> tuple[Bool[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]]:
    """Return which voxels are outside the particle, and their density less its radial mean."""
    centre = len(volume) // 2
    radius = np.sqrt(((np.indices(volume.shape) - centre) ** 2).sum(axis=0))
    particle = ndimage.binary_dilation(volume >= PARTICLE * peak, iterations=MARGIN_PX)
    outside = ~particle & (radius < centre - 1)
    shell = radius.astype(int)
    count = np.bincount(shell[outside], minlength=shell.max() + 1)
    total = np.bincount(shell[outside], volume[outside], minlength=shell.max() + 1)
    return outside, np.where(outside, volume - (total / np.maximum(count, 1))[shell], 0)


def _along_rays(outside: Bool[np.ndarray, "d d d"], density: Float[np.ndarray, "d d d"]) -> float:
    """Return the correlation of the beginnings and the ends of rays, beyond the particle."""
    centre = len(density) // 2
    steps = np.arange(1, centre - 1, STEP_PX)
    points = centre + _directions()[:, :, None] * steps  # (3 n r)
    values = ndimage.map_coordinates(density, points, order=1)
    is_outside = ndimage.map_coordinates(outside.astype(np.float32), points, order=0) > 0.5
    beyond = np.logical_and.accumulate(is_outside[:, ::-1], axis=1).sum(axis=1)  # samples
    long = beyond >= SHORTEST_PX / STEP_PX
    if long.sum() < DIRECTIONS / 10:
        return 0.0
    third, begin = (beyond[long] // 3)[:, None], (len(steps) - beyond[long])[:, None]
    number = np.arange(len(steps))
    first = (number >= begin) & (number < begin + third)
    last = number >= len(steps) - third
    means = [np.where(part, values[long], 0).sum(axis=1) / third[:, 0] for part in (first, last)]
    if min(mean.std() for mean in means) == 0:
        return 0.0
    return float(np.corrcoef(means)[0, 1])


def _along_lines(outside: Bool[np.ndarray, "d d d"], density: Float[np.ndarray, "d d d"]) -> float:
    """Return the highest product of densities that lie apart along a line, over directions."""
    box = len(density)
    distances = np.arange(box // 6, box // 3 + 1)
    size = fft.next_fast_len(box + int(distances[-1]) + 2, real=True)
    directions = _directions()
    half = directions[:, directions[0] > 0]  # the product is the same in the opposite direction
    apart = np.mod(half[:, :, None] * distances, size)
    products, pairs = (
        ndimage.map_coordinates(_products(part, size), apart, order=1, mode="grid-wrap").sum(axis=1)
        for part in (density, outside.astype(np.float64))
    )
    return float((products / np.maximum(pairs, 1)).max())


def _products(values: Float[np.ndarray, "d d d"], size: int) -> Float[np.ndarray, "s s s"]:
    """Return the sum of the products of values that are displaced, by their displacement."""
    spectrum = fft.rfftn(values, (size,) * 3)
    return np.asarray(fft.irfftn(np.abs(spectrum) ** 2, (size,) * 3))


def _directions() -> Float[np.ndarray, "3 n"]:
    """Return unit vectors that cover the sphere evenly: a Fibonacci lattice."""
    number = np.arange(DIRECTIONS) + 0.5
    z = 1 - 2 * number / DIRECTIONS
    azimuth = np.pi * (1 + np.sqrt(5)) * number
    across = np.sqrt(1 - z**2)
    return np.stack([z, across * np.sin(azimuth), across * np.cos(azimuth)])
