"""Two dimensions of the latent space, in which particles are drawn."""

import numpy as np

from raydrgn.clustering.embedding import principal_components
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.run.latents_file import LatentSource
from raydrgn.shapes import Float

Plane = tuple[tuple[str, str], Float[np.ndarray, "p 2"]]
"""Names of two axes, and the particles along them."""


def latent_plane(
    run: LatentSource, epoch: int | None, z: Float[np.ndarray, "p zdim"]
) -> Plane | None:
    """Return the UMAP of ``analyze`` if it is of this epoch, else two principal components.

    None where the latent space has one dimension.
    """
    if z.shape[1] < 2:
        return None
    xy = AnalysisResults(run, epoch).umap(len(z))
    if xy is not None:
        return ("UMAP 1", "UMAP 2"), xy
    return ("PC 1", "PC 2"), principal_components(z).coordinates[:, :2]
