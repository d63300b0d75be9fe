"""States among the volumes of a sketch: their mask, agglomerative clusters, mean and SD maps.

References:
    Zhong, Lerer, Davis and Berger (2021), ICCV, "CryoDRGN2"; Kinman, Powell, Zhong, Berger and
    Davis (2023), Nature Protocols 18, 319.
"""

from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from raydrgn.errors import InputError
from raydrgn.fourier.masks import soft_mask
from raydrgn.fourier.peaks import contour_level, peak_density
from raydrgn.landscape.options import Linkage
from raydrgn.landscape.volume_store import VolumeStore
from raydrgn.shapes import Bool, Float, Int

DILATE_ANGSTROM = 5.0


class ThresholdedVolumes(NamedTuple):
    """Volumes with the usual threshold of each."""

    volumes: Float[np.ndarray, "b d d d"]
    thresholds: Float[np.ndarray, " b"]
    """Half of the peak of each."""


def with_thresholds(volumes: Float[np.ndarray, "b d d d"]) -> ThresholdedVolumes:
    """Return volumes with the usual threshold of each; called where they are decoded."""
    thresholds = [contour_level(peak_density(volume)) for volume in volumes]
    return ThresholdedVolumes(volumes, np.array(thresholds))


def union_mask(
    store: VolumeStore, threshold: float, *, box: int, pixel_size_angstrom: float
) -> Bool[np.ndarray, "d d d"]:
    """Return where any volume reaches a threshold, dilated by 5 Å.

    Dilation and union commute, so this is the union of the masks of all volumes.

    Raises:
        InputError: If no volume reaches the threshold.
    """
    highest = np.empty(box**3, dtype=np.float32)
    for voxels, values in store.slabs():
        highest[voxels] = values.max(axis=0)
    if highest.max() < threshold:
        raise InputError(
            f"No volume reaches --threshold {threshold:g}; the highest density is "
            f"{highest.max():.4g}."
        )
    mask = soft_mask(
        highest.reshape(box, box, box),
        pixel_size_angstrom=pixel_size_angstrom,
        dilate_angstrom=DILATE_ANGSTROM,
        edge_angstrom=0,
        threshold=threshold,
    )
    return mask > 0


def states(
    distances: Float[np.ndarray, "n n"], count: int, *, method: Linkage = "average"
) -> Int[np.ndarray, " n"]:
    """Return the state of each volume: agglomerative clusters.

    Numbered along the dendrogram, so that neighbours in number are neighbours in density.

    Args:
        distances: Euclidean, between volumes.
        count: States; fewer are found where volumes are equal.
        method: How the distance of two clusters is measured.
    """
    tree = linkage(squareform(distances, checks=False), method=method)
    found = fcluster(tree, count, criterion="maxclust")
    _, first = np.unique(found[leaves_list(tree)], return_index=True)
    leaves = found[leaves_list(tree)][np.sort(first)]
    number = np.empty(int(found.max()) + 1, dtype=np.int64)
    number[leaves] = np.arange(len(leaves))
    return number[found]


def state_maps(
    store: VolumeStore, labels: Int[np.ndarray, " n"], particles: Int[np.ndarray, " n"], *, box: int
) -> tuple[Float[np.ndarray, "s d d d"], Float[np.ndarray, "s d d d"]]:
    """Return mean and SD of the volumes of each state, weighted by particles."""
    count = int(labels.max()) + 1
    weight = (labels == np.arange(count)[:, None]) * particles
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    mean, sd = (np.empty((count, box**3), dtype=np.float32) for _ in range(2))
    for voxels, values in store.slabs():
        mean[:, voxels] = weight @ values
        for state in range(count):
            rows = np.flatnonzero(labels == state)
            residual = values[rows] - mean[state, voxels]
            sd[state, voxels] = np.sqrt(weight[state, rows] @ residual**2)
    shape = (count, box, box, box)
    return mean.reshape(shape), sd.reshape(shape)
