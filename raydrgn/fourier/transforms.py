"""Centred discrete Fourier transforms of images and volumes.

Unnormalised, with the origin at pixel ``box // 2`` in both spaces (see ``raydrgn.conventions``).
Half precision is widened first: float16 overflows at the zero frequency, which sums all pixels.
"""

import torch
from torch import Tensor

from raydrgn.shapes import Complex, Float, Int


def fft_centred(values: Float[Tensor, "*axes"], *, ndim: int) -> Complex[Tensor, "*axes"]:
    """Return the centred transform over the last ``ndim`` axes."""
    axes = tuple(range(-ndim, 0))
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(values, axes), dim=axes), axes)


def ifft_centred(spectrum: Complex[Tensor, "*axes"], *, ndim: int) -> Float[Tensor, "*axes"]:
    """Return the real part of the inverse of ``fft_centred``."""
    axes = tuple(range(-ndim, 0))
    values = torch.fft.ifftn(torch.fft.ifftshift(spectrum, axes), dim=axes)
    return torch.fft.fftshift(values, axes).real


def disc_coefficients(
    images: Float[Tensor, "b h w"], points: Int[Tensor, "n 2"]
) -> Float[Tensor, "b n 2"]:
    """Return the Fourier coefficients (Re, Im) of images at points with ky <= 0.

    Only half of the plane is transformed: the coefficient at k is the conjugate of that at -k.
    """
    box = images.shape[-1]
    shifted = torch.fft.ifftshift(images.float(), (-2, -1))
    spectrum = torch.fft.rfft2(shifted, dim=(-1, -2))  # (b h/2+1 w): ky >= 0, all kx
    flat = (-points[:, 1]) * box + (-points[:, 0]) % box
    mirrored = spectrum.flatten(1)[:, flat.to(images.device)]  # (b n)
    return torch.view_as_real(mirrored.conj().resolve_conj())


def images_from_disc(
    coefficients: Float[Tensor, "b n 2"], points: Int[Tensor, "n 2"], *, box: int
) -> Float[Tensor, "b h w"]:
    """Return the images with these coefficients at a half disc, and zero elsewhere.

    The zero frequency is zero, so every image has mean 0.
    """
    values = torch.view_as_complex(coefficients.float().contiguous())
    half = torch.zeros(len(values), box // 2 + 1, box, dtype=values.dtype, device=values.device)
    row, column = -points[:, 1], -points[:, 0]
    half[:, row, column % box] = values.conj().resolve_conj()
    # irfft2 reads the row ky = 0 whole, so that row needs its other half
    axis = points[:, 1] == 0
    half[:, 0, points[axis, 0] % box] = values[:, axis]
    real = torch.fft.irfft2(half, s=(box, box), dim=(-1, -2))
    return torch.fft.fftshift(real, (-2, -1))


def volumes_from_half(
    coefficients: Float[Tensor, "b n 2"], points: Int[Tensor, "n 3"], *, box: int
) -> Float[Tensor, "b d d d"]:
    """Return the real volumes with these coefficients (Re, Im) at points, and their Friedel mates.

    The value at -k is the conjugate of that at k; all other points are zero. Points run from
    -box/2 to box/2 on each axis; those at +box/2 are the same samples as at -box/2 and are dropped.
    """
    half = box // 2
    real, imag = coefficients.unbind(-1)
    hartley = coefficients.new_zeros(len(coefficients), *[box + 1] * 3)
    x, y, z = points.unbind(1)
    hartley[:, half - z, half - y, half - x] = real + imag
    hartley[:, half + z, half + y, half + x] = (
        real - imag
    )  # last: the origin is its own Friedel mate
    spectrum = fft_centred(hartley[:, :-1, :-1, :-1], ndim=3)
    return (spectrum.real - spectrum.imag) / box**3


def hartley_from_disc(coefficients: Float[Tensor, "b n 2"]) -> Float[Tensor, "b m"]:
    """Return the Hartley values of the whole disc, Re − Im at k and Re + Im at −k.

    The order is cryoDRGN's: the half disc, then its mirror image backwards; m = 2n.
    """
    real, imag = coefficients.unbind(dim=-1)
    return torch.cat([real - imag, (real + imag).flip(-1)], dim=-1)
