"""How well a latent space separates known states, and orders a known motion."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.manifold import SpectralEmbedding
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph

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
    points = z[rows].astype(np.float64)
    graph = _connected_graph(points, max(NEIGHBOURS, len(rows) // 20))  # many: noise is averaged
    embedding = SpectralEmbedding(1, affinity="precomputed", random_state=0)
    along = embedding.fit_transform(graph)[:, 0]
    return abs(float(spearmanr(along, truth.motion_deg[rows]).statistic))


def _connected_graph(points: Float[np.ndarray, "n k"], neighbours: int) -> csr_array:
    """Return the graph of nearest neighbours; clusters apart are joined where they are nearest."""
    graph = kneighbors_graph(points, neighbours, include_self=True)
    graph = 0.5 * (graph + graph.T)
    if connected_components(graph, directed=False)[0] > 1:
        tree = minimum_spanning_tree(squareform(pdist(points))) > 0
        graph = graph.maximum(0.5 * (tree + tree.T))
    return csr_array(graph)
