"""Volumes of which the voxels within one mask are compared, of files or decoded from latents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raydrgn.clustering.clusters import SEED, k_means
from raydrgn.decoding.pool import DecoderPool
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.masks import Mask
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.io.storage import Uri
from raydrgn.landscape.components import (
    MaskedVoxels,
    VolumeComponents,
    coordinates_by_nearest_latent,
    gram_matrix,
    in_memory,
    volume_components,
)
from raydrgn.remote.progress import Progress
from raydrgn.shapes import Float, Int

MAX_BYTES = 8e9
"""Memory that the voxels of all volumes may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeList:
    """Volumes to compare: maps in files, or latents to decode."""

    names: tuple[str, ...]
    uris: tuple[Uri, ...] = ()
    """Maps; none where volumes are decoded."""

    z: Float[np.ndarray, "n zdim"] | None = None
    """Latents to decode; None for maps."""

    rows: Int[np.ndarray, " n"] | None = None
    """Particle whose latent each volume has, where it is that of a particle."""

    labels: Int[np.ndarray, " p"] | None = None
    """Volume of the cluster of each particle, where volumes are centres of clusters."""


def volumes_of_maps(maps: Mapping[str, Uri], mask: Mask) -> VolumeList:
    """Return maps by their names.

    Raises:
        InputError: If a map is not on the grid of the mask.
    """
    for uri in maps.values():
        header = read_header(uri)
        mask.check_grid(header.shape[-1], header.pixel_size_angstrom, what=uri)
    return VolumeList(names=tuple(maps), uris=tuple(maps.values()))


def pixel_size_of_maps(maps: VolumeList, mask: Mask) -> float:
    """Return the pixel size in Å of the first map that has one, or else the mask's; 0 of none."""
    sizes = (read_header(uri).pixel_size_angstrom for uri in maps.uris)
    return next(filter(None, sizes), mask.pixel_size_angstrom)


def volumes_of_clusters(z: Float[np.ndarray, "p zdim"], count: int) -> VolumeList:
    """Return the volumes at the centres of k-means clusters of latents.

    Raises:
        ConfigError: If there are fewer distinct latents than clusters.
    """
    clusters = k_means(z, count, seed=SEED)
    return VolumeList(
        names=_numbered(count), z=z[clusters.rows], rows=clusters.rows, labels=clusters.labels
    )


def volumes_of_latents(z: Float[np.ndarray, "n zdim"]) -> VolumeList:
    """Return the volumes of latents, by number."""
    return VolumeList(names=_numbered(len(z)), z=z)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def check_memory(volumes: VolumeList, mask: Mask) -> None:
    """Refuse more voxels than fit into memory.

    Raises:
        ConfigError: With the memory needed.
    """
    num_volumes = len(volumes.names)
    needed = np.dtype(np.float32).itemsize * num_volumes * mask.num_voxels
    if needed > MAX_BYTES:
        raise ConfigError(
            f"{num_volumes} volumes × {mask.num_voxels:,} voxels need {needed / 1e9:.0f} GB of "
            "memory; use fewer volumes, a smaller mask, or a mask in a smaller box."
        )


def read_voxels(volumes: VolumeList, mask: Mask, *, progress: Progress) -> Float[np.ndarray, "n m"]:
    """Read the voxels inside a mask of each map."""
    voxels = MaskedVoxels.of(mask.inside)
    rows = np.empty((len(volumes.uris), mask.num_voxels), dtype=np.float32)
    for number, uri in enumerate(volumes.uris):
        rows[number] = voxels(read_volume(uri)[0][None])[0]
        progress("reading", number + 1, len(rows), unit="volumes")
    return rows


def decode_voxels(
    volumes: VolumeList, mask: Mask, pool: DecoderPool, *, progress: Progress
) -> Float[np.ndarray, "n m"]:
    """Decode the volume of each latent, and return its voxels inside a mask.

    Raises:
        Exception: The error of a batch that could not be decoded.
        InputError: If a volume is not finite.
    """
    assert volumes.z is not None, "maps are read, not decoded"
    rows = np.empty((len(volumes.z), mask.num_voxels), dtype=np.float32)
    done = 0
    for outcome in pool.apply(MaskedVoxels.of(mask.inside), volumes.z):
        if outcome.error:
            raise outcome.error
        rows[outcome.item.start : outcome.item.stop] = outcome.value
        done += len(outcome.item)
        progress("decoding", done, len(rows), unit="volumes")
    bad = [number for number, row in enumerate(rows) if not np.isfinite(row).all()]
    if bad:
        raise InputError(
            f"{len(bad)} volumes have voxels that are not finite, the first is volume "
            f"{volumes.names[bad[0]]}: training has diverged. Take an earlier epoch."
        )
    return rows


def components_within(rows: Float[np.ndarray, "n m"], mask: Mask, count: int) -> VolumeComponents:
    """Return the components of volumes, given their voxels inside a mask.

    Raises:
        InputError: If there are fewer than two volumes, or all are equal within the mask.
    """
    slabs = in_memory(rows)
    gram = gram_matrix(slabs, num_volumes=len(rows), num_voxels=rows.shape[1])
    return volume_components(gram, slabs, mask.inside, count)


def coordinates_of_particles(
    volumes: VolumeList, found: VolumeComponents, z: Float[np.ndarray, "p zdim"]
) -> Float[np.ndarray, "p k"]:
    """Return for each particle the coordinates of the volume of its cluster.

    Where volumes are not those of clusters, of the volume with the nearest latent.
    """
    if volumes.labels is not None:
        return found.coordinates[volumes.labels]
    assert volumes.z is not None, "maps are of no particles"
    return coordinates_by_nearest_latent(found.coordinates, volumes.z, z)
