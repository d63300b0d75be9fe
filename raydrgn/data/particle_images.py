"""Particle images as a person can see the particle: phases flipped, high frequencies left out."""

import numpy as np
import torch

from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.source import ImageSource
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.shapes import Float, Int

RESOLUTION_ANGSTROM = 20.0
LEAST_PIXELS = 4.0
"""Finest resolution in pixels: at coarse boxes a finer one would not filter at all."""


def read_images(table: ParticleTable, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k h w"]:
    """Return the images of some rows, as they were recorded."""
    return ImageSource.of(table).read(rows)


def clear_images(
    images: Float[np.ndarray, "k h w"],
    table: ParticleTable,
    *,
    bright: bool,
    resolution_angstrom: float | None = None,
) -> Float[np.ndarray, "k h w"]:
    """Return images with the CTF's phases flipped, low-pass filtered; particles are bright.

    Args:
        images: One for each row of the table.
        table: Their optics; without CTF, only the filter is applied.
        bright: Whether particles are bright on disk, at low resolution.
        resolution_angstrom: Of the filter; None takes 20 Å, and at least four pixels.
    """
    box = images.shape[-1]
    ticks = torch.arange(-(box // 2), box // 2) / box
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    pixel = torch.from_numpy(table.column("pixel_size_angstrom").astype(np.float32))
    spectrum = fft_centred(torch.from_numpy(images.astype(np.float32)), ndim=2)
    finest = torch.clamp(LEAST_PIXELS * pixel, min=RESOLUTION_ANGSTROM)
    if resolution_angstrom is not None:
        finest = torch.full_like(pixel, resolution_angstrom)
    limit = pixel / finest
    kept = (x.square() + y.square()).sqrt()[None] <= limit[:, None, None]
    sign = torch.full((len(images), box * box), -1.0)
    if table.has_ctf:
        columns = np.stack([table.column(name) for name in CTF_COLUMNS], axis=-1)
        params = CTFParameters.from_columns(torch.from_numpy(columns.astype(np.float32)))
        freqs = torch.stack([x, y], dim=-1).reshape(1, -1, 2) / pixel[:, None, None]
        sign = torch.where(contrast_transfer(freqs, params) > 0, 1.0, -1.0)
    sign = sign.reshape(-1, box, box) * (-1 if bright else 1)
    return ifft_centred(spectrum * kept * sign, ndim=2).numpy()
