"""Change of box size by cropping or padding in Fourier space, and low-pass filtering.

A smaller box covers the same field of view with larger pixels: box·pixel size is unchanged.
"""

import torch
from torch import Tensor

from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.geometry.lattice import check_box
from raydrgn.shapes import Complex, Float


def resample(values: Float[Tensor, "*axes"], *, box: int, ndim: int) -> Float[Tensor, "*out"]:
    """Return images (``ndim`` 2) or volumes (3) in another even box, keeping the sum of pixels.

    Frequencies that both boxes contain are kept as they are; the mean grey value is therefore
    multiplied by (old box / new box) ** ndim, as in cryoDRGN's downsampling.

    Raises:
        ConfigError: If either box is odd.
    """
    old = values.shape[-1]
    check_box(old)
    check_box(box)
    spectrum = _crop_or_pad(fft_centred(values, ndim=ndim), box=box, ndim=ndim)
    return ifft_centred(spectrum, ndim=ndim)


def _crop_or_pad(
    spectrum: Complex[Tensor, "*axes"], *, box: int, ndim: int
) -> Complex[Tensor, "*out"]:
    margin = (spectrum.shape[-1] - box) // 2  # negative when padding
    if margin <= 0:
        return torch.nn.functional.pad(spectrum, [-margin] * (2 * ndim))
    for axis in range(-ndim, 0):
        spectrum = spectrum.narrow(axis, margin, box)
    return spectrum


def low_pass(
    volume: Float[Tensor, "*b d d d"], *, resolution_angstrom: float, pixel_size_angstrom: float
) -> Float[Tensor, "*b d d d"]:
    """Return the volume without frequencies above 1 / ``resolution_angstrom``: a hard cut."""
    box = volume.shape[-1]
    ticks = torch.arange(-(box // 2), box // 2, device=volume.device) / box
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    kept = torch.sqrt(x**2 + y**2 + z**2) <= pixel_size_angstrom / resolution_angstrom
    return ifft_centred(fft_centred(volume, ndim=3) * kept, ndim=3)
