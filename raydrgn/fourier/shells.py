"""Fourier shells: Fourier shell correlation between volumes.

Shell i, for i = 1 … box/2 − 1, holds the voxels with i−1 ≤ r < i, r being the Fourier radius in
voxels, and is reported at i/box cycles per pixel; entry 0 is 1 by definition. This is the
definition of cryoDRGN and CryoBench, so curves compare with theirs.
"""

import torch
from torch import Tensor

from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.geometry.box import check_box
from raydrgn.shapes import Float, Int


def shell_index(box: int, *, device: torch.device | None = None) -> Int[Tensor, "d d d"]:
    """Return the shell of each voxel of a centred spectrum; 0 where it belongs to none."""
    check_box(box)
    ticks = torch.arange(-(box // 2), box // 2, device=device)
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    shell = torch.sqrt((x**2 + y**2 + z**2).double()).floor().long() + 1
    return torch.where(shell < box // 2, shell, torch.zeros_like(shell))


def shell_correlation(
    first: Float[Tensor, "*b d d d"], second: Float[Tensor, "*b d d d"]
) -> Float[Tensor, "*b shells"]:
    """Return the Fourier shell correlation of each pair of volumes, box/2 entries.

    FSC_i = Re Σ A·conj(B) / √(Σ|A|² Σ|B|²) over shell i; 0 where one of the two has no power.
    """
    box = first.shape[-1]
    a, b = fft_centred(first, ndim=3), fft_centred(second, ndim=3)
    index = shell_index(box, device=first.device).flatten()
    cross = _sum_shells((a * b.conj()).real, index, box // 2)
    power = _sum_shells(a.abs().square(), index, box // 2) * _sum_shells(
        b.abs().square(), index, box // 2
    )
    curve = torch.where(power > 0, cross / power.clamp(min=1e-300).sqrt(), 0.0)
    curve[..., 0] = 1.0
    return curve.float()


def with_flat_spectrum(volume: Float[Tensor, "d d d"]) -> Float[Tensor, "d d d"]:
    """Return a volume each of whose shells has the same mean power; nothing beyond them.

    Its shell correlations are as before. They stay so under a mask too: a mask mixes shells, and
    where the power of a map falls by orders of magnitude from its low to its high frequencies,
    most of what a masked map has at high ones is of low ones.
    """
    spectrum = fft_centred(volume, ndim=3)
    index = shell_index(volume.shape[-1], device=volume.device)
    flat, num_shells = index.flatten(), volume.shape[-1] // 2
    power = _sum_shells(spectrum.abs().square(), flat, num_shells)
    mean = power / torch.bincount(flat, minlength=num_shells)
    factor = torch.where(mean > 0, mean.clamp(min=1e-300).rsqrt(), 0.0)
    factor[0] = 0.0
    return ifft_centred(spectrum * factor.float()[index], ndim=3)


def _sum_shells(
    values: Float[Tensor, "*b d d d"], index: Int[Tensor, " n"], num_shells: int
) -> Float[Tensor, "*b shells"]:
    flat = values.double().reshape(*values.shape[:-3], -1)
    sums = torch.zeros(*flat.shape[:-1], num_shells, dtype=torch.float64, device=values.device)
    return sums.index_add_(-1, index, flat)


def frequencies(box: int) -> Float[Tensor, " shells"]:
    """Return the frequency of each entry of a correlation curve, in cycles per pixel."""
    return torch.arange(box // 2) / box


def resolution_at(
    curve: Float[Tensor, " shells"], *, threshold: float, pixel_size_angstrom: float
) -> float:
    """Return the resolution in Å where the curve first falls below ``threshold``.

    Interpolated linearly between shells; twice the pixel size if it never falls below.
    """
    box = 2 * len(curve)
    below = torch.nonzero(curve < threshold)
    if not len(below):
        return 2 * pixel_size_angstrom
    i = max(int(below[0]), 1)
    high, low = float(curve[i - 1]), float(curve[i])
    crossing = i - 1 + (high - threshold) / max(high - low, 1e-12)
    return box * pixel_size_angstrom / max(crossing, 1e-6)
