"""How well a latent space separates known states, and orders a known motion."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.manifold import SpectralEmbedding
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from raydrgn.clustering.clusters import mixture
from raydrgn.evaluation.truth import Truth
from raydrgn.shapes import Float, Int

NEIGHBOURS = 10
FOLDS = 5
MANIFOLD_SAMPLE = 3000  # particles whose order along a motion is computed
MIN_MOVING = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class StateSeparation:
    """How well one state is separated from its neighbours in latent space."""

    name: str
    share: float
    """Of all particles."""

    recall: float
    """Share of its particles whose neighbours mostly are of this state too."""

    precision: float
    """Share of this state among the particles whose neighbours mostly are of this state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Separation:
    """Agreement of a latent space with the truth; measures are None if there is only one state."""

    neighbour_accuracy: float | None
    """Share of particles whose state is that of most of their ten neighbours."""

    rand_index: float | None
    """Adjusted Rand index between states and as many k-means clusters."""

    rand_index_mixture: float | None
    """The same for a Gaussian mixture, which may have small and long clusters."""

    motion_order: float | None
    """|Spearman| of the first coordinate along the manifold of a motion and its true angle."""

    by_state: list[StateSeparation]


def separate(z: Float[np.ndarray, "n zdim"], truth: Truth) -> Separation:
    """Measure how well latents separate the states of the truth and order its motion."""
    labels = truth.labels
    motion = _motion_order(z, truth)
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < FOLDS:
        return Separation(
            neighbour_accuracy=None,
            rand_index=None,
            rand_index_mixture=None,
            motion_order=motion,
            by_state=[],
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    predicted = cross_val_predict(KNeighborsClassifier(NEIGHBOURS), z, labels, cv=folds)
    kmeans = KMeans(len(counts), n_init=10, random_state=0).fit_predict(z)
    by_mixture = mixture(z, len(counts), starts=3).labels
    return Separation(
        neighbour_accuracy=float((predicted == labels).mean()),
        rand_index=float(adjusted_rand_score(labels, kmeans)),
        rand_index_mixture=float(adjusted_rand_score(labels, by_mixture)),
        motion_order=motion,
        by_state=[_of_state(truth, state, predicted) for state in truth.states()],
    )


def _of_state(truth: Truth, state: int, predicted: Int[np.ndarray, " n"]) -> StateSeparation:
    both = int(((predicted == state) & (truth.labels == state)).sum())
    size = int((truth.labels == state).sum())
    return StateSeparation(
        name=truth.state_names[state],
        share=size / len(truth.labels),
        recall=both / size,
        precision=both / max(int((predicted == state).sum()), 1),
    )


def _motion_order(z: Float[np.ndarray, "n zdim"], truth: Truth) -> float | None:
    """Compare true angles with the first Laplacian eigenmap of the moving particles' latents.

    References:
        Belkin and Niyogi (2003), Neural Computation 15, 1373.
    """
    if truth.motion_deg is None:
        return None
    rows = np.flatnonzero(np.isfinite(truth.motion_deg))
    if len(rows) < MIN_MOVING:
        return None
    if len(rows) > MANIFOLD_SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, MANIFOLD_SAMPLE, replace=False))
    # Many neighbours: the graph must be connected, and noise is averaged.
    neighbours = max(NEIGHBOURS, len(rows) // 20)
    embedding = SpectralEmbedding(1, n_neighbors=neighbours, random_state=0)
    with warnings.catch_warnings():
        # Latents that fall apart have no order along the motion, which the result shows.
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        along = embedding.fit_transform(z[rows].astype(np.float64))[:, 0]
    return abs(float(spearmanr(along, truth.motion_deg[rows]).statistic))
