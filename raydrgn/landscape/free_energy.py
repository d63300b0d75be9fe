"""Density of particles over two components, as a pseudo free energy."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from raydrgn.shapes import Float

BINS = 60
SMOOTH_BINS = 1.0


class FreeEnergy(NamedTuple):
    """Density of particles over two components as a pseudo free energy, −ln(p/p_max), in kT."""

    energy: Float[np.ndarray, "x y"]
    """NaN where there is no particle within a bin."""

    edges: tuple[Float[np.ndarray, " x1"], Float[np.ndarray, " y1"]]
    counts: Float[np.ndarray, "x y"]


def free_energy(xy: Float[np.ndarray, "n 2"]) -> FreeEnergy:
    """Return the pseudo free energy of particles on 60 × 60 bins, smoothed by one bin."""
    low, high = np.percentile(xy, [0.1, 99.9], axis=0)
    margin = np.maximum(0.08 * (high - low), 1e-9)
    limits = np.stack([low - margin, high + margin]).T.tolist()
    counts, x_edges, y_edges = np.histogram2d(xy[:, 0], xy[:, 1], bins=BINS, range=limits)
    smooth = ndimage.gaussian_filter(counts, SMOOTH_BINS)
    near = ndimage.maximum_filter(counts, size=3) > 0
    with np.errstate(divide="ignore"):
        energy = np.where(near, -np.log(smooth / smooth.max()), np.nan)
    return FreeEnergy(energy, (x_edges, y_edges), counts)
