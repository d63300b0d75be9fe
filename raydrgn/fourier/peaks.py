"""The peak of a density, and the contour level that follows from it."""

import numpy as np

from raydrgn.shapes import Float

PEAK_PERCENTILE = 99.99
"""Percentile of the voxels that stands for the highest density."""


def peak_density(volume: Float[np.ndarray, "d d d"]) -> float:
    """Return the peak of a volume."""
    return float(np.percentile(volume, PEAK_PERCENTILE))


def contour_level(peak: float) -> float:
    """Return the level at which a volume is contoured: half of its peak."""
    return peak / 2
