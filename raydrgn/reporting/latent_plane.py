"""Two dimensions of the latent space, in which particles are drawn."""

import numpy as np

from raydrgn.clustering.embedding import principal_components
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.run.latents_file import LatentSource
from raydrgn.shapes import Float

HEIGHTS = "particles (each at a random height)"
FEWEST_BINS, MOST_BINS = 10, 80
"""Of the histogram of latents of one dimension, over all but the outermost hundredths of particles:
as many as there are particles to fill them."""

MOST_BINS_OF_ALL = 2000
"""Bins with those of outlying particles, which make the others no wider."""

Plane = tuple[tuple[str, str], Float[np.ndarray, "p 2"]]
"""Names of two axes, and the particles along them."""


def latent_plane(
    run: LatentSource, epoch: int | None, z: Float[np.ndarray, "p zdim"]
) -> Plane | None:
    """Return the UMAP of ``analyze`` if it is of this epoch, else two principal components.

    None where the latent space has one dimension, or there is one particle.
    """
    if min(z.shape) < 2:
        return None
    xy = AnalysisResults(run, epoch).umap(len(z))
    if xy is not None:
        return ("UMAP 1", "UMAP 2"), xy
    return ("PC 1", "PC 2"), principal_components(z).coordinates[:, :2]


def line_as_plane(z: Float[np.ndarray, "p 1"]) -> Plane:
    """Return latents of one dimension, each at a random height below their histogram."""
    heights = random_heights(z[:, 0]).astype(z.dtype)
    return ("z0", HEIGHTS), np.stack([z[:, 0], heights], axis=1)


def random_heights(values: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """Return a height for each value, between 0 and how many values its bin has; always the same.

    Points at these heights fill the histogram, so that each can be seen and have a colour.
    """
    low, high = np.percentile(values, [1, 99]).tolist()
    width = (high - low) / np.clip(len(values) ** 0.5, FEWEST_BINS, MOST_BINS)
    ratio = np.ptp(values) / width if width > 0 else FEWEST_BINS
    bins = int(np.clip(np.ceil(ratio), 1, MOST_BINS_OF_ALL))
    counts, edges = np.histogram(values, bins=bins)
    own = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    return np.random.default_rng(0).uniform(size=len(values)) * counts[own]
