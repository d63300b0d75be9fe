"""Principal components of volumes within one mask, voxel by voxel: no model is needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from raydrgn.clustering.clusters import nearest_rows
from raydrgn.decoding.pool import DecoderPool
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.mrc import read_volume
from raydrgn.io.storage import Uri
from raydrgn.occupancy.scored_volumes import WantedVolumes
from raydrgn.occupancy.subunits import OUTSIDE, SubunitSet
from raydrgn.shapes import Bool, Float, Int

INSIDE = 0.5
"""Of a soft mask, the voxels from here on are inside."""

MOST_BYTES = 8e9
"""What the voxels of all volumes may take in memory."""

Progress = Callable[[int, int], None]


class Mask(NamedTuple):
    """A region of the grid of some volumes."""

    inside: Bool[np.ndarray, "d d d"]
    grid: SubunitSet
    """Checks whether volumes are on its grid."""

    origin_angstrom: tuple[float, float, float]


def read_mask(uri: Uri) -> Mask:
    """Read a mask; voxels of 0.5 and more are inside.

    Raises:
        InputError: If it is empty, or holds the whole box, as a map does that is no mask.
    """
    volume, header = read_volume(uri)
    inside = volume >= INSIDE
    if not inside.any():
        raise InputError(f"{uri} has no voxel of {INSIDE:g} or more; it is empty, or no mask.")
    if volume.max() > 1 + OUTSIDE or volume.min() < -OUTSIDE:
        raise InputError(
            f"{uri} has values from {volume.min():.3g} to {volume.max():.3g}, but a mask is "
            "between 0 and 1. Make one of a map with `raydrgn occupancy masks MAP.mrc`."
        )
    grid = SubunitSet(
        names=("mask",),
        box=len(volume),
        pixel_size_angstrom=header.pixel_size_angstrom,
        weights=sparse.csr_array(inside.reshape(1, -1).astype(np.float32)),
    )
    return Mask(inside, grid, header.origin_angstrom)


@dataclass(frozen=True, slots=True)
class _Inside:
    """Picks the voxels of a mask out of volumes, where these are."""

    voxels: Int[np.ndarray, " m"]

    def __call__(self, volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "b m"]:
        return volumes.reshape(len(volumes), -1)[:, self.voxels]


def check_size(count: int, mask: Mask) -> None:
    """Refuse more than memory holds.

    Raises:
        ConfigError: With what is needed.
    """
    needed = 2 * 4 * count * int(mask.inside.sum())
    if needed > MOST_BYTES:
        raise ConfigError(
            f"{count} volumes × {int(mask.inside.sum()):,} voxels take {needed / 1e9:.0f} GB; take "
            "a smaller --ksample, or a mask in a smaller box."
        )


def voxels_of_maps(
    wanted: WantedVolumes, mask: Mask, *, progress: Progress | None = None
) -> Float[np.ndarray, "n m"]:
    """Return the voxels inside of a mask of each map."""
    pick = _Inside(np.flatnonzero(mask.inside))
    rows = np.empty((len(wanted.uris), len(pick.voxels)), dtype=np.float32)
    for number, uri in enumerate(wanted.uris):
        rows[number] = pick(read_volume(uri)[0][None])[0]
        if progress:
            progress(number + 1, len(rows))
    return rows


def voxels_of_latents(
    wanted: WantedVolumes, mask: Mask, pool: DecoderPool, *, progress: Progress | None = None
) -> Float[np.ndarray, "n m"]:
    """Return the voxels inside of a mask of the volume of each latent, decoded by a pool.

    Raises:
        Exception: What a batch failed of.
        InputError: If a volume is not finite.
    """
    pick = _Inside(np.flatnonzero(mask.inside))
    z = wanted.latents()
    rows = np.empty((len(z), len(pick.voxels)), dtype=np.float32)
    done = 0
    for outcome in pool.apply(pick, z):
        if outcome.error:
            raise outcome.error
        rows[outcome.item.start : outcome.item.stop] = outcome.value
        done += len(outcome.item)
        if progress:
            progress(done, len(z))
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise InputError(
            f"Volume {wanted.names[bad[0]]} has voxels that are not finite ({bad.size} such "
            "volumes); training has diverged. Take an earlier epoch."
        )
    return rows


class VoxelComponents(NamedTuple):
    """Volumes along their principal components within a mask."""

    coordinates: Float[np.ndarray, "n k"]
    explained: Float[np.ndarray, " k"]
    """Share of the variance within the mask that each explains."""

    axes: Float[np.ndarray, "k m"]
    """Of length 1, with a positive sum: density grows along a component."""

    mean: Float[np.ndarray, " m"]

    def map_of(self, component: int, mask: Mask) -> Float[np.ndarray, "d d d"]:
        """Return the change of density by one standard deviation along a component, from 0."""
        spread = float(self.coordinates[:, component].std())
        return _in_box(spread * self.axes[component], mask)

    def mean_map(self, mask: Mask) -> Float[np.ndarray, "d d d"]:
        """Return the mean volume within the mask."""
        return _in_box(self.mean, mask)


def _in_box(values: Float[np.ndarray, " m"], mask: Mask) -> Float[np.ndarray, "d d d"]:
    volume = np.zeros(mask.inside.shape, dtype=np.float32)
    volume[mask.inside] = values
    return volume


def voxel_components(rows: Float[np.ndarray, "n m"], count: int) -> VoxelComponents:
    """Return the first principal components of volumes, by their products with one another.

    With X the centred rows, X·Xᵀ = U·Λ·Uᵀ gives the coordinates U·√Λ and the axes Xᵀ·U/√Λ.

    Raises:
        InputError: If all volumes are equal within the mask.
        ConfigError: If there are fewer volumes than components ask for.
    """
    if not 1 <= count < len(rows):
        raise ConfigError(
            f"--components {count} asks for more than {len(rows)} volumes have; {len(rows) - 1} "
            "at most."
        )
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean.astype(np.float32)
    products = (centred @ centred.T).astype(np.float64)
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    total = float(np.trace(products))
    if not total > 0:
        raise InputError("All volumes are equal within the mask; there are no components.")
    values = np.maximum(values, 1e-12 * total)
    axes = (vectors / np.sqrt(values)).T.astype(np.float32) @ centred
    sign = np.where(axes.sum(axis=1) < 0, -1, 1)
    return VoxelComponents(
        coordinates=sign * vectors * np.sqrt(values),
        explained=values / total,
        axes=sign[:, None].astype(np.float32) * axes,
        mean=mean,
    )


def along(
    coordinate: Float[np.ndarray, " n"], percentiles: Sequence[float]
) -> Int[np.ndarray, " p"]:
    """Return the volumes nearest to percentiles of a coordinate, each once, ascending."""
    wanted = np.percentile(coordinate, percentiles)
    rows = np.abs(coordinate[:, None] - wanted).argmin(axis=0)
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def of_particles(
    wanted: WantedVolumes,
    z: Float[np.ndarray, "p zdim"],
    coordinates: Float[np.ndarray, "n k"],
) -> Float[np.ndarray, "p k"]:
    """Return the coordinates of every particle: those of its cluster, or of the nearest latent."""
    if wanted.labels is not None:
        return coordinates[wanted.labels]
    return coordinates[nearest_rows(wanted.latents(), z)]
