"""How volumes of the two halves agree: by shell, and by region.

What all particles have in common agrees whatever the latents are. So beside each state's volume its
difference from the mean volume is compared, each half's from its own mean.

References:
    Rosenthal & Henderson (2003), J. Mol. Biol. 333:721 (half maps, 0.143).
    Cardone et al. (2013), J. Struct. Biol. 184:226 (resolution by region).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from raydrgn.fourier.resample import low_pass
from raydrgn.fourier.shells import (
    resolution_at,
    shell_correlation,
    shell_index,
    with_flat_spectrum,
)
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.inputs.resolution import density_mask, measure_resolution
from raydrgn.shapes import Bool, Float

WHOLE, PARTIAL = 0.6, 0.3
"""Mean correlation of differences from which a state is reproduced, and partly reproduced."""

ROUNDING = 0.001
"""Amplitude over that of the volume below which a difference is none, however reproducible."""


class Limits(NamedTuple):
    """What runs of a method have where there is nothing, by which their states are judged."""

    least_amplitude: float
    """Amplitude of a difference, over that of the volume, below which it is not a clear one."""

    clear: float | None
    """Correlation from which a smaller difference is clear too, if there is one."""


OF_MIXTURE = Limits(least_amplitude=0.06, clear=0.8)
"""Of particles in one state, differences were below 0.1 % (docs/halves.md)."""

OF_AUTOENCODER = Limits(least_amplitude=0.2, clear=None)
"""Of particles in one state, differences that both halves had were up to 17 % of the volume, with
correlations up to 0.82: the encoders find the same directions of the noise (docs/halves.md)."""

FEWEST_SHELLS = 3
"""Shells, without the zero frequency, below which a correlation is chance."""

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly reproduced", "not reproduced"
NO_DIFFERENCE = "no clear difference"
JUDGEMENTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NO_DIFFERENCE)

THRESHOLD = 0.143
"""Of the correlation of half maps, where their resolution is read."""

WINDOW_PERIODS = 0.75
"""SD of the window for one region, in periods of the highest frequency compared there."""

LOCAL_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class StateAgreement:
    """How the two volumes of a state agree."""

    fsc: Float[Tensor, " shells"]
    """Of the volumes, within the mask, the mask's own part taken out."""

    difference_fsc: Float[Tensor, " shells"]
    """Of their differences from the mean volumes, within the mask."""

    resolution_angstrom: float
    """Where ``fsc`` falls below 0.143."""

    difference_resolution_angstrom: float
    """Where ``difference_fsc`` falls below 0.143."""

    amplitude: float
    """Of what both halves have of the difference, over that of the volume: root mean squares."""

    local: Float[np.ndarray, "d d d"]
    """Correlation of the differences in the neighbourhood of each voxel; 0 outside the mask."""

    difference: Float[np.ndarray, "d d d"]
    """Mean of the two differences, to ``resolution_angstrom``, within the mask."""

    limits: Limits
    """By which it is judged."""

    @property
    def correlation(self) -> float:
        """Mean of ``difference_fsc`` over ``num_shells`` shells; negative ones count as 0.

        Entry 1 is left out: it is the zero frequency alone, where a correlation is 1 or −1.
        """
        compared = self.difference_fsc[2 : 2 + self.num_shells].clamp(min=0)
        return float(compared.mean()) if len(compared) else 0.0

    @property
    def num_shells(self) -> int:
        """Number of shells to the resolution of the volumes, without the zero frequency."""
        below = torch.nonzero(self.fsc[2:] < THRESHOLD)
        return int(below[0]) if len(below) else len(self.fsc) - 2

    @property
    def judgement(self) -> str:
        """Whether both halves have the state, in words."""
        has_shells = self.num_shells >= FEWEST_SHELLS
        least, clear = self.limits
        is_clear = clear is not None and has_shells and self.correlation >= clear
        if self.amplitude < (ROUNDING if is_clear else least):
            return NO_DIFFERENCE
        if not has_shells:
            return NOT_REPRODUCED
        if self.correlation >= WHOLE:
            return REPRODUCED
        return PARTLY if self.correlation >= PARTIAL else NOT_REPRODUCED


def compare_state(
    volumes: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]],
    means: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]],
    *,
    mask: Float[np.ndarray, "d d d"],
    pixel_size_angstrom: float,
    limits: Limits,
    generator: torch.Generator,
) -> StateAgreement:
    """Compare the volumes that the two halves have of a state.

    Args:
        volumes: Of the state, from each half.
        means: Mean volume of each half.
        mask: Soft mask of the density of all states.
        pixel_size_angstrom: Edge of a voxel.
        limits: By which it is judged.
        generator: Source of the random phases that tell the mask's own part.
    """
    first, second = volumes
    found = measure_resolution(
        first,
        second,
        (first + second) / 2,
        pixel_size_angstrom=pixel_size_angstrom,
        generator=generator,
    )
    resolution = found.at(THRESHOLD)
    whole = [torch.from_numpy(v - mean) for v, mean in zip(volumes, means, strict=True)]
    soft = torch.from_numpy(mask)
    curve = shell_correlation(*(with_flat_spectrum(difference) * soft for difference in whole))
    differences = [difference * soft for difference in whole]
    smooth = [
        low_pass(
            difference, resolution_angstrom=resolution, pixel_size_angstrom=pixel_size_angstrom
        ).numpy()
        for difference in differences
    ]
    inside = mask > 0.5
    width = WINDOW_PERIODS * resolution / pixel_size_angstrom
    return StateAgreement(
        fsc=found.corrected,
        difference_fsc=curve,
        resolution_angstrom=resolution,
        difference_resolution_angstrom=_first_below(curve, pixel_size_angstrom),
        amplitude=_shared_amplitude(differences, [torch.from_numpy(v * mask) for v in volumes]),
        local=np.where(inside, local_correlation(*smooth, width=width), 0).astype(np.float32),
        difference=((smooth[0] + smooth[1]) / 2 * mask).astype(np.float32),
        limits=limits,
    )


def _shared_amplitude(
    differences: Sequence[Float[Tensor, "d d d"]], volumes: Sequence[Float[Tensor, "d d d"]]
) -> float:
    """Return the amplitude of what two differences share, over that of what the volumes share."""
    shared, whole = (float((pair[0] * pair[1]).sum()) for pair in (differences, volumes))
    return (max(shared, 0.0) / whole) ** 0.5 if whole > 0 else 0.0


def _first_below(curve: Float[Tensor, " shells"], pixel_size_angstrom: float) -> float:
    """Return the resolution in Å to which differences agree; infinite if nowhere."""
    if curve[2] < THRESHOLD:
        return float("inf")
    curve = curve.clone()
    curve[:2] = 1  # the zero frequency alone
    return resolution_at(curve, threshold=THRESHOLD, pixel_size_angstrom=pixel_size_angstrom)


def local_correlation(
    first: Float[np.ndarray, "d d d"], second: Float[np.ndarray, "d d d"], *, width: float
) -> Float[np.ndarray, "d d d"]:
    """Return the correlation of two maps in a Gaussian window around each voxel.

    Args:
        first: Map without a mean, such as a difference or a band of frequencies.
        second: The other one.
        width: Standard deviation of the window, voxels.
    """
    cross, power1, power2 = (
        gaussian_filter(product.astype(np.float64), width, mode="constant")
        for product in (first * second, first**2, second**2)
    )
    power = np.sqrt(np.maximum(power1, 0) * np.maximum(power2, 0))
    least = 1e-6 * power.max() if power.size else 0.0
    found: np.ndarray = np.where(power > least, cross / np.maximum(power, 1e-300), 0.0)
    return found


def local_resolution(
    first: Float[np.ndarray, "d d d"],
    second: Float[np.ndarray, "d d d"],
    *,
    inside: Bool[np.ndarray, "d d d"],
    pixel_size_angstrom: float,
) -> Float[np.ndarray, "d d d"]:
    """Return the resolution of two half maps around each voxel, Å; 0 outside.

    Bands of two shells are compared one after the other, each in a window of some of its periods,
    and the first one below 0.5 ends what a voxel has.
    """
    box = first.shape[-1]
    spectra = [fft_centred(torch.from_numpy(volume), ndim=3) for volume in (first, second)]
    shells = shell_index(box)
    last = np.full(first.shape, 2.0)  # shells that agree
    open_ = inside.copy()
    for shell in range(3, box // 2 - 1, 2):
        band = (shells == shell) | (shells == shell + 1)
        parts = [
            ifft_centred(torch.where(band, spectrum, 0), ndim=3).numpy() for spectrum in spectra
        ]
        agrees = local_correlation(*parts, width=WINDOW_PERIODS * box / shell) >= LOCAL_THRESHOLD
        open_ &= agrees
        last[open_] = shell + 1
        if not open_.any():
            break
    return np.where(inside, box * pixel_size_angstrom / last, 0).astype(np.float32)


def mask_of(
    means: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]],
    *,
    pixel_size_angstrom: float,
) -> Float[np.ndarray, "d d d"]:
    """Return a soft mask of the density of the mean volume."""
    return density_mask((means[0] + means[1]) / 2, pixel_size_angstrom=pixel_size_angstrom)
