"""The landscape of volumes: components, states and density in the space of maps, not of latents.

A sketch of on-data volumes gives a mask, principal components of the masked voxels, and states;
volumes of more particles, and a regression from latents, give every particle its place.

References:
    Zhong, Lerer, Davis and Berger (2021), ICCV, "CryoDRGN2"; Kinman, Powell, Zhong, Berger and
    Davis (2023), Nature Protocols 18, 319.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from raydrgn.errors import InputError
from raydrgn.fourier.masks import soft_mask
from raydrgn.landscape.volume_store import VolumeStore
from raydrgn.shapes import Bool, Float, Int

DILATE_ANGSTROM = 5.0
HELD_OUT = 0.25
HIDDEN = (512, 512, 512)
LEARNING_RATE, BATCH = 1e-3, 128
BINS = 60
SMOOTH_BINS = 1.0
BLOCK = 100_000


class Glance(NamedTuple):
    """What is asked of each batch of volumes, where they are."""

    volumes: Float[np.ndarray, "b d d d"]
    levels: Float[np.ndarray, " b"]
    """Half of the 99.99th percentile of each: the usual threshold."""


def glance(volumes: Float[np.ndarray, "b d d d"]) -> Glance:
    """Return volumes with the threshold of each."""
    return Glance(volumes, np.percentile(volumes.reshape(len(volumes), -1), 99.99, axis=1) / 2)


def union_mask(
    store: VolumeStore, level: float, *, box: int, pixel_size_angstrom: float
) -> Bool[np.ndarray, "d d d"]:
    """Return where any volume reaches a level, grown by 5 Å.

    Growing and uniting can change places, so this is the union of the masks of all volumes.

    Raises:
        InputError: If no volume reaches the level.
    """
    highest = np.empty(box**3, dtype=np.float32)
    for voxels, values in store.slabs():
        highest[voxels] = values.max(axis=0)
    if highest.max() < level:
        raise InputError(
            f"No volume reaches --threshold {level:g}; the highest density is {highest.max():.4g}."
        )
    mask = soft_mask(
        highest.reshape(box, box, box),
        pixel_size_angstrom=pixel_size_angstrom,
        dilate_angstrom=DILATE_ANGSTROM,
        edge_angstrom=0,
        threshold=level,
    )
    return mask > 0


class VolumeComponents(NamedTuple):
    """Principal components of masked volumes, negative density set to 0."""

    mask: Bool[np.ndarray, "d d d"]
    mean: Float[np.ndarray, " m"]
    axes: Float[np.ndarray, "k m"]
    """Of length 1, with a positive sum: density grows along a component."""

    scores: Float[np.ndarray, "n k"]
    explained: Float[np.ndarray, " k"]
    """Share of the variance within the mask."""

    distances: Float[np.ndarray, "n n"]
    """Euclidean, between the masked volumes."""

    def project(self, volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "b k"]:
        """Return the scores of other volumes, treated as those of the sketch were."""
        rows = np.maximum(volumes.reshape(len(volumes), -1)[:, self.mask.ravel()], 0)
        return np.asarray((rows - self.mean) @ self.axes.T, dtype=np.float32)

    def volume(self, scores: Float[np.ndarray, " k"]) -> Float[np.ndarray, "d d d"]:
        """Return the volume at some scores; 0 outside of the mask."""
        made = np.zeros(self.mask.shape, dtype=np.float32)
        made[self.mask] = self.mean + scores @ self.axes
        return made


def volume_components(
    store: VolumeStore, mask: Bool[np.ndarray, "d d d"], count: int
) -> VolumeComponents:
    """Return the first components of the volumes of a sketch, exactly, from their products.

    With X the centred rows, X·Xᵀ = U·Λ·Uᵀ gives the scores U·√Λ and the axes Xᵀ·U/√Λ; both
    are sums over slabs of voxels.

    Raises:
        InputError: If all volumes are equal within the mask.
    """
    inside = mask.ravel()
    n = store.num_volumes
    products = np.zeros((n, n))
    mean = np.empty(int(inside.sum()))
    for part, rows in _masked(store, inside):
        mean[part] = rows.mean(axis=0, dtype=np.float64)
        centred = rows - mean[part].astype(np.float32)
        products += centred @ centred.T
    total = float(np.trace(products))
    if not total > 1e-12 * n * float((mean**2).sum()):
        raise InputError("All volumes of the sketch are equal within the mask; train longer.")
    values, vectors = np.linalg.eigh(products)
    count = min(count, n - 1)
    values = np.maximum(values[::-1][:count], 1e-12 * total)
    vectors = vectors[:, ::-1][:, :count]
    axes = np.empty((count, len(mean)), dtype=np.float32)
    weights = (vectors / np.sqrt(values)).T.astype(np.float32)
    for part, rows in _masked(store, inside):
        axes[:, part] = weights @ (rows - mean[part].astype(np.float32))
    sign = np.where(axes.sum(axis=1) < 0, -1.0, 1.0)
    squares = np.diag(products)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * products, 0))
    np.fill_diagonal(distances, 0)
    return VolumeComponents(
        mask=mask,
        mean=mean.astype(np.float32),
        axes=sign[:, None].astype(np.float32) * axes,
        scores=sign * vectors * np.sqrt(values),
        explained=values / total,
        distances=distances,
    )


def _masked(
    store: VolumeStore, inside: Bool[np.ndarray, " v"]
) -> Iterator[tuple[slice, Float[np.ndarray, "n w"]]]:
    """Yield the masked voxels of each slab that has any: their places in the mask, and values."""
    done = 0
    for voxels, values in store.slabs():
        rows = np.maximum(values[:, inside[voxels]], 0)
        if rows.shape[1]:
            yield slice(done, done + rows.shape[1]), rows
            done += rows.shape[1]


def states(distances: Float[np.ndarray, "n n"], count: int) -> Int[np.ndarray, " n"]:
    """Return the state of each volume: agglomerative clusters, average linkage.

    Numbered along the dendrogram, so that neighbours in number are neighbours in density.
    """
    tree = linkage(squareform(distances, checks=False), method="average")
    found = fcluster(tree, count, criterion="maxclust")
    _, first = np.unique(found[leaves_list(tree)], return_index=True)
    leaves = found[leaves_list(tree)][np.sort(first)]
    number = np.empty(int(found.max()) + 1, dtype=np.int64)
    number[leaves] = np.arange(len(leaves))
    return number[found]


def state_maps(
    store: VolumeStore, labels: Int[np.ndarray, " n"], particles: Int[np.ndarray, " n"], *, box: int
) -> tuple[Float[np.ndarray, "s d d d"], Float[np.ndarray, "s d d d"]]:
    """Return mean and standard deviation of the volumes of each state, weighted by particles."""
    count = int(labels.max()) + 1
    weight = (labels == np.arange(count)[:, None]) * particles
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    mean, deviation = (np.empty((count, box**3), dtype=np.float32) for _ in range(2))
    for voxels, values in store.slabs():
        mean[:, voxels] = weight @ values
        for state in range(count):
            rows = np.flatnonzero(labels == state)
            apart = values[rows] - mean[state, voxels]
            deviation[state, voxels] = np.sqrt(weight[state, rows] @ apart**2)
    shape = (count, box, box, box)
    return mean.reshape(shape), deviation.reshape(shape)


@dataclass(frozen=True, slots=True)
class Regression:
    """From latents to scores of volumes, and how well it does where it was not fitted."""

    network: MLPRegressor
    latents: StandardScaler
    scores: StandardScaler
    held_out: Float[np.ndarray, "h k"]
    predicted: Float[np.ndarray, "h k"]

    @property
    def r_squared(self) -> Float[np.ndarray, " k"]:
        """Share of the held-out variance of each component that is explained."""
        error = ((self.held_out - self.predicted) ** 2).sum(axis=0)
        return 1 - error / ((self.held_out - self.held_out.mean(axis=0)) ** 2).sum(axis=0)

    def predict(self, z: Float[np.ndarray, "n zdim"]) -> Float[np.ndarray, "n k"]:
        """Return the scores of the volumes of latents, without making these."""
        made = [
            self.scores.inverse_transform(
                self.network.predict(self.latents.transform(z[start : start + BLOCK])).reshape(
                    len(z[start : start + BLOCK]), -1
                )
            )
            for start in range(0, len(z), BLOCK)
        ]
        return np.concatenate(made).astype(np.float32)


def fit_regression(
    z: Float[np.ndarray, "n zdim"], scores: Float[np.ndarray, "n k"], *, seed: int
) -> Regression:
    """Fit a network of three hidden layers to three quarters, and test it on the rest."""
    order = np.random.default_rng(seed).permutation(len(z))
    test, fit = np.split(order, [max(1, int(HELD_OUT * len(z)))])
    latents, targets = StandardScaler().fit(z[fit]), StandardScaler().fit(scores[fit])
    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        batch_size=min(BATCH, max(1, len(fit) // 2)),
        learning_rate_init=LEARNING_RATE,
        early_stopping=True,
        random_state=seed,
    )
    wanted = targets.transform(scores[fit])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the held-out part tells
        network.fit(latents.transform(z[fit]), wanted if wanted.shape[1] > 1 else wanted[:, 0])
    fitted = Regression(network, latents, targets, scores[test], scores[test])
    return Regression(network, latents, targets, scores[test], fitted.predict(z[test]))


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
