"""Numbers that describe the density of a volume: its peak, its noise, its sign, its streaks."""

from typing import NamedTuple

import numpy as np

from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.peaks import peak_density
from raydrgn.fourier.streaks import streaks
from raydrgn.shapes import Float

CLEAR_SKEWNESS = 0.3
"""Skewness from which the sign of a density is clear."""


class Density(NamedTuple):
    """Numbers of one volume, in its own units of density."""

    peak: float
    """As ``peaks`` has it."""

    noise: float
    """SD of the voxels beyond the largest sphere in the box, where there is no particle."""

    skewness: float
    """Third moment about the median within that sphere; positive for a positive density."""

    streaks: float
    """How far density outside the particle goes on along lines, up to 1; see ``streaks``."""


def measure_density(volume: Float[np.ndarray, "d d d"]) -> Density:
    """Return the numbers of a volume."""
    sphere, peak = soft_sphere(len(volume)), peak_density(volume)
    return Density(
        peak=peak,
        noise=float(volume[sphere < 0.01].astype(np.float64).std()),
        skewness=skewness(volume[sphere > 0.5]),
        streaks=streaks(volume, peak),
    )


def solvent_level(values: Float[np.ndarray, " n"]) -> float:
    """Return the density that divides molecule from solvent best.

    Reference:
        Otsu (1979), IEEE Trans. Syst. Man Cybern. 9, 62: the threshold whose two sides differ most.
    """
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * centres)[:-1]
    total, mean = len(values), float(counts @ centres) / len(values)
    sizes = np.maximum(below * (total - below), 1)
    between = (mean * below - sums) ** 2 / sizes
    return float(centres[:-1][between.argmax()])


def skewness(values: Float[np.ndarray, " n"]) -> float:
    """Return the skewness of densities about their median; 0 if they are constant.

    Molecules are compact and dense in a wide, flat solvent, so the sign of the third moment about
    the solvent's level is that of the density.
    """
    centred = values.astype(np.float64) - np.median(values)
    sd = np.sqrt(np.mean(centred**2))
    return float(np.mean(centred**3) / sd**3) if sd > 0 else 0.0
