"""Two dimensions to look at a latent space in: principal components and UMAP."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from raydrgn.shapes import Float


class PrincipalComponents(NamedTuple):
    """Latents along their principal components."""

    coordinates: Float[np.ndarray, "n k"]
    explained: Float[np.ndarray, " k"]
    """Share of the variance that each component explains."""


def principal_components(z: Float[np.ndarray, "n zdim"]) -> PrincipalComponents:
    """Return latents along all their principal components."""
    pca = PCA(svd_solver="full")
    coordinates = pca.fit_transform(z.astype(np.float64))
    return PrincipalComponents(coordinates, pca.explained_variance_ratio_)


def umap_embedding(z: Float[np.ndarray, "n zdim"], *, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Return latents in the two dimensions of UMAP, the same for the same seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of libraries that UMAP imports
        from umap import UMAP

        return UMAP(random_state=seed, n_jobs=1, n_epochs=200).fit_transform(z.astype(np.float32))
