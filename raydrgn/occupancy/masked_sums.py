"""Masked sums of volumes: of a map on disk, and of the volumes that a decoder makes.

The occupancy of a subunit in a map is the sum of the map within the subunit's mask over the sum of
its reference density; with a threshold, of the voxels at or above it instead of the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.errors import RaydrgnError
from raydrgn.io.mrc import read_volume
from raydrgn.io.storage import Uri
from raydrgn.occupancy.subunits import SubunitSet
from raydrgn.shapes import Float


def masked_sums(
    volume: Float[np.ndarray, "d d d"], subunits: SubunitSet
) -> Float[np.ndarray, " subunits"]:
    """Return the sum of a map in each mask, with MAVEn's rounding.

    That is NumPy's single-precision sum over the whole box, so that its numbers come out to the
    last digit, those of subunits whose density cancels included.
    """
    flat, weights = volume.reshape(-1), subunits.weights
    product = np.zeros_like(flat)
    sums = np.empty(len(subunits.names))
    for number, (start, stop) in enumerate(
        zip(weights.indptr[:-1], weights.indptr[1:], strict=True)
    ):
        voxels = weights.indices[start:stop]
        product[voxels] = weights.data[start:stop] * flat[voxels]
        sums[number] = product.sum()
        product[voxels] = 0
    return sums


def masked_sums_of_many(
    volumes: Float[np.ndarray, "b d d d"], subunits: SubunitSet
) -> Float[np.ndarray, "b subunits"]:
    """Return the sums of several maps as products with the mask matrix, in double precision.

    A map with a voxel that is not finite has no sums: its row is NaN.
    """
    flat = volumes.reshape(len(volumes), -1)
    sums = np.stack([subunits.weights @ one.astype(np.float64) for one in flat])
    sums[~np.isfinite(flat).all(axis=1)] = np.nan
    return sums


def binarised(
    volumes: Float[np.ndarray, "b d d d"], thresholds: Float[np.ndarray, " b"]
) -> Float[np.ndarray, "b d d d"]:
    """Return 1 where a map reaches its threshold, 0 elsewhere, and NaN where it is not finite."""
    reached = (volumes >= thresholds[:, None, None, None]).astype(np.float32)
    return np.where(np.isfinite(volumes), reached, np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of some volumes."""

    sums: Float[np.ndarray, "b subunits"]
    """NaN for volumes that could not be scored."""

    failures: dict[int, str]
    """Why not, by row."""


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """Reads and scores maps, given as rows of a list."""

    subunits: SubunitSet
    uris: Sequence[Uri]
    thresholds: Float[np.ndarray, " n"] | None = None

    def __call__(self, rows: Sequence[int]) -> Scored:
        """Return the sums of some maps; one that cannot be read does not stop the others."""
        sums = np.full((len(rows), len(self.subunits.names)), np.nan)
        failures = {}
        for place, row in enumerate(rows):
            try:
                sums[place] = self._one(row)
            except RaydrgnError as error:
                failures[row] = str(error)
        return Scored(sums, failures)

    def _one(self, row: int) -> Float[np.ndarray, " subunits"]:
        volume, _ = read_volume(self.uris[row])
        if self.thresholds is not None:
            volume = binarised(volume[None], self.thresholds[row : row + 1])[0]
        return masked_sums(volume, self.subunits)


@dataclass(frozen=True, slots=True)
class ScoreLatents:
    """Decodes and scores volumes where a decoder is, given as rows of a table of latents."""

    subunits: SubunitSet
    z: Float[np.ndarray, "n zdim"]
    thresholds: Float[np.ndarray, " n"] | None = None

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> Scored:
        """Return the sums of some volumes."""
        volumes = decoder.decode(self.z[list(rows)])
        if self.thresholds is not None:
            volumes = binarised(volumes, self.thresholds[list(rows)])
        sums = masked_sums_of_many(volumes, self.subunits)
        bad = np.flatnonzero(np.isnan(sums).any(axis=1))
        return Scored(sums, {rows[int(i)]: "voxels are not finite" for i in bad})
