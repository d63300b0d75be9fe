"""Central slices of a volume: its projections, in Fourier space.

By the projection theorem, the transform of the projection of a volume along the viewing direction
is the plane of its 3D transform through the origin and normal to that direction. Points of the
plane fall between the samples of a discrete transform; they are interpolated on a grid twice as
fine with a Kaiser-Bessel kernel of four samples, whose own transform is divided out of the volume
first. The error is at most about 2e-3 of the largest coefficient.

References:
    Beatty, Nishimura & Pauly (2005), IEEE Trans. Med. Imaging 24:799 (kernel and its shape).
    Abramowitz & Stegun (1964), 9.6.12 (the kernel's Bessel function as a power series).
"""

import math
from typing import no_type_check

import numba as nb
import numpy as np
import torch
from torch import Tensor

from raydrgn.geometry.box import check_box
from raydrgn.shapes import Complex, Float

OVERSAMPLING = 2
WIDTH = 4
SHAPE = math.pi * math.sqrt((WIDTH / OVERSAMPLING * (OVERSAMPLING - 0.5)) ** 2 - 0.8)
SERIES = np.array(
    [(SHAPE / 2) ** (2 * k) / math.factorial(k) ** 2 for k in range(20, -1, -1)], np.float32
)
"""Coefficients of I₀(β √t) = Σ (β²/4)ᵏ tᵏ / k!², highest first; what follows is below 1e-8."""


class SliceSampler:
    """Evaluates the Fourier transform of one volume at any points, not only lattice points.

    Volume and points are on the CPU.
    """

    def __init__(self, volume: Float[Tensor, "d d d"]) -> None:
        self.box = volume.shape[-1]
        check_box(self.box)
        grid = OVERSAMPLING * self.box
        margin = (grid - self.box) // 2
        position = torch.arange(-(self.box // 2), self.box // 2) / grid
        correction = 1 / _kernel_transform(position)
        corrected = volume.float() * torch.einsum("i,j,k->ijk", *[correction] * 3)
        padded = torch.nn.functional.pad(corrected, [margin] * 6)
        # Not shifted back: index -1 of each axis is the frequency before 0.
        self._samples = torch.fft.fftn(torch.fft.ifftshift(padded)).numpy()

    def at(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 2"]:
        """Return (Re, Im) at points (kx, ky, kz) in units of 1/box cycles per pixel.

        Beyond Nyquist, |k| > box/2, the value is zero.
        """
        flat = points.reshape(-1, 3).float()
        is_inside = flat.square().sum(-1) <= (self.box / 2) ** 2 * (1 + 1e-5)
        inside = flat[is_inside] * OVERSAMPLING
        found = torch.empty(len(inside), dtype=torch.complex64)
        most: int = nb.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        nb.set_num_threads(min(torch.get_num_threads(), most))
        _add_taps(self._samples, inside.numpy(), found.numpy())
        total = torch.zeros(len(flat), dtype=torch.complex64)
        total[is_inside] = found
        return torch.view_as_real(total).reshape(*points.shape[:-1], 2)


@nb.njit(cache=True, parallel=True)
@no_type_check  # numba has types of its own
def _add_taps(
    samples: Complex[np.ndarray, "g g g"],
    position: Float[np.ndarray, "n 3"],
    out: Complex[np.ndarray, " n"],
) -> None:
    """Set ``out`` to the sums over the samples around each point, times the kernel of each axis."""
    size = samples.shape[0]
    for p in nb.prange(len(out)):
        at = np.empty((3, WIDTH), np.int64)
        weight = np.empty((3, WIDTH), np.float32)
        for axis in range(3):
            first = int(np.floor(position[p, axis])) - (WIDTH // 2 - 1)
            for i in range(WIDTH):
                at[axis, i] = (first + i) % size
                weight[axis, i] = _kernel(position[p, axis] - np.float32(first + i))
        total = np.complex64(0)
        for i in range(WIDTH):
            for j in range(WIDTH):
                row = samples[at[2, i], at[1, j]]
                both = weight[2, i] * weight[1, j]
                for k in range(WIDTH):
                    total += row[at[0, k]] * (both * weight[0, k])
        out[p] = total


@nb.njit(cache=True)
@no_type_check
def _kernel(distance: float) -> float:
    """Return the Kaiser-Bessel kernel at a distance in samples."""
    inside = np.float32(1) - (np.float32(2 / WIDTH) * distance) ** 2
    if inside <= 0:
        return np.float32(0)
    value = SERIES[0]
    for coefficient in SERIES[1:]:
        value = value * inside + coefficient
    return value


def _kernel_transform(position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the kernel's continuous Fourier transform, W sinh(q)/q with q² = β² − (πWx)²."""
    root = torch.sqrt(SHAPE**2 - (math.pi * WIDTH * position).square())
    return WIDTH * torch.sinh(root) / root
