"""Posterior of a particle's latent and contrast, and whether its image shows one at all.

    y = a·C·P (V₀ + Σ_k z_k V_k) + noise,   a ~ N(1, σ_a²),   or y = noise of junk

The image comes in by its products with the slices alone: the Gram matrix G of the mean's and the
components' slices, and their products h with the image, in units of the noise. The contrast is
integrated on a grid of a few points for each image, by how well its products determine it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.mfa.mixture import LatentPosterior, Mixture, posterior
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.shapes import Float

CONTRAST_POINTS = 9
CONTRAST_STEP = 0.75
"""Distance of the points in SDs of the contrast given the image and a normal latent."""


class ImageProducts(NamedTuple):
    """Products of slices and images, twice the real part, in units of the noise."""

    gram: Float[Tensor, "b k1 k1"]
    """Of the slices of the mean (first) and of the components."""

    image: Float[Tensor, "b k1"]
    """Of the slices and the image."""

    power: Float[Tensor, " b"]
    """Of the image and itself."""

    uncertainty: Float[Tensor, "b k"]
    """What the uncertainty of each component adds to the Gram matrix's diagonal."""

    null_evidence: Float[Tensor, " b"]
    """Logarithm of the image's probability as ice or carbon, over that as noise alone."""


class ImagePosterior(NamedTuple):
    """Expectations over latent and contrast, given the image."""

    contrast: Float[Tensor, " b"]
    null_probability: Float[Tensor, " b"]

    contaminant_probability: Float[Tensor, " b"]
    """That it shows ice or carbon; a part of the null probability."""

    first: Float[Tensor, "b k1"]
    """E[a·(1, z)], 0 for junk."""

    second: Float[Tensor, "b k1 k1"]
    """E[a²·(1, z)(1, z)ᵀ], 0 for junk."""

    square_contrast: Float[Tensor, " b"]
    """E[a²] of particles."""

    latent: Float[Tensor, "b k"]
    """Of the image as that of a particle; so are the next three."""

    covariance: Float[Tensor, "b k k"]
    precision: Float[Tensor, "b k k"]
    """A of the latent's likelihood exp(−½ zᵀAz + bᵀz), at the expected contrast."""

    vector: Float[Tensor, "b k"]
    """b of it."""

    log_evidence: Float[Tensor, " b"]
    """Logarithm of the image's probability, over that of noise alone."""

    particle_evidence: Float[Tensor, " b"]
    """The same if it is known to be a particle."""

    def moments(self) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Return mean and variance of the latents, of which junk shows nothing: 0 and 1."""
        null = self.null_probability[:, None]
        square = self.covariance.diagonal(dim1=1, dim2=2) + self.latent.square()
        mean = (1 - null) * self.latent
        variance = (1 - null) * square + null - mean.square()
        return mean, variance.clamp(min=1e-12)


def image_posterior(
    products: ImageProducts,
    mixture: Mixture,
    priors: ParticlePriors,
    *,
    has_contrast: bool,
    has_null_class: bool,
) -> ImagePosterior:
    """Return the expectations of the images.

    Args:
        products: Of slices and images.
        mixture: Prior of the latents.
        priors: Of contrast and junk.
        has_contrast: Whether contrasts differ; else all are 1.
        has_null_class: Whether an image may be junk.
    """
    inner = products.gram[:, 1:, 1:] + torch.diag_embed(products.uncertainty)
    mean_power, cross = products.gram[:, 0, 0], products.gram[:, 1:, 0]
    if has_contrast:
        values, log_prior = _contrasts(products, inner, priors.contrast_sd)
    else:
        values, log_prior = torch.ones_like(cross[:, :1]), torch.zeros_like(cross[:, :1])
    square = values.square()
    vectors = values[..., None] * products.image[:, None, 1:] - square[..., None] * cross[:, None]
    found = posterior(inner, square, vectors, mixture)
    logs = (
        found.log_evidence
        + values * products.image[:, :1]
        - 0.5 * square * mean_power[:, None]
        + log_prior
    )
    of_particle = torch.logsumexp(logs, dim=1)
    null = contaminant = torch.zeros_like(of_particle)
    log_evidence = of_particle
    if has_null_class:
        null, contaminant, log_evidence = _junk(products, priors, of_particle)
    moments = _moments(found, torch.softmax(logs, dim=1), values)
    expected, expected_square = moments.first[:, 0], moments.second[:, 0, 0]
    kept = 1 - null
    return ImagePosterior(
        contrast=expected,
        null_probability=null,
        contaminant_probability=contaminant,
        first=moments.first * kept[:, None],
        second=moments.second * kept[:, None, None],
        square_contrast=expected_square,
        latent=moments.latent,
        covariance=moments.covariance,
        precision=expected_square[:, None, None] * inner,
        vector=expected[:, None] * products.image[:, 1:] - expected_square[:, None] * cross,
        log_evidence=log_evidence,
        particle_evidence=of_particle,
    )


class _Moments(NamedTuple):
    """Of latents z and contrasts a of the images, as if all were particles."""

    latent: Float[Tensor, "b k"]
    covariance: Float[Tensor, "b k k"]
    first: Float[Tensor, "b k1"]
    """Expectation of a (1, z)."""

    second: Float[Tensor, "b k1 k1"]
    """Expectation of a² (1, z) (1, z)ᵀ."""


def _moments(
    found: LatentPosterior, q: Float[Tensor, "b p"], values: Float[Tensor, "b p"]
) -> _Moments:
    """Return moments, of the probabilities q of values of the contrast."""
    weights = torch.stack([q, q * values, q * values.square()], dim=1)  # (b 3 p): of 1, a and a²
    expected, expected_square = weights[:, 1].sum(1), weights[:, 2].sum(1)
    latent, once, twice = (weights @ found.mean @ found.basis.mT).unbind(1)
    count, dim = latent.shape
    products_of_z = (weights[:, ::2] @ found.second.flatten(2)).unflatten(2, (dim, dim))
    both = found.basis[:, None] @ products_of_z @ found.basis[:, None].mT  # (b 2 k k)
    second = latent.new_empty(count, dim + 1, dim + 1)
    second[:, 0, 0] = expected_square
    second[:, 0, 1:] = second[:, 1:, 0] = twice
    second[:, 1:, 1:] = both[:, 1]
    return _Moments(
        latent=latent,
        covariance=both[:, 0] - latent[:, :, None] * latent[:, None, :],
        first=torch.cat([expected[:, None], once], dim=1),
        second=second,
    )


def _junk(
    products: ImageProducts, priors: ParticlePriors, of_particle: Float[Tensor, " b"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Return the probabilities of junk and of contaminants, and the log-evidence of the images.

    Args:
        products: Of slices and images.
        priors: Of junk.
        of_particle: Log-evidence of images that are particles.
    """
    share, empty = priors.null_share, math.log(priors.empty_share)
    evidence = products.null_evidence + math.log1p(-priors.empty_share)
    junk = math.log(share) + torch.logaddexp(evidence, torch.full_like(evidence, empty))
    particle = math.log1p(-share) + of_particle
    null = torch.sigmoid(junk - particle)
    contaminant = null * torch.sigmoid(evidence - empty)
    return null, contaminant, torch.logaddexp(junk, particle)


def _contrasts(
    products: ImageProducts, inner: Float[Tensor, "b k k"], sd: float
) -> tuple[Float[Tensor, "b points"], Float[Tensor, "b points"]]:
    """Return the contrasts to integrate over, and the logarithms of their probabilities.

    They lie about the likeliest contrast, of a·z that is normal with covariance 1.

    Args:
        products: Of slices and images.
        inner: Gram matrix of the components, with their uncertainty.
        sd: Of the contrasts.
    """
    cross = products.gram[:, 1:, :1]
    both = torch.cat([cross, products.image[:, 1:, None]], dim=2)
    factor = torch.linalg.cholesky(inner + torch.eye(inner.shape[1], device=inner.device))
    of_latent = (cross.mT @ torch.cholesky_solve(both, factor))[:, 0]
    determined = (products.gram[:, 0, 0] - of_latent[:, 0]).clamp(min=0) + sd**-2
    likeliest = (products.image[:, 0] - of_latent[:, 1] + sd**-2) / determined
    step = CONTRAST_STEP * determined.rsqrt()
    reach = CONTRAST_POINTS // 2
    points = torch.arange(CONTRAST_POINTS, device=step.device) - reach
    values = torch.maximum(likeliest, reach * step)[:, None] + step[:, None] * points
    log_step = (step / (sd * math.sqrt(2 * math.pi))).log()[:, None]
    return values, log_step - 0.5 * ((values - 1) / sd).square()
