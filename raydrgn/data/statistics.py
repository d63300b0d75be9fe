"""The one number that images are normalised with, measured before training."""

import numpy as np
import torch

from raydrgn.data.config import ImageConfig
from raydrgn.data.preprocess import find_bad
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.errors import InputError
from raydrgn.fourier.transforms import fft_centred
from raydrgn.io.particles import ParticleTable

SAMPLE = 1000
"""Images are taken evenly; between this number and twice as many."""


def measure_scale(table: ParticleTable, config: ImageConfig) -> float:
    """Return the SD of the Hartley values of about a thousand images, evenly taken.

    As cryoDRGN measures it: the images are not windowed, and the transform is continued to an odd
    lattice, its first row and column repeated as the last. Bad images are left out.

    Raises:
        InputError: If none of the sampled images is usable.
    """
    rows = np.arange(0, len(table), len(table) // min(SAMPLE, len(table)))
    source = ImageSource.of(table)
    count, total, squares = 0, 0.0, 0.0
    for start, stop in block_ends(0, len(rows), box=config.box):
        images = source.read(rows[start:stop])
        images = images[~find_bad(images)]
        if not len(images):
            continue
        spectrum = fft_centred(torch.from_numpy(images), ndim=2)
        hartley = torch.nn.functional.pad(
            (spectrum.real - spectrum.imag)[:, None], (0, 1, 0, 1), mode="circular"
        ).double()
        count += hartley.numel()
        total += float(hartley.sum())
        squares += float(hartley.square().sum())
    scale = float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0))) if count else 0.0
    if not scale > 0:
        raise InputError(
            f"None of {len(rows)} images taken evenly from the particles has any contrast; "
            "the stacks are empty or not finite."
        )
    return scale
