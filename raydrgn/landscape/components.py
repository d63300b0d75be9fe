"""Principal components of volumes within a mask, exactly, from the products of the volumes.

With X the centred rows (volumes × voxels of the mask), X·Xᵀ = U·Λ·Uᵀ gives the coordinates U·√Λ
and the axes Xᵀ·U/√Λ. Both are sums over slabs of voxels, so that the volumes need not be in memory
at once. They are taken in double precision, and components that the single precision of the volumes
explains are left out.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raydrgn.clustering.clusters import nearest_rows
from raydrgn.errors import InputError
from raydrgn.io.masks import in_box
from raydrgn.shapes import Bool, Float, Int
from raydrgn.wording import counted

log = logging.getLogger(__name__)

BLOCK = 8_000_000
"""Values that are held in double precision at once; 64 MB."""

LEAST_SHARE = 100 * float(np.finfo(np.float32).eps) ** 2
"""Share of the variance, 1.4e-12, from which coordinates projected in single precision agree with
those of the eigenvectors, to five digits of the correlation."""

Slabs = Callable[[], Iterator[tuple[slice, Float[np.ndarray, "n w"]]]]
"""Yields the voxels of a mask part by part: which of them, and their values in all volumes."""


class GramMatrix(NamedTuple):
    """Products of volumes with one another, after their mean has been subtracted."""

    mean: Float[np.ndarray, " m"]
    """Mean volume within the mask."""

    products: Float[np.ndarray, "n n"]
    rounding: float
    """Eigenvalue up to which a component is explained by the rounding of the voxels."""

    def distances(self) -> Float[np.ndarray, "n n"]:
        """Return the Euclidean distances between the volumes."""
        squares = np.diag(self.products)
        squared = squares[:, None] + squares[None] - 2 * self.products
        distances = np.sqrt(np.maximum(squared, 0))
        np.fill_diagonal(distances, 0)
        return distances


class VolumeComponents(NamedTuple):
    """Volumes along their principal components within a mask."""

    mask: Bool[np.ndarray, "d d d"]
    mean: Float[np.ndarray, " m"]
    axes: Float[np.ndarray, "k m"]
    """Of length 1, with a positive sum: density grows along a component."""

    coordinates: Float[np.ndarray, "n k"]
    explained: Float[np.ndarray, " k"]
    """Share of the variance within the mask that each component explains."""

    def project(self, rows: Float[np.ndarray, "b m"]) -> Float[np.ndarray, "b k"]:
        """Return the coordinates of other volumes, given their voxels inside the mask."""
        return np.asarray((rows - self.mean) @ self.axes.T, dtype=np.float32)

    def volume(self, coordinates: Float[np.ndarray, " k"]) -> Float[np.ndarray, "d d d"]:
        """Return the volume at some coordinates; 0 outside the mask."""
        return in_box(self.mean + coordinates @ self.axes, self.mask)

    def mean_volume(self) -> Float[np.ndarray, "d d d"]:
        """Return the mean volume; 0 outside the mask."""
        return in_box(self.mean, self.mask)

    def change(self, component: int) -> Float[np.ndarray, "d d d"]:
        """Return the change of density by one SD along a component, counted from 0."""
        sd = float(self.coordinates[:, component].std())
        return in_box(sd * self.axes[component], self.mask)


@dataclass(frozen=True, slots=True)
class MaskedVoxels:
    """Picks the voxels inside a mask out of volumes; small enough to be shipped to workers."""

    voxels: Int[np.ndarray, " m"]
    """Their numbers in the order of a file."""

    is_clipped: bool = False
    """Whether negative density becomes 0."""

    @classmethod
    def of(cls, mask: Bool[np.ndarray, "d d d"], *, is_clipped: bool = False) -> "MaskedVoxels":
        """Return what picks the voxels of a mask."""
        return cls(np.flatnonzero(mask), is_clipped)

    def __call__(self, volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "b m"]:
        """Return the voxels of each volume."""
        rows = volumes.reshape(len(volumes), -1)[:, self.voxels]
        return np.maximum(rows, 0) if self.is_clipped else rows


def in_memory(rows: Float[np.ndarray, "n m"]) -> Slabs:
    """Return voxels that are in memory as slabs."""

    def slabs() -> Iterator[tuple[slice, Float[np.ndarray, "n w"]]]:
        width = max(BLOCK // len(rows), 1)
        for start in range(0, rows.shape[1], width):
            yield slice(start, start + width), rows[:, start : start + width]

    return slabs


class EqualVolumesError(InputError):
    """Volumes that do not differ have no components."""


def gram_matrix(slabs: Slabs, *, num_volumes: int, num_voxels: int) -> GramMatrix:
    """Return the mean of the volumes, and their products.

    Raises:
        InputError: If there are fewer than two volumes.
        EqualVolumesError: If all are equal within the mask.
    """
    if num_volumes < 2:
        raise InputError(f"Principal components need at least 2 volumes, found {num_volumes}.")
    products = np.zeros((num_volumes, num_volumes))
    mean = np.empty(num_voxels)
    for part, rows in slabs():
        centred = rows.astype(np.float64)
        mean[part] = centred.mean(axis=0)
        centred -= mean[part]
        products += centred @ centred.T
    variance, squared = float(np.trace(products)) / num_volumes, float((mean**2).sum())
    if not variance > 1e-12 * squared:
        raise EqualVolumesError(
            "All volumes are equal within the mask, so there are no components. Train longer, or "
            "take another mask."
        )
    # an axis holds a twelfth of this of the rounding errors, each up to half a step of eps
    rounding = float(np.finfo(np.float32).eps) ** 2 * (squared + variance)
    return GramMatrix(mean=mean.astype(np.float32), products=products, rounding=rounding)


def volume_components(
    gram: GramMatrix, slabs: Slabs, mask: Bool[np.ndarray, "d d d"], count: int
) -> VolumeComponents:
    """Return the first components of volumes; at most one fewer than there are volumes.

    Those that rounding explains are left out, with a warning.
    """
    asked = min(count, len(gram.products) - 1)
    total = float(np.trace(gram.products))
    values, vectors = np.linalg.eigh(gram.products)
    values = values[::-1][:asked]
    count = int((values > max(gram.rounding, LEAST_SHARE * total)).sum())
    if count < asked:
        log.warning(
            "the volumes differ along %s, not %d: what is left of their variance is rounding",
            counted(count, "component"),
            asked,
        )
    values, vectors = values[:count], vectors[:, ::-1][:, :count]
    weights = (vectors / np.sqrt(values)).T
    axes = np.empty((count, len(gram.mean)), dtype=np.float32)
    for part, rows in slabs():
        axes[:, part] = weights @ (rows.astype(np.float64) - gram.mean[part])
    sign = np.where(axes.sum(axis=1) < 0, -1.0, 1.0)
    return VolumeComponents(
        mask=mask,
        mean=gram.mean,
        axes=sign[:, None].astype(np.float32) * axes,
        coordinates=sign * vectors * np.sqrt(values),
        explained=values / total,
    )


def rows_at_percentiles(
    coordinate: Float[np.ndarray, " n"], percentiles: Sequence[float]
) -> Int[np.ndarray, " p"]:
    """Return the volumes nearest to percentiles of a coordinate, each once, ascending."""
    wanted = np.percentile(coordinate, percentiles)
    rows = np.abs(coordinate[:, None] - wanted).argmin(axis=0)
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def coordinates_by_nearest_latent(
    coordinates: Float[np.ndarray, "n k"],
    latents: Float[np.ndarray, "n zdim"],
    z: Float[np.ndarray, "p zdim"],
) -> Float[np.ndarray, "p k"]:
    """Return for each particle the coordinates of the volume with the latent nearest to its own."""
    return coordinates[nearest_rows(latents, z)]
