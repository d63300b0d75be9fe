"""Embeddings of a latent space: principal components and UMAP.

UMAP of more particles than ``UMAP_LIMIT`` is fitted on a seeded sample of that many, and the
coordinates of the others are interpolated from their nearest neighbours of the sample: the time
that UMAP takes then no longer grows with the number of particles.

UMAP is given exact neighbours. Its own search of them compiles for a minute in every process that
has 4,096 particles or more, and for ten seconds where there are fewer.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from raydrgn.errors import ConfigError
from raydrgn.remote.resources import cores_here
from raydrgn.shapes import Float, Int

FEWEST = 5
"""Particles of a UMAP, at least: it has two dimensions, and compares neighbours."""

UMAP_LIMIT = 100_000
UMAP_NEIGHBOURS = 15
"""Those of UMAP's defaults, among them the particle itself."""

TREE_DIMENSIONS = 12
"""Beyond these a tree is hardly faster than comparing all particles, and UMAP's search is."""

INTERPOLATION_NEIGHBOURS = 5
BLOCK = 100_000


class PrincipalComponents(NamedTuple):
    """Latents along their principal components."""

    coordinates: Float[np.ndarray, "n k"]
    explained: Float[np.ndarray, " k"]
    """Share of the variance that each component explains."""

    axes: Float[np.ndarray, "k zdim"]
    mean: Float[np.ndarray, " zdim"]

    def project(self, z: Float[np.ndarray, "m zdim"]) -> Float[np.ndarray, "m k"]:
        """Return the coordinates of other latents."""
        return (z - self.mean) @ self.axes.T


def principal_components(z: Float[np.ndarray, "n zdim"]) -> PrincipalComponents:
    """Return latents along all their principal components: as many as dimensions, or particles.

    Without any variance, as of one particle, each component explains none.
    """
    from sklearn.decomposition import PCA  # loading it takes seconds

    pca = PCA(svd_solver="full")
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 without variance
        coordinates = pca.fit_transform(z.astype(np.float64))
    explained = np.nan_to_num(pca.explained_variance_ratio_)
    return PrincipalComponents(coordinates, explained, pca.components_, pca.mean_)


def umap_embedding(
    z: Float[np.ndarray, "n zdim"],
    *,
    seed: int = 0,
    limit: int = UMAP_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "n 2"]:
    """Return the UMAP embedding of latents, the same for the same seed.

    With more particles than ``limit`` it is fitted on a sample of that size, drawn with the seed.

    Args:
        z: Latents.
        seed: Of the sample and of UMAP.
        limit: Most particles to fit.
        progress: Called with the number of particles embedded, and of all.

    Raises:
        ConfigError: If there are fewer than ``FEWEST``.
    """
    if len(z) < FEWEST:
        raise ConfigError(f"There are {len(z)} particles, and a UMAP needs {FEWEST} or more.")
    report, total = progress or (lambda done, total: None), len(z)
    report(0, total)
    if total <= limit:
        embedding = _fit_umap(z, seed)
        report(total, total)
        return embedding
    rows = np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))
    sample = _fit_umap(z[rows], seed)
    tree = cKDTree(z[rows])
    embedding = np.empty((total, 2), dtype=np.float32)
    for start in range(0, total, BLOCK):
        block = slice(start, start + BLOCK)
        embedding[block] = _interpolate(z[block], tree, sample)
        report(min(start + BLOCK, total), total)
    embedding[rows] = sample
    return embedding


def _fit_umap(z: Float[np.ndarray, "n zdim"], seed: int) -> Float[np.ndarray, "n 2"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and of libraries that UMAP imports
        from umap import UMAP

        _keep_compiled()
        count = min(UMAP_NEIGHBOURS, len(z) - 1)
        nearest = (
            nearest_neighbours(cKDTree(z), z, count) if z.shape[1] <= TREE_DIMENSIONS else None
        )
        fit = UMAP(
            n_neighbors=count,
            precomputed_knn=nearest or (None, None, None),
            random_state=seed,
            n_jobs=1,
            n_epochs=200,
        )
        return fit.fit_transform(z.astype(np.float32))


def _keep_compiled() -> None:
    """Let numba keep on disk what it compiles of UMAP, as it does for raydrgn's own kernels.

    Otherwise each process compiles for ten seconds. What a version of UMAP lacks, or where
    there is no folder to keep it in, is compiled each time.
    """
    from umap import umap_

    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        with suppress(AttributeError, RuntimeError):
            getattr(umap_, name).enable_caching()


def interpolate_embedding(
    points: Float[np.ndarray, "m zdim"],
    z: Float[np.ndarray, "n zdim"],
    embedding: Float[np.ndarray, "n 2"],
) -> Float[np.ndarray, "m 2"]:
    """Return the coordinates of other latents in an embedding.

    The mean over the five nearest neighbours, weighted by inverse distance; a latent that equals
    one of the embedded gets its coordinates.
    """
    return _interpolate(points, cKDTree(z), embedding)


def _interpolate(
    points: Float[np.ndarray, "m zdim"], tree: cKDTree, embedding: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "m 2"]:
    """Return coordinates, given the tree of the embedded latents."""
    rows, distance = nearest_neighbours(tree, points, min(INTERPOLATION_NEIGHBOURS, tree.n))
    weight = 1 / np.maximum(distance, 1e-9 * max(float(distance.max()), 1e-30))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkx->mx", weight, embedding[rows]).astype(np.float32)


def nearest_neighbours(
    tree: cKDTree, points: Float[np.ndarray, "m zdim"], count: int
) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """Return the nearest latents of a tree, and their distances; all cores search.

    Points are searched orthant by orthant: those of one meet the same branches of the tree, which
    are then in the cache, and take half the time.
    """
    order = np.lexsort((points > np.median(tree.data, axis=0)).T)
    rows = np.empty((len(points), count), dtype=np.int32)
    distances = np.empty((len(points), count))
    distances[order], rows[order] = tree.query(
        points[order], k=[*range(1, count + 1)], workers=cores_here()
    )
    return rows, distances
