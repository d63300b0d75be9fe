"""Clusters of latents: k-means and Gaussian mixtures, numbered so that similar ones are adjacent.

Numbers follow the leaves of the dendrogram (average linkage, Euclidean) of the centres. The
*on-data* centre of a cluster is the particle nearest to its mean, so that a volume there is
supported by an image.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial import cKDTree

from raydrgn.errors import ConfigError
from raydrgn.shapes import Float, Int

KMEANS_ITERATIONS = 10

SEED = 0
"""Seed of k-means in every command, so that all use the same clusters."""


class Clusters(NamedTuple):
    """Clusters of particles, numbered along the dendrogram of their centres."""

    labels: Int[np.ndarray, " n"]
    """Cluster of each particle, from 0."""

    rows: Int[np.ndarray, " k"]
    """Particle nearest to each cluster's centre."""

    def sizes(self) -> Int[np.ndarray, " k"]:
        """Return the number of particles of each cluster."""
        return np.bincount(self.labels, minlength=len(self.rows))


def k_means(z: Float[np.ndarray, "n zdim"], count: int, *, seed: int = 0) -> Clusters:
    """Return k-means clusters of latents.

    Where many latents are the same, as those of junk in a mixture of factor analysers, the
    algorithm may leave clusters empty. Each is then given the particle farthest from its centre.

    Raises:
        ConfigError: If there are fewer (different) particles than clusters.
    """
    if count < 1:
        raise ConfigError(f"--ksample must be at least 1, got {count}.")
    if count > len(z):
        raise ConfigError(f"--ksample {count} is more than the number of particles ({len(z)}).")
    from sklearn.cluster import KMeans  # loading it takes seconds
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # checked below
        found = KMeans(count, max_iter=KMEANS_ITERATIONS, n_init=1, random_state=seed).fit(z)
    labels, centres = found.labels_.astype(np.int64), found.cluster_centers_
    if len(np.unique(labels)) < count:
        labels, centres = _filled(z, labels, centres)
    return _numbered(z, labels, centres)


def _filled(
    z: Float[np.ndarray, "n zdim"], labels: Int[np.ndarray, " n"], centres: np.ndarray
) -> tuple[Int[np.ndarray, " n"], np.ndarray]:
    """Return clusters with the empty ones filled: each takes the particle farthest from its centre.

    Raises:
        ConfigError: If there are fewer different latents than clusters.
    """
    different, count = len(np.unique(z, axis=0)), len(centres)
    if different < count:
        raise ConfigError(
            f"There are only {different} distinct latents, too few for {count} clusters. "
            f"Use --ksample {different}."
        )
    labels, centres = labels.copy(), centres.copy()
    for empty in np.setdiff1d(np.arange(count), labels):
        row = int(np.linalg.norm(z - centres[labels], axis=1).argmax())
        centres[empty] = z[row]
        labels[(z == z[row]).all(axis=1)] = empty
    return labels, centres


def mixture(z: Float[np.ndarray, "n zdim"], count: int, *, starts: int = 1) -> Clusters:
    """Return the most probable component of a Gaussian mixture, full covariances.

    Fitted in double precision to latents of unit variance: in single precision the covariance of a
    tight cluster is not positive definite.

    Args:
        z: Latents.
        count: Components.
        starts: Initialisations; the fit of highest likelihood is taken.

    Raises:
        ConfigError: If there are fewer particles than components.
    """
    if not 1 <= count <= len(z):
        raise ConfigError(
            f"A Gaussian mixture of {len(z):,} particles can have 1 to {len(z)} components, not "
            f"{count}."
        )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    exact = z.astype(np.float64)
    exact /= max(float(exact.std()), np.finfo(np.float64).tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an approximate optimum is enough
        found = GaussianMixture(count, random_state=SEED, n_init=starts).fit(exact)
    return _numbered(exact, found.predict(exact).astype(np.int64), found.means_)


def nearest_rows(
    z: Float[np.ndarray, "n zdim"], points: Float[np.ndarray, "k zdim"]
) -> Int[np.ndarray, " k"]:
    """Return the particle whose latent is nearest to each point."""
    return np.asarray(cKDTree(z).query(points)[1], dtype=np.int64)


def nearest_to_median(z: Float[np.ndarray, "n zdim"], members: Int[np.ndarray, " m"]) -> int:
    """Return the member whose latent is nearest to the median of all members' latents."""
    distance = np.linalg.norm(z[members] - np.median(z[members], axis=0), axis=1)
    return int(members[distance.argmin()])


def leaf_order(points: Float[np.ndarray, "k zdim"]) -> Int[np.ndarray, " k"]:
    """Return the order of points along the leaves of their dendrogram."""
    if len(points) < 2:
        return np.arange(len(points))
    return leaves_list(linkage(points, method="average", metric="euclidean")).astype(np.int64)


def _numbered(
    z: Float[np.ndarray, "n zdim"], labels: Int[np.ndarray, " n"], centres: Float[np.ndarray, "k _"]
) -> Clusters:
    rows = nearest_rows(z, centres.astype(z.dtype))
    order = leaf_order(z[rows])
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return Clusters(number[labels], rows[order])
