"""Particle images for the page: grey levels of one byte."""

from collections.abc import Sequence

import numpy as np
import torch

from raydrgn.data.particle_images import clear_images, read_images
from raydrgn.explore.requests import ImageKind
from raydrgn.explore.study import Study
from raydrgn.fourier.resample import resample
from raydrgn.shapes import Float

LARGEST_BOX = 128
"""Images of larger boxes are sent in this one, pixels."""

SHOWN_SD = 3.0
"""Grey levels span the mean and this many SD on either side."""


def particle_images(
    study: Study, rows: Sequence[int], kind: ImageKind
) -> tuple[np.ndarray, np.ndarray]:
    """Return images of particles (k, d, d), and the mean of them, as grey levels from 0 to 255.

    Raises:
        RaydrgnError: If they cannot be read.
    """
    chosen = study.rows(rows)
    images = read_images(study.particles, chosen).astype(np.float32)
    if kind == "clear":
        table = study.particles.select(chosen)
        images = clear_images(images, table, bright=study.source.inverts)
    if images.shape[-1] > LARGEST_BOX:
        images = resample(torch.from_numpy(images), box=LARGEST_BOX, ndim=2).numpy()
    return np.stack([_grey(image) for image in images]), _grey(images.mean(axis=0))


def _grey(image: Float[np.ndarray, "d d"]) -> np.ndarray:
    mean, sd = float(image.mean()), float(image.std()) or 1.0
    scaled = (image - mean) / (2 * SHOWN_SD * sd) + 0.5
    return np.clip(255 * scaled, 0, 255).astype(np.uint8)
