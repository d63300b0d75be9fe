"""Volumes of one representative point through the epochs, compared with one another.

One task decodes a point and holds two of its volumes at a time: no volume is decoded twice, and
none passes through the disk or the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raydrgn.convergence import criteria
from raydrgn.convergence.criteria import Agreement, OverfittingMeasures
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.io import storage
from raydrgn.io.mrc import volume_name, write_volume
from raydrgn.io.storage import Uri
from raydrgn.run.weights import DecoderState
from raydrgn.shapes import Float


class PointComparison(NamedTuple):
    """The volumes of a point through the examined epochs."""

    correlation: Float[np.ndarray, " pairs"]
    fsc: Float[np.ndarray, "pairs shells"]
    overfitting: Float[np.ndarray, "epochs 2"]
    """``OverfittingMeasures`` of each volume."""

    slices: Float[np.ndarray, "epochs d d"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparePoint:
    """Decodes and compares the volumes of a point, as work for a task."""

    states: Sequence[DecoderState]
    """Decoders of the epochs."""

    options: VolumeOptions
    latents: Float[np.ndarray, "epochs points zdim"]
    folders: tuple[Uri, ...] = ()
    """Where the volumes of each epoch are written; nowhere if empty."""

    def __call__(self, point: int) -> PointComparison:
        """Return the comparison of a point, by its number."""
        before: np.ndarray | None = None
        compared: list[Agreement] = []
        measures: list[OverfittingMeasures] = []
        slices = []
        for number, state in enumerate(self.states):
            decoder = VolumeDecoder(state, self.options)
            [volume] = decoder.decode(self.latents[number, [point]])
            if self.folders:
                write_volume(
                    storage.join(self.folders[number], volume_name(point)),
                    volume,
                    pixel_size_angstrom=decoder.pixel_size_angstrom,
                )
            mask = criteria.volume_mask(volume)
            measures.append(criteria.overfitting_measures(volume, mask))
            slices.append(volume[len(volume) // 2])
            if before is not None:
                compared.append(criteria.agreement(before, volume * mask))
            before = volume * mask
        return PointComparison(
            correlation=np.array([pair.correlation for pair in compared]),
            fsc=np.stack([pair.fsc for pair in compared]),
            overfitting=np.array(measures),
            slices=np.stack(slices),
        )
