"""The one number that images are normalised with, measured before training."""

import numpy as np
import torch

from raydrgn.data.config import ImageConfig
from raydrgn.data.image_statistics import ImageStatistics, group_numbers
from raydrgn.data.preprocess import ImageCorrection, find_bad
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.errors import InputError
from raydrgn.fourier.transforms import fft_centred
from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Int

SAMPLE = 1000
"""Images are taken evenly; between this number and twice as many."""


def sampled_rows(count: int) -> Int[np.ndarray, " k"]:
    """Return the rows of images that are taken evenly from a table of some length."""
    return np.arange(0, count, count // min(SAMPLE, count))


def measure_scale(table: ParticleTable, config: ImageConfig) -> float:
    """Return the SD of the Hartley values of about a thousand images, evenly taken.

    As cryoDRGN measures it: the images are not windowed, and the transform is continued to an odd
    lattice, its first row and column repeated as the last. With M values h of the images,

        scale = √(Σ h² / M − (Σ h / M)²).

    Bad images and outliers (``ImageStatistics.outliers``) are left out, so that no single image or
    pixel carries the scale; where there are none it is cryoDRGN's. Images are corrected as they are
    before training (``ImageCorrection``).

    Raises:
        InputError: If none of the sampled images is usable.
    """
    rows = sampled_rows(len(table))
    source, correct = ImageSource.of(table), ImageCorrection.of(config)
    groups = group_numbers(table)[rows]
    statistics, totals, squares = [], [], []
    for start, stop in block_ends(0, len(rows), box=config.box):
        images = source.read(rows[start:stop])
        usable = ~find_bad(images)
        images = images[usable]
        if not len(images):
            continue
        statistics.append(ImageStatistics.of(images, group=groups[start:stop][usable]))
        spectrum = fft_centred(torch.from_numpy(correct(images)), ndim=2)
        hartley = torch.nn.functional.pad(
            (spectrum.real - spectrum.imag)[:, None], (0, 1, 0, 1), mode="circular"
        ).double()
        totals.append(hartley.sum((1, 2, 3)).numpy())
        squares.append(hartley.square().sum((1, 2, 3)).numpy())
    scale = 0.0
    if statistics:
        kept = ~ImageStatistics.joined(statistics).outliers
        count = kept.sum() * (config.box + 1) ** 2
        mean = np.concatenate(totals)[kept].sum() / count
        power = np.concatenate(squares)[kept].sum() / count
        scale = float(np.sqrt(max(power - mean**2, 0.0)))
    if not scale > 0:
        raise InputError(
            f"None of {len(rows):,} images taken evenly from the particles has any contrast; "
            "the stacks are empty or not finite."
        )
    return scale
