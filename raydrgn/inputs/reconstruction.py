"""From Fourier accumulators to maps.

The sums over their weights are the volume's transform, averaged over the neighbourhood of each
point of the fine grid; in real space this multiplies the volume by the transform of the trilinear
kernel, which is divided out. A Wiener-like term in the denominator keeps points that few slices
have met from being noise.

References:
    Penczek (2010), Methods Enzymol. 482:1 (direct inversion, Wiener filter).
    Scheres (2012), J. Struct. Biol. 180:519 (regularisation by the correlation of half maps).
"""

import numpy as np
import torch
from torch import Tensor

from raydrgn.fourier.shells import shell_correlation
from raydrgn.inputs.fourier_accumulator import PADDING, FourierAccumulator
from raydrgn.shapes import Float, Int

FIRST_TERM = 0.1
"""Wiener term of the half maps before their correlation is known, over the mean weight."""

LARGEST_CORRELATION = 0.9999
SMALLEST_CORRELATION = 0.02  # below, half maps have nothing in common, and are damped 49 times


def radii(sums: FourierAccumulator) -> Int[Tensor, "g g x"]:
    """Return the Fourier radius of each point of the fine grid, to the nearest shell."""
    reach = sums.weights.shape[2] - 1
    full = torch.arange(-reach, reach + 1)
    half = torch.arange(reach + 1)
    squared = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    return (squared.float().sqrt() / PADDING).round().long()


def mean_weights(sums: FourierAccumulator) -> Float[Tensor, " shells"]:
    """Return the mean weight of the points of each shell, of a completed sum."""
    index = radii(sums).flatten()
    totals = torch.bincount(index, sums.weights.flatten().double())
    return (totals / torch.bincount(index).clamp(min=1)).float()


def reconstruct(
    sums: FourierAccumulator, *, terms: Float[Tensor, " shells"]
) -> Float[np.ndarray, "d d d"]:
    """Return the map of completed sums.

    Args:
        sums: Completed sums.
        terms: What is added to the weights, by shell.
    """
    box = sums.box
    grid = PADDING * box
    index = radii(sums)
    denominator = sums.weights + terms[index.clamp(max=len(terms) - 1)]
    met = (sums.weights > 0) & (index <= box // 2)
    spectrum = torch.where(met, sums.values / denominator.clamp(min=1e-30), 0)
    reach = sums.weights.shape[2] - 1
    kept = slice(reach - box, reach + box)  # -box … box - 1 on z and y, 0 … box on x
    spectrum = torch.fft.ifftshift(spectrum[kept, kept, : box + 1], (0, 1))
    volume = torch.fft.irfftn(spectrum, s=(grid, grid, grid))
    volume = torch.fft.fftshift(volume)
    margin = (grid - box) // 2
    inner = slice(margin, margin + box)
    volume = volume[inner, inner, inner] / _kernel_transform(box)
    # Between the origin and the first ring of samples there are none to average over, so the sum
    # of the voxels is set to the mean of the sums of the images.
    total = spectrum[0, 0, 0].real
    return (volume + (total - volume.sum()) / box**3).numpy()


def _kernel_transform(box: int) -> Float[Tensor, "d d d"]:
    """Return the trilinear kernel's transform, sinc² along each axis, in real space."""
    position = torch.arange(-(box // 2), box // 2) / (PADDING * box)
    axis = torch.sinc(position) ** 2
    return torch.einsum("i,j,k->ijk", axis, axis, axis)


def wiener_terms(
    weights: Float[Tensor, " m"], correlation: Float[Tensor, " shells"]
) -> Float[Tensor, " m"]:
    """Return the Wiener term of each shell from the correlation of half maps.

    The ratio of signal to noise in a half map is c / (1 − c); its inverse, times the mean weight,
    is the variance of the noise over that of the signal in the units of the weights.
    """
    known = correlation.clamp(SMALLEST_CORRELATION, LARGEST_CORRELATION)
    known = torch.nn.functional.pad(known, (0, max(len(weights) - len(known), 0)), value=0)
    known = known[: len(weights)]
    known[len(correlation) :] = known[len(correlation) - 1]
    return weights * (1 - known) / known


def half_maps(
    even: FourierAccumulator, odd: FourierAccumulator
) -> tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"], Float[Tensor, " shells"]]:
    """Return the maps of two halves of the particles, and the correlation they were damped by.

    Both are damped alike: first as if nothing were known, then by their correlation.
    """
    halves = [even.completed(), odd.completed()]
    weights = sum((mean_weights(half) for half in halves), torch.zeros(1)) / 2
    first = [reconstruct(half, terms=FIRST_TERM * weights) for half in halves]
    correlation = shell_correlation(*(torch.from_numpy(volume) for volume in first))
    terms = wiener_terms(weights, correlation)
    maps = [reconstruct(half, terms=terms) for half in halves]
    return maps[0], maps[1], correlation


def full_map(
    even: FourierAccumulator, odd: FourierAccumulator, *, correlation: Float[Tensor, " shells"]
) -> Float[np.ndarray, "d d d"]:
    """Return the map of all particles, damped by the correlation of its halves.

    The sums are those of twice as many particles as in a half, so that the same variance of the
    signal, in units of one image's noise, gives the same term.
    """
    whole = (even + odd).completed()
    return reconstruct(whole, terms=wiener_terms(mean_weights(whole) / 2, correlation))
