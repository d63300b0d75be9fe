"""Correlation of half maps, with a mask, and with what the mask adds to it taken out.

Conventions of shells are those of ``raydrgn.fourier.shells``. The half maps must come from two
halves of the particles that met nowhere but in the poses.

References:
    Rosenthal & Henderson (2003), J. Mol. Biol. 333:721 (the threshold 0.143).
    Chen et al. (2013), Ultramicroscopy 135:24 (phase randomisation).
"""

import csv
import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.fourier.masks import soft_mask, soft_sphere
from raydrgn.fourier.resample import low_pass
from raydrgn.fourier.shells import (
    frequencies,
    resolution_at,
    shell_correlation,
    shell_index,
    with_flat_spectrum,
)
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

RANDOMISED_BELOW = 0.8
"""Phases are randomised from the shell on where the correlation without a mask is below this."""

LEAKING_SHELLS = 2
"""Shells after that one which the mask still mixes with those before it."""

MASK_MARGIN_ANGSTROM, MASK_MARGIN_PX = 6.0, 2
MASK_EDGE_ANGSTROM, MASK_EDGE_PX = 6.0, 4
SMOOTHED_ANGSTROM = 15.0
"""Resolution of the map from which the mask is made, or coarser if the map is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """Correlation curves of two half maps, an entry per shell, and the resolution they give."""

    pixel_size_angstrom: float
    unmasked: Float[Tensor, " shells"]
    spherical: Float[Tensor, " shells"]
    masked: Float[Tensor, " shells"]
    randomised: Float[Tensor, " shells"]
    """With the mask, phases random beyond a shell; what is left is due to the mask."""

    corrected: Float[Tensor, " shells"]
    """With the mask, and its effect taken out."""

    mask: Float[np.ndarray, "d d d"]

    def at(self, threshold: float) -> float:
        """Return the resolution in Å where the corrected curve falls below a threshold."""
        curve = self.corrected.clone()
        curve[:2] = 1  # the zero frequency alone, where a correlation is 1 or −1
        return resolution_at(
            curve, threshold=threshold, pixel_size_angstrom=self.pixel_size_angstrom
        )

    @property
    def reaches_nyquist(self) -> bool:
        """Whether the corrected curve stays above 0.143 throughout."""
        return self.at(0.143) <= 2 * self.pixel_size_angstrom

    def write_csv(self, uri: Uri) -> None:
        """Write a row per shell."""
        names = ("unmasked", "spherical", "masked", "randomised", "corrected")
        columns = [getattr(self, name).tolist() for name in names]
        per_angstrom = frequencies(2 * len(self.corrected)) / self.pixel_size_angstrom
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["shell", "frequency_per_angstrom", "resolution_angstrom"]
            + [f"fsc_{name}" for name in names]
        )
        for shell, (frequency, *values) in enumerate(
            zip(per_angstrom.tolist(), *columns, strict=True)
        ):
            resolution = f"{1 / frequency:.4f}" if frequency else "inf"
            writer.writerow(
                [shell, f"{frequency:.6f}", resolution, *(f"{value:.6f}" for value in values)]
            )
        storage.write_bytes(uri, text.getvalue().encode())


def measure_resolution(
    first: Float[np.ndarray, "d d d"],
    second: Float[np.ndarray, "d d d"],
    full: Float[np.ndarray, "d d d"],
    *,
    pixel_size_angstrom: float,
    generator: torch.Generator,
) -> Resolution:
    """Correlate two half maps; the mask is made from the full map.

    Args:
        first: Map of one half of the particles.
        second: Map of the other half.
        full: Map of all particles.
        pixel_size_angstrom: Edge of a voxel.
        generator: Source of random phases.
    """
    a, b = (torch.from_numpy(half) for half in (first, second))
    sphere = torch.from_numpy(soft_sphere(a.shape[-1]))
    mask = density_mask(full, pixel_size_angstrom=pixel_size_angstrom)
    tight = torch.from_numpy(mask)
    unmasked = shell_correlation(a, b)
    masked, randomised, corrected = within_mask(a, b, tight, unmasked=unmasked, generator=generator)
    return Resolution(
        pixel_size_angstrom=pixel_size_angstrom,
        unmasked=unmasked,
        spherical=shell_correlation(*(with_flat_spectrum(half) * sphere for half in (a, b))),
        masked=masked,
        randomised=randomised,
        corrected=corrected,
        mask=mask,
    )


def within_mask(
    first: Float[Tensor, "d d d"],
    second: Float[Tensor, "d d d"],
    mask: Float[Tensor, "d d d"],
    *,
    unmasked: Float[Tensor, " shells"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, " shells"], Float[Tensor, " shells"], Float[Tensor, " shells"]]:
    """Return three curves of two maps within a mask, each map with a flat spectrum.

    Args:
        first: A map.
        second: The other.
        mask: From 0 to 1, multiplied with both.
        unmasked: Correlation of the maps without the mask.
        generator: Source of random phases.

    Returns:
        The correlation with the mask; with phases random beyond a shell, which the mask alone
        makes; and the first with the second taken out.
    """
    first, second = with_flat_spectrum(first), with_flat_spectrum(second)
    masked = shell_correlation(first * mask, second * mask)
    start = randomised_from(unmasked)
    if start is None:
        return masked, torch.zeros_like(masked), masked
    noise = [randomise_phases(v, shell=start, generator=generator) for v in (first, second)]
    randomised = shell_correlation(noise[0] * mask, noise[1] * mask)
    corrected = masked.clone()
    beyond = slice(start + LEAKING_SHELLS, None)
    by_mask = randomised[beyond].clamp(max=0.999)
    corrected[beyond] = (masked[beyond] - by_mask) / (1 - by_mask)
    return masked, randomised, corrected


def density_mask(
    volume: Float[np.ndarray, "d d d"], *, pixel_size_angstrom: float
) -> Float[np.ndarray, "d d d"]:
    """Return a soft mask of a map's density, either sign, found in the map smoothed."""
    box = volume.shape[-1]
    coarse = max(SMOOTHED_ANGSTROM, 3 * pixel_size_angstrom)
    smooth = low_pass(
        torch.from_numpy(volume),
        resolution_angstrom=coarse,
        pixel_size_angstrom=pixel_size_angstrom,
    ).numpy() * soft_sphere(box)
    sign = -1.0 if abs(smooth.min()) > smooth.max() else 1.0
    return soft_mask(
        sign * smooth,
        pixel_size_angstrom=pixel_size_angstrom,
        dilate_angstrom=max(MASK_MARGIN_ANGSTROM, MASK_MARGIN_PX * pixel_size_angstrom),
        edge_angstrom=max(MASK_EDGE_ANGSTROM, MASK_EDGE_PX * pixel_size_angstrom),
    )


def randomised_from(unmasked: Float[Tensor, " shells"]) -> int | None:
    """Return the first shell where phases are randomised; None if the maps agree throughout."""
    below = torch.nonzero(unmasked[2:] < RANDOMISED_BELOW)
    return int(below[0]) + 2 if len(below) else None


def randomise_phases(
    volume: Float[Tensor, "d d d"], *, shell: int, generator: torch.Generator
) -> Float[Tensor, "d d d"]:
    """Return the volume with the phases of white noise from a shell on, amplitudes as they were.

    Phases of a real noise volume keep the symmetry that makes the result real.
    """
    box = volume.shape[-1]
    noise = fft_centred(torch.randn(volume.shape, generator=generator), ndim=3)
    spectrum = fft_centred(volume, ndim=3)
    index = shell_index(box)
    chosen = (index >= shell) | (index == 0)  # the corners belong to no shell
    phase = noise / noise.abs().clamp(min=1e-30)
    return ifft_centred(torch.where(chosen, spectrum.abs() * phase, spectrum), ndim=3)
