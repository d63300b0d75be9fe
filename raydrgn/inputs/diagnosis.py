"""Why a map agrees with its reference less far than its half maps agree with each other.

Two causes are measured: a pixel size that is not that of the reference, by comparing the two at
other scales; and shifts of another unit or sign, which blur the half maps too, by comparing images
with projections of the reference. Where neither is found, the particles show something else than
the reference.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import shifts_px
from raydrgn.data.preprocess import ImageCorrection, Preparation, find_bad
from raydrgn.data.source import ImageSource
from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.resample import resample
from raydrgn.fourier.slices import SliceSampler
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.inputs.comparison import (
    MATCH,
    Correlator,
    best_orientation,
    sample_lattice,
    shell_weights,
)
from raydrgn.inputs.resolution import Resolution
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.pixel_sizes import pixel_size_factors
from raydrgn.shapes import Complex, Float, Int

SCALE_STEPS = (0.04, 0.02, 0.01)
"""Relative steps of the scales that are tried: over the whole range, then about the best.

Half of the first step moves the edge of a particle of half the box by 0.24 px, at most.
"""

LARGEST_FACTOR = 2.5
"""Largest factor of a pixel size that is tried; the smallest is its inverse. A map of another
binning or of a detector in super-resolution has one far from 1."""

SCALE_BOX = 48
"""Box at which scales are tried, or smaller."""

CLEARLY_BETTER = 0.05
"""Gain in correlation from which another scale is taken to fit better."""

SHIFT_FACTORS = (0.0, 0.5, 2.0, -1.0)
SHIFT_IMAGES = 400
"""Images, evenly taken, with which factors of the shifts are tried."""

IMAGES_AT_A_TIME = 50
SIGNIFICANT = 4.0
"""Standard errors by which images must agree better with other shifts."""

SMALLEST_GAIN = 0.02
"""The same as a fraction of the agreement with the shifts as they are."""


class Diagnosis(NamedTuple):
    """What was measured; None where nothing fits better than what was given."""

    pixel_size_factor: float | None = None
    """Factor of the reference's pixel size with which map and reference agree clearly better."""

    shift_factor: float | None = None
    """Factor of the shifts with which the images agree better with the reference."""


def find_pixel_size_factor(
    volume: Float[np.ndarray, "d d d"],
    reference: Float[np.ndarray, "r r r"],
    resolution: Resolution,
    *,
    reference_pixel_size_angstrom: float,
) -> float | None:
    """Return the factor of the reference's pixel size that fits clearly better, if there is one.

    Args:
        volume: Map.
        reference: Map from elsewhere.
        resolution: Of the map.
        reference_pixel_size_angstrom: Pixel size of the reference.
    """
    box = min(volume.shape[-1], SCALE_BOX)
    field = volume.shape[-1] * resolution.pixel_size_angstrom
    scale = field / (reference.shape[-1] * reference_pixel_size_angstrom)
    sphere = torch.from_numpy(soft_sphere(box))
    own = resample(torch.from_numpy(volume), box=box, ndim=3) * sphere
    correlator = Correlator(own, shell_weights(resolution, box))
    coarse = min(reference.shape[-1], 2 * SCALE_BOX)
    sampler = SliceSampler(resample(torch.from_numpy(reference), box=coarse, ndim=3))
    scores: dict[float, float] = {}

    def score(factor: float) -> float:
        factor = round(factor, 4)
        if factor not in scores:
            given = sample_lattice(sampler, scale=scale / factor, box=box)
            scores[factor] = abs(best_orientation(correlator, given, sphere)[1])
        return scores[factor]

    step, *finer = SCALE_STEPS
    number = round(math.log(LARGEST_FACTOR) / step)
    best = max((math.exp(step * i) for i in range(-number, number + 1)), key=score)
    for fine in finer:
        best = max((best * (1 - fine), best, best * (1 + fine)), key=score)
    fits = score(best) >= MATCH and score(best) > score(1.0) + CLEARLY_BETTER
    return round(best, 2) if fits else None


def find_shift_factor(
    table: ParticleTable,
    reference: Float[Tensor, "d d d"],
    *,
    pixel_size_angstrom: float,
    invert: bool,
    correction: ImageCorrection,
) -> float | None:
    """Return the factor of the shifts with which images agree better with the reference, if any.

    Images are compared with projections of the reference at their poses, CTF applied.

    Args:
        table: Particles with poses.
        reference: Map on a lattice as wide as the images, of the handedness of the poses.
        pixel_size_angstrom: Of that lattice; that of an image may differ.
        invert: Whether to multiply images by −1.
        correction: Of images, before their window.
    """
    count = len(table)
    rows = np.unique(np.linspace(0, count - 1, min(SHIFT_IMAGES, count)).astype(int))
    part = table.select(rows)
    source, shifts = ImageSource.of(part), shifts_px(part).astype(np.float32)
    box = table.single_box()
    points = half_disc(min(reference.shape[-1], box))
    prepare = Preparation(ImageConfig(box=box, invert=invert), points=points)
    sampler = SliceSampler(reference)
    scores: dict[float, list[float]] = {factor: [] for factor in (1.0, *SHIFT_FACTORS)}
    for start in range(0, len(part), IMAGES_AT_A_TIME):
        stop = min(start + IMAGES_AT_A_TIME, len(part))
        images = correction(source.part(start, stop).read())
        usable = np.flatnonzero(~find_bad(images))
        model = _project(sampler, part.select(start + usable), points, box, pixel_size_angstrom)
        for factor, found in scores.items():
            moved = prepare(images[usable], factor * shifts[start + usable])
            found += (torch.view_as_complex(moved) * model.conj()).real.sum(-1).tolist()
    return _significantly_better(scores)


def _project(
    sampler: SliceSampler,
    part: ParticleTable,
    points: Int[Tensor, "n 2"],
    box: int,
    pixel_size_angstrom: float,
) -> Complex[Tensor, "b n"]:
    """Return projections of a volume at the poses of particles, CTF applied."""
    plane = plane_coordinates(points, box)
    factors = pixel_size_factors(part, pixel_size_angstrom)
    rotations = torch.from_numpy(part.rotations.astype(np.float32) * factors[:, None, None])
    model = torch.view_as_complex(sampler.at(plane @ rotations * box))
    if not part.has_ctf:
        return -model
    columns = np.stack([part.column(name) for name in CTF_COLUMNS], axis=-1).astype(np.float32)
    pixel_size = torch.from_numpy(part.column("pixel_size_angstrom").astype(np.float32))
    params = CTFParameters.from_columns(torch.from_numpy(columns))
    return model * contrast_transfer(plane[:, :2] / pixel_size[:, None, None], params)


def _significantly_better(scores: dict[float, list[float]]) -> float | None:
    """Return the factor with the largest gain over 1, if the gain is significant."""
    as_given = np.array(scores[1.0])
    if len(as_given) < 2:
        return None
    best, largest = None, SMALLEST_GAIN * abs(as_given.mean())
    for factor in SHIFT_FACTORS:
        gains = np.array(scores[factor]) - as_given
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        if gains.mean() > max(largest, SIGNIFICANT * error):
            best, largest = factor, float(gains.mean())
    return best
