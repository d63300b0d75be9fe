"""Where a fit starts: noise and weights of the images, the mean, and contrasts by the mean."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raydrgn.mfa.config import MfaConfig
from raydrgn.mfa.expectation import MeanPass
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints, ctf_at
from raydrgn.mfa.interpolation import insert
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticleEstimates, ParticlePriors
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.support import ball
from raydrgn.mfa.update import COMPONENT_SHARE, LEAST_CONTRAST_SD
from raydrgn.mfa.workers import MEAN, WorkerParticles
from raydrgn.shapes import Float

MEAN_PARTICLES = 3000
"""Particles of one pass for the mean, at least."""

LEAST_SHARE = 0.05
"""Of all particles, likewise."""

CONTRAST_ITERATIONS = 20


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
    noise = sums.variance(torch.bincount(at.shell, minlength=shells))
    noise[:, 0] = noise[:, 1]
    noise = torch.minimum(noise, 1.5 * noise[:, -4:].mean(1, keepdim=True))
    mean_power = torch.full_like(noise[0], 1e3 * float(noise.mean()))
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
    weights = grids.coefficients(grid)[0].real.cpu()
    return particles.group.from_first(weights).to(particles.device)


def mean_sums(
    model: FactorModel,
    particles: WorkerParticles,
    estimates: ParticleEstimates,
    grids: VolumeGrids,
    at: FourierPoints,
    *,
    number: int,
) -> Sums:
    """Return this worker's sums for the mean over some particles, others in each pass."""
    wanted = max(MEAN_PARTICLES, math.ceil(LEAST_SHARE * particles.num_particles))
    rows = torch.from_numpy(np.flatnonzero(particles.chosen(MEAN, number, count=wanted)))
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


def fit_contrasts(
    model: FactorModel,
    particles: WorkerParticles,
    estimates: ParticleEstimates,
    grids: VolumeGrids,
    at: FourierPoints,
) -> FactorModel:
    """Estimate contrasts from the mean alone; return the model with their SD, and mean 1."""
    worker_pass = MeanPass(model, grids, at)
    found = torch.zeros(len(particles), 2, dtype=torch.float64, device=particles.device)
    for where, batch in particles.all_batches(at, num_volumes=1):
        found[where] = worker_pass.products(batch, estimates[where]).double()
    power, product = found.unbind(1)
    variance, scale = model.priors.contrast_sd**2, 1.0
    for _ in range(CONTRAST_ITERATIONS):
        contrast, precision = _contrasts(power, product, scale=scale, variance=variance)
        sums = torch.stack([contrast.sum(), (contrast.square() + 1 / precision).sum()])
        particles.group.add_up([sums])
        mean, square = particles.group.from_first((sums / particles.num_particles).tolist())
        variance = max(square / mean**2 - 1, LEAST_CONTRAST_SD**2)
        scale *= mean
    contrast, _ = _contrasts(power, product, scale=scale, variance=variance)
    estimates.contrast = contrast.clamp(min=0).float()
    priors = ParticlePriors(contrast_sd=math.sqrt(variance))
    return replace(model, volumes=model.volumes * scale, priors=priors)


def _contrasts(
    power: Float[Tensor, " n"], product: Float[Tensor, " n"], *, scale: float, variance: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return posterior mean and precision of contrasts about 1, of a mean that is scaled."""
    precision = scale**2 * power + 1 / variance
    return (scale * product + 1 / variance) / precision, precision
