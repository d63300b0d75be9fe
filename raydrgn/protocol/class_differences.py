"""What a class differs in from all particles: in the map of its particles, and as it is decoded.

Most of a complex is in all of its particles, so that the map of any particles agrees with any
decoded volume. What tells a class is its difference from all particles. The maps of few particles
are damped more than that of all, by shell, and decoded volumes have a grey scale of their own; so
a difference is what is left of a class's volume when, in each shell, the multiple of the mean
volume that it fits best is subtracted.

References:
    Rosenthal & Henderson (2003), J. Mol. Biol. 333:721 (a map and the truth, from half maps).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.fourier.resample import resample
from raydrgn.fourier.shells import shell_index
from raydrgn.fourier.transforms import fft_centred
from raydrgn.halves.agreement import FEWEST_SHELLS
from raydrgn.inputs.backprojection import Backprojection
from raydrgn.inputs.resolution import density_mask
from raydrgn.shapes import Complex, Float


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleMean:
    """What all particles have in common, in the box of the decoded volumes."""

    full: Float[np.ndarray, "d d d"]
    """Map of all particles."""

    halves: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]]
    """Its half maps."""

    decoded: Float[np.ndarray, "d d d"]
    """Mean of the decoded volumes of all classes, weighted by their particles."""

    num_classes: int
    resolution_angstrom: float
    """Of the half maps."""

    pixel_size_angstrom: float

    @classmethod
    def of(
        cls,
        whole: Backprojection,
        volumes: Float[np.ndarray, "k d d d"],
        sizes: Sequence[int],
    ) -> "EnsembleMean":
        """Return the mean of classes.

        Args:
            whole: Maps of all particles, at any box of the same width in Å.
            volumes: Decoded volume of each class.
            sizes: Number of its particles.
        """
        box = volumes.shape[-1]
        weights = np.asarray(sizes, dtype=np.float64) / sum(sizes)
        first, second = (in_box(half, box) for half in whole.halves)
        return cls(
            full=in_box(whole.full, box),
            halves=(first, second),
            decoded=np.tensordot(weights, volumes, axes=1).astype(np.float32),
            num_classes=len(volumes),
            resolution_angstrom=whole.resolution.at(0.143),
            pixel_size_angstrom=whole.resolution.pixel_size_angstrom * len(whole.full) / box,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferenceAgreement:
    """Correlations of the differences of a class from all particles."""

    half_maps: float
    """Of its half maps with each other."""

    decoded: float
    """Of the map of its particles with its decoded volume."""

    @property
    def explained(self) -> float:
        """Share of the reproduced power that the decoded volume explains; 0 if it is opposite.

        The correlation of the map with a map without noise would be √(2c / (1 + c)), c being that
        of the half maps.
        """
        if self.half_maps <= 0 or self.decoded <= 0:
            return 0.0
        return self.decoded**2 * (1 + self.half_maps) / (2 * self.half_maps)


def compare_differences(
    maps: Backprojection, decoded: Float[np.ndarray, "d d d"], mean: EnsembleMean
) -> DifferenceAgreement:
    """Compare the differences of a class from all particles, to the resolution of its half maps.

    The noise of a half map of the class, and of all particles, is not in the other halves.

    Args:
        maps: Of the class's particles, at any box of the same width in Å.
        decoded: Its decoded volume.
        mean: What all particles have in common.
    """
    box, pixel_size = len(decoded), mean.pixel_size_angstrom
    full = in_box(maps.full, box)
    mask = np.maximum.reduce(
        [density_mask(v, pixel_size_angstrom=pixel_size) for v in (full, mean.full, decoded)]
    )
    last = min(int(box * pixel_size / maps.resolution.at(0.143) + 1e-6), box // 2 - 1)
    if last < 1 + FEWEST_SHELLS:
        return DifferenceAgreement(half_maps=0.0, decoded=0.0)
    halves = [
        _difference(in_box(own, box) * mask, common * mask)
        for own, common in zip(maps.halves, mean.halves, strict=True)
    ]
    shown = _difference(full * mask, mean.full * mask)
    claimed = _difference(decoded * mask, mean.decoded * mask)
    return DifferenceAgreement(
        half_maps=_correlation(*halves, last=last), decoded=_correlation(shown, claimed, last=last)
    )


def _difference(
    volume: Float[np.ndarray, "d d d"], mean: Float[np.ndarray, "d d d"]
) -> Complex[Tensor, "d d d"]:
    """Return the spectrum of a volume less, in each shell, the multiple of the mean that fits."""
    own, common = (
        fft_centred(torch.from_numpy(v.astype(np.float32)), ndim=3) for v in (volume, mean)
    )
    index = shell_index(len(volume))
    shared, power = (
        torch.zeros(len(volume) // 2).index_add(0, index.flatten(), values.flatten())
        for values in ((own * common.conj()).real, common.abs().square())
    )
    return own - common * (shared / power.clamp(min=1e-30))[index]


def _correlation(
    first: Complex[Tensor, "d d d"], second: Complex[Tensor, "d d d"], *, last: int
) -> float:
    """Return the correlation of two spectra over shells 2 to ``last``; 0 where one has no power."""
    index = shell_index(len(first))
    kept = (index >= 2) & (index <= last)
    a, b = first[kept], second[kept]
    power = float(a.abs().square().sum() * b.abs().square().sum())
    return float((a * b.conj()).real.sum()) / power**0.5 if power > 0 else 0.0


def in_box(volume: Float[np.ndarray, "r r r"], box: int) -> Float[np.ndarray, "d d d"]:
    """Return a volume in a smaller box, with the same densities."""
    old = len(volume)
    small = resample(torch.from_numpy(volume), box=box, ndim=3).numpy()
    return np.asarray(small * (box / old) ** 3, dtype=np.float32)
