"""The likelihood of a model over all particles, and the latents it is found with."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.noise import observed
from raydrgn.mfa.posterior import ImagePosterior, ImageProducts
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.update import require_particles
from raydrgn.shapes import Float


@dataclass(frozen=True, slots=True)
class Expected:
    """Latents of a worker's particles, and the terms of the likelihood over all workers'."""

    latents: Float[np.ndarray, "n k"]
    logvar: Float[np.ndarray, "n k"]
    negative_log_likelihood: float
    """Per Fourier point of an image, nats."""

    misfit: float
    """Squared residual over the noise's variance, per Fourier point; 1 is noise alone."""

    divergence: float
    """Kullback–Leibler divergence of latent and contrast from their priors, nats."""


def add_likelihood(sums: Sums, found: ImagePosterior, products: ImageProducts) -> None:
    """Add the terms of the likelihood of a batch."""
    kept = 1 - found.null_probability
    fitted = (found.first * products.image).sum(1)
    square = (found.second * products.gram).sum((1, 2))
    of_components = found.second.diagonal(dim1=1, dim2=2)[:, 1:] * products.uncertainty
    likelihood = fitted - 0.5 * (square + of_components.sum(1))  # E log p(y|z), as in the evidence
    sums.add(
        particles=torch.ones_like(kept),
        log_evidence=found.log_evidence,
        divergence=likelihood - kept * found.particle_evidence,
        power=0.5 * products.power,
        likely=kept,
        misfit=0.5 * kept * products.power - fitted + 0.5 * square,
    )


def likelihood_terms(
    sums: Sums, model: FactorModel, at: FourierPoints, optics_shares: Float[Tensor, " groups"]
) -> tuple[float, float, float]:
    """Return negative log-likelihood, misfit and divergence, as of ``Expected``.

    Args:
        sums: Over the particles of all workers.
        model: That they were made with.
        at: Fourier points of an image; those that are not observed do not count.
        optics_shares: Share of each optics group among all particles.

    Raises:
        InputError: If all images have become junk.
    """
    require_particles(sums.total("likely"))
    noise = model.noise[:, at.shell]
    is_seen = observed(noise)
    points = float(optics_shares @ is_seen.sum(1).float())  # of an image
    count = sums.total("particles") * points
    logs = torch.where(is_seen, noise.log(), 0.0).sum(1)
    of_noise = math.log(math.pi) + float(optics_shares @ logs) / points
    of_noise += sums.total("power") / count
    return (
        of_noise - sums.total("log_evidence") / count,
        sums.total("misfit") / sums.total("likely") / points,
        sums.total("divergence") / sums.total("likely"),
    )
