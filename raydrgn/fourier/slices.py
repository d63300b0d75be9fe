"""Central slices of a volume: its projections, in Fourier space.

By the projection theorem, the transform of the projection of a volume along the viewing direction
is the plane of its 3D transform through the origin and normal to that direction. Points of the
plane fall between the samples of a discrete transform; they are interpolated on a grid twice as
fine with a Kaiser-Bessel kernel of four samples, whose own transform is divided out of the volume
first. The error is at most about 2e-3 of the largest coefficient.

References:
    Beatty, Nishimura & Pauly (2005), IEEE Trans. Med. Imaging 24:799 (kernel and its shape).
"""

import itertools
import math

import torch
from torch import Tensor

from raydrgn.fourier.transforms import fft_centred
from raydrgn.geometry.box import check_box
from raydrgn.shapes import Float

OVERSAMPLING = 2
WIDTH = 4
SHAPE = math.pi * math.sqrt((WIDTH / OVERSAMPLING * (OVERSAMPLING - 0.5)) ** 2 - 0.8)


class SliceSampler:
    """Evaluates the Fourier transform of one volume at any points, not only lattice points."""

    def __init__(self, volume: Float[Tensor, "d d d"]) -> None:
        self.box = volume.shape[-1]
        check_box(self.box)
        grid = OVERSAMPLING * self.box
        margin = (grid - self.box) // 2
        position = torch.arange(-(self.box // 2), self.box // 2, device=volume.device) / grid
        correction = 1 / _kernel_transform(position)
        corrected = volume.float() * torch.einsum("i,j,k->ijk", *[correction] * 3)
        spectrum = fft_centred(torch.nn.functional.pad(corrected, [margin] * 6), ndim=3)
        self._grid = grid
        self._samples = spectrum.flatten()

    def at(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 2"]:
        """Return (Re, Im) at points (kx, ky, kz) in units of 1/box cycles per pixel.

        Beyond Nyquist, |k| > box/2, the value is zero.
        """
        flat = points.reshape(-1, 3)
        position = flat * OVERSAMPLING + self._grid // 2
        first = torch.floor(position).long() - (WIDTH // 2 - 1)
        taps = torch.arange(WIDTH, device=points.device)
        index = (first[:, :, None] + taps) % self._grid  # (n 3 w)
        weight = _kernel(position[:, :, None] - (first[:, :, None] + taps))
        total = torch.zeros(len(flat), dtype=torch.complex64, device=points.device)
        for i, j, k in itertools.product(range(WIDTH), repeat=3):
            where = (index[:, 2, i] * self._grid + index[:, 1, j]) * self._grid + index[:, 0, k]
            total += self._samples[where] * (weight[:, 2, i] * weight[:, 1, j] * weight[:, 0, k])
        total[flat.square().sum(-1) > (self.box / 2) ** 2 * (1 + 1e-5)] = 0
        return torch.view_as_real(total).reshape(*points.shape[:-1], 2)


def _kernel(distance: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    inside = (1 - (2 * distance / WIDTH).square()).clamp(min=0)
    value = torch.special.i0(SHAPE * inside.sqrt())
    return torch.where(inside > 0, value, torch.zeros_like(value))


def _kernel_transform(position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the kernel's continuous Fourier transform, W sinh(q)/q with q² = β² − (πWx)²."""
    root = torch.sqrt(SHAPE**2 - (math.pi * WIDTH * position).square())
    return WIDTH * torch.sinh(root) / root
