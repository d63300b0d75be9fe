"""Masked sums of volumes: of maps on disk, and of the volumes that a decoder makes.

The occupancy of a subunit in a map is the sum of the map within the subunit's mask over the sum of
its reference density. With a threshold, the map is binarised first: 1 at or above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.errors import RaydrgnError
from raydrgn.io.mrc import read_volume
from raydrgn.io.storage import Uri
from raydrgn.occupancy.subunits import SubunitSet
from raydrgn.remote import metrics
from raydrgn.shapes import Float


def masked_sums(
    volume: Float[np.ndarray, "d d d"], subunits: SubunitSet
) -> Float[np.ndarray, " subunits"]:
    """Return the sum of a map in each mask, with MAVEn's rounding.

    Each sum is NumPy's single-precision sum over the whole box, so that MAVEn's numbers are
    reproduced to the last digit, also where the density of a subunit cancels.
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
    sums = np.stack([subunits.weights @ volume.astype(np.float64) for volume in flat])
    sums[~np.isfinite(flat).all(axis=1)] = np.nan
    return sums


def binarised(
    volumes: Float[np.ndarray, "b d d d"], thresholds: Float[np.ndarray, " b"]
) -> Float[np.ndarray, "b d d d"]:
    """Return 1 where a map reaches its threshold, 0 elsewhere, and NaN where it is not finite."""
    reached = (volumes >= thresholds[:, None, None, None]).astype(np.float32)
    return np.where(np.isfinite(volumes), reached, np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class MaskedSums:
    """Masked sums of some volumes, and which of them failed."""

    sums: Float[np.ndarray, "b subunits"]
    """NaN for volumes that failed."""

    failures: dict[int, str]
    """Reason, by row."""


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """Work on maps, given as rows of a list: read and score them."""

    subunits: SubunitSet
    uris: Sequence[Uri]
    thresholds: Float[np.ndarray, " n"] | None = None

    def __call__(self, rows: Sequence[int]) -> MaskedSums:
        """Return the sums of some maps; a map that cannot be read does not stop the others."""
        sums = np.full((len(rows), len(self.subunits.names)), np.nan)
        failures = {}
        for index, row in enumerate(rows):
            try:
                sums[index] = self._sums_of_map(row)
            except RaydrgnError as error:
                failures[row] = str(error)
        metrics.count("scored_volumes", len(rows))
        return MaskedSums(sums, failures)

    def _sums_of_map(self, row: int) -> Float[np.ndarray, " subunits"]:
        volume, _ = read_volume(self.uris[row])
        if self.thresholds is not None:
            volume = binarised(volume[None], self.thresholds[row : row + 1])[0]
        return masked_sums(volume, self.subunits)


@dataclass(frozen=True, slots=True)
class ScoreLatents:
    """Work of a decoder on rows of a table of latents: decode volumes and score them."""

    subunits: SubunitSet
    z: Float[np.ndarray, "n zdim"]
    thresholds: Float[np.ndarray, " n"] | None = None

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> MaskedSums:
        """Return the sums of some volumes."""
        volumes = decoder.decode(self.z[list(rows)])
        if self.thresholds is not None:
            volumes = binarised(volumes, self.thresholds[list(rows)])
        sums = masked_sums_of_many(volumes, self.subunits)
        decoder.count("scored_volumes", len(rows))
        bad = np.flatnonzero(np.isnan(sums).any(axis=1))
        return MaskedSums(sums, {rows[int(i)]: "voxels are not finite" for i in bad})
