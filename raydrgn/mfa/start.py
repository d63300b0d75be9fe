"""Where a fit starts: noise and weights of the images, the mean, and contrasts by the mean."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydrgn.mfa.config import MfaConfig
from raydrgn.mfa.contrast import LEAST_CONTRAST_SD
from raydrgn.mfa.expectation import MeanPass
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints, ctf_at
from raydrgn.mfa.interpolation import insert
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.noise import first_noise, observed
from raydrgn.mfa.particles import ParticleEstimates, ParticlePriors
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.support import ball
from raydrgn.mfa.update import COMPONENT_SHARE, NULL_SHARES
from raydrgn.mfa.workers import MEAN, WorkerParticles
from raydrgn.shapes import Float, Int

MEAN_PASSES = 3
MEAN_PARTICLES = 3000
"""Particles of one pass for the mean, at least."""

LEAST_SHARE = 0.05
"""Of all particles, likewise."""

FIRST_ITERATIONS = 20

LEAST_EVIDENCE, LEAST_WITHOUT_CONTRAST = 1.0, 3.0
"""Mean evidence for a particle in an image that shows one, nats, from which on junk is looked for.

It is that by the mean of other particles: next to 0 of noise, and 1.5 at an SNR of 0.01 and 32 px,
where four fifths of the junk are found. The second is that where contrasts are taken to be equal:
with less, up to 15 % of 400 particles would be taken for junk, and 2 % with contrasts.
"""


def first_model(
    config: MfaConfig, particles: WorkerParticles, grids: VolumeGrids, at: FourierPoints
) -> FactorModel:
    """Return a model without density, whose noise is the power of some images.

    What the first worker returns is right; others must take it from there.
    """
    shells, dim, device = grids.num_shells, config.components, particles.device
    sums = Sums.zero(
        grids.empty_sums(0),
        num_components=dim,
        num_shells=shells,
        num_groups=len(particles.optics_shares),
    )
    sampled = particles.chosen(MEAN, 0, count=MEAN_PARTICLES)
    rows = torch.from_numpy(np.flatnonzero(sampled))
    for _, batch in particles.batches(rows, at, num_volumes=1):
        square = batch.coefficients[:, at.index].square().sum(2)
        assert batch.optics_group is not None
        sums.add_residuals(square, at.shell, batch.optics_group, torch.ones_like(square[:, 0]))
    particles.group.add_up([sums.residual, sums.likely])
    noise = first_noise(sums, torch.bincount(at.shell, minlength=shells))
    mean_power = torch.full_like(noise[0], 1e3 * float(noise[observed(noise)].mean()))
    return FactorModel(
        torch.zeros(dim + 1, *[grids.box] * 3, device=device),
        ball(grids.box, device=device),
        noise,
        noise.clone(),
        mean_power,
        (COMPONENT_SHARE * mean_power).expand(dim, shells).clone(),
        Mixture.standard_normal(dim, device=device),
        ParticlePriors(),
    )


def ctf_weights(
    particles: WorkerParticles, grids: VolumeGrids, at: FourierPoints
) -> Float[Tensor, "z y x"]:
    """Return the sum of CTF² over all particles at each point of the unpadded grid."""
    grid = grids.empty_sums(1)
    for _, batch in particles.all_batches(at, num_volumes=1):
        ctf = ctf_at(batch, at)
        values = torch.stack([ctf, torch.zeros_like(ctf)], dim=-1)
        insert(grid, batch.rotations, at.points, ctf, values, limit=at.box / 2)
    particles.group.add_up([grid])
    weights = grids.coefficients(grid, grid.new_ones(1)).real.cpu()
    return particles.group.from_first(weights).to(particles.device)


def mean_rows(particles: WorkerParticles, number: int) -> Int[Tensor, " n"]:
    """Return the worker's particles that a pass for the mean is over, others for each number."""
    wanted = max(MEAN_PARTICLES, math.ceil(LEAST_SHARE * particles.num_particles))
    return torch.from_numpy(np.flatnonzero(particles.chosen(MEAN, number, count=wanted)))


def mean_sums(
    model: FactorModel,
    particles: WorkerParticles,
    estimates: ParticleEstimates,
    grids: VolumeGrids,
    at: FourierPoints,
    *,
    rows: Int[Tensor, " n"],
) -> Sums:
    """Return this worker's sums for the mean over some of its particles."""
    worker_pass = MeanPass(model, grids, at)
    sums = Sums.zero(
        grids.empty_sums(1),
        num_components=model.num_components,
        num_shells=grids.num_shells,
        num_groups=len(model.noise),
    )
    for where, batch in particles.batches(rows, at, num_volumes=1):
        worker_pass.accumulate(batch, estimates[where], sums)
    return sums


def first_estimates(
    model: FactorModel,
    particles: WorkerParticles,
    estimates: ParticleEstimates,
    found: Float[Tensor, "n 2"],
    *,
    contrast: bool,
    null_class: bool,
) -> FactorModel:
    """Estimate contrasts, and which images show nothing, from the mean alone.

    Components that begin with junk among the images take up its power, and go on without the
    density that they should have had.

    Args:
        model: With its mean.
        particles: Of this worker.
        estimates: Of them, which are set.
        found: Products of slices of a mean with themselves and the images; of a mean that was made
            without the image, whose noise it would explain, too.
        contrast: Whether contrasts are estimated.
        null_class: Whether junk is looked for.

    Returns:
        The model with the SD of the contrasts, whose mean is 1, and the share of junk.
    """
    start = model.priors if contrast else replace(model.priors, contrast_sd=LEAST_CONTRAST_SD)
    by_mean = _by_mean(found, start, particles, contrast=contrast, null_class=null_class)
    least = LEAST_EVIDENCE if contrast else LEAST_WITHOUT_CONTRAST
    if by_mean is None or (null_class and by_mean.evidence < least):
        by_mean = _by_mean(found, start, particles, contrast=contrast, null_class=False)
        assert by_mean is not None  # without junk all images are of particles
        by_mean = by_mean._replace(priors=replace(by_mean.priors, null_share=0.0))
    if contrast:
        estimates.contrast = by_mean.contrasts.clamp(min=0).float()
    estimates.null_probability = by_mean.null_probability.float()
    return replace(
        model,
        volumes=model.volumes * by_mean.scale,
        priors=by_mean.priors,
        signal=by_mean.signal,
        evidence=by_mean.evidence,
    )


class _ByMean(NamedTuple):
    """Estimates by the mean alone."""

    priors: ParticlePriors
    scale: float
    """Of the mean, for contrasts of 1 on average."""

    signal: float
    evidence: float
    """Mean over images, each by how likely it shows a particle."""

    contrasts: Float[Tensor, " n"]
    null_probability: Float[Tensor, " n"]


def _by_mean(
    found: Float[Tensor, "n 2"],
    priors: ParticlePriors,
    particles: WorkerParticles,
    *,
    contrast: bool,
    null_class: bool,
) -> _ByMean | None:
    """Return the estimates of images, by their products with slices of the mean.

    None if all of them seem to be junk.
    """
    scale = 1.0
    for _ in range(FIRST_ITERATIONS):
        seen = _seen_by_mean(found, priors, scale=scale)
        kept = 1 - seen.null_probability if null_class else torch.ones_like(seen.evidence)
        values = torch.stack([torch.ones_like(kept), seen.contrast, seen.square, seen.evidence], 1)
        likely, first, second, evidence = _mean_of(kept[:, None] * values, particles)
        if likely < NULL_SHARES[0]:
            return None
        mean = first / likely
        if contrast:
            variance = max(second / likely / mean**2 - 1, LEAST_CONTRAST_SD**2)
            priors = replace(priors, contrast_sd=math.sqrt(variance))
        if null_class:
            priors = replace(
                priors, null_share=min(max(1 - likely, NULL_SHARES[0]), NULL_SHARES[1])
            )
        scale *= mean
    seen = _seen_by_mean(found, priors, scale=scale)
    null = seen.null_probability if null_class else torch.zeros_like(seen.evidence)
    return _ByMean(priors, scale, second / mean**2, evidence / likely, seen.contrast, null)


class _Seen(NamedTuple):
    """What the mean's slice shows of each image."""

    contrast: Float[Tensor, " n"]
    square: Float[Tensor, " n"]
    """Expectation of the contrast's square."""

    evidence: Float[Tensor, " n"]
    """Logarithm of the probability of the image of a particle, over that of noise."""

    null_probability: Float[Tensor, " n"]


def _seen_by_mean(products: Float[Tensor, "n 2"], priors: ParticlePriors, *, scale: float) -> _Seen:
    """Return what the mean shows of images, by its slices' products with themselves and them."""
    power, product = products.unbind(1)
    prior = 1 / priors.contrast_sd**2
    precision = scale**2 * power + prior
    contrast = (scale * product + prior) / precision
    evidence = 0.5 * (precision * contrast.square() - prior - (precision / prior).log())
    odds = math.log(priors.null_share) - math.log1p(-priors.null_share)
    return _Seen(
        contrast, contrast.square() + 1 / precision, evidence, torch.sigmoid(odds - evidence)
    )


def _mean_of(values: Float[Tensor, "..."], particles: WorkerParticles) -> Any:
    """Return the mean over all workers' particles: a number, or one for each column."""
    total = values.sum(0)
    particles.group.add_up([total])
    return particles.group.from_first((total / particles.num_particles).tolist())
