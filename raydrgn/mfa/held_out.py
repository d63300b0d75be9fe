"""How many components and states images support that a model was not made of.

More components, and more states, always explain the images better that they were fitted to. Of
other images, those that only fit noise lower the likelihood.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.store import free_memory
from raydrgn.mfa import mixture as mixtures
from raydrgn.mfa.expectation import ParticlePass
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.memory import grid_file_where_needed
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import Estimated, ParticleEstimates
from raydrgn.mfa.posterior import ImageProducts, image_posterior
from raydrgn.mfa.workers import WorkerParticles
from raydrgn.shapes import Float

ITERATIONS = 30
"""Of the fit of a mixture."""

STARTS = 3
"""Of the fit of a mixture, the best of which is taken."""

AT_ONCE = 256
"""Images whose likelihoods by all states are in memory at a time."""


@dataclass(frozen=True, slots=True)
class ImageLikelihoods:
    """What a model knows of some images, none of which need be its own."""

    by_components: Float[np.ndarray, "n k1"]
    """Logarithm of each image's probability with the first 0, 1, … components, over noise alone."""

    precision: Float[Tensor, "n k k"]
    """A of the likelihood exp(−½ zᵀAz + bᵀz) of each image's latent."""

    vector: Float[Tensor, "n k"]
    """b of it."""

    latents: Float[Tensor, "n k"]


def image_likelihoods(
    model: FactorModel,
    particles: WorkerParticles,
    estimates: ParticleEstimates,
    *,
    has_contrast: bool,
) -> ImageLikelihoods:
    """Return the likelihoods of images, with poses and contrasts as they are estimated.

    The volumes are taken as they are: what is uncertain of them counts against them.
    """
    device, dim = particles.device, model.num_components
    at = FourierPoints.within(model.box, model.box, device=device)
    file = grid_file_where_needed(model.box, dim, device=device, free=free_memory(device))
    worker_pass = ParticlePass(
        model,
        VolumeGrids(model.box, device=device, grid_file=file),
        at,
        component_variance=torch.zeros_like(model.component_power),
        estimated=Estimated(contrast=has_contrast),
    )
    parts = []
    batches = particles.all_batches(at, num_volumes=dim + 1)
    for _, found, products in worker_pass.expect(batches, estimates):
        logs = []
        for count in range(dim + 1):
            kept = image_posterior(
                _with_first(products, count),
                _marginal(model.mixture, max(count, 1)),
                model.priors,
                has_contrast=has_contrast,
                has_null_class=False,
            )
            logs.append(kept.log_evidence)
        parts.append((torch.stack(logs, dim=1), found.precision, found.vector, found.latent))
    by_components, *of_latents = (torch.cat(part) for part in zip(*parts, strict=True))
    return ImageLikelihoods(by_components.cpu().numpy(), *of_latents)


def _with_first(products: ImageProducts, count: int) -> ImageProducts:
    """Return the products with the mean and some components; with none, with an empty one."""
    last = max(count, 1) + 1
    gram, image = products.gram[:, :last, :last], products.image[:, :last]
    if count == 0:
        gram, image = gram.clone(), image.clone()
        gram[:, 1], gram[:, :, 1], image[:, 1] = 0, 0, 0
    return products._replace(
        gram=gram, image=image, uncertainty=products.uncertainty[:, : last - 1]
    )


def _marginal(mixture: Mixture, count: int) -> Mixture:
    """Return the mixture of the first coordinates."""
    return Mixture(
        mixture.weights, mixture.means[:, :count], mixture.covariance[:count, :count].contiguous()
    )


def gains_of_states(
    fitted: ImageLikelihoods, other: ImageLikelihoods, numbers: tuple[int, ...], *, seed: int
) -> Float[np.ndarray, "n j"]:
    """Return what mixtures of some numbers of states gain in other images, nats.

    Args:
        fitted: Images of the model, to whose latents mixtures are fitted.
        other: Images that neither model nor mixtures were made of.
        numbers: Of states, of which the first mixture is what the others are compared with.
        seed: Of the particles at whose latents states begin.
    """
    logs = [_log_evidence(other, _best_fit(fitted, number, seed=seed)) for number in numbers]
    gains = torch.stack(logs, dim=1)
    return (gains - gains[:, :1]).cpu().numpy()


def _best_fit(images: ImageLikelihoods, number: int, *, seed: int) -> Mixture:
    """Return the mixture of some states that explains the images best, of several starts.

    States that begin at random latents miss rare ones, and more states are needed then.
    """
    fits = []
    for turn in range(STARTS if number > 1 else 1):
        start = mixtures.first(images.latents, number, seed=(seed, number))
        far = _far_apart(images.latents, len(start.weights), seed=(seed, number, turn))
        start = replace(start, means=far)
        fits.append(mixtures.fit(images.precision, images.vector, start, iterations=ITERATIONS))
    return max(fits, key=lambda fit: float(_log_evidence(images, fit).mean()))


def _far_apart(
    latents: Float[Tensor, "n k"], count: int, *, seed: tuple[int, ...]
) -> Float[Tensor, "j k"]:
    """Return latents of particles, each drawn by its squared distance to those drawn before.

    The start of k-means++ (Arthur & Vassilvitskii, 2007).
    """
    generator = np.random.default_rng(seed)
    points = latents.cpu().numpy().astype(np.float64)
    chosen = [int(generator.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        total = nearest.sum()
        share = nearest / total if total > 0 else None
        chosen.append(int(generator.choice(len(points), p=share)))
    return latents[torch.tensor(chosen, device=latents.device)].clone()


def _log_evidence(images: ImageLikelihoods, mixture: Mixture) -> Float[Tensor, " n"]:
    """Return the logarithm of each image's probability, latents distributed as a mixture."""
    ones = torch.ones(len(images.vector), 1, device=images.vector.device)
    parts = zip(
        images.precision.split(AT_ONCE),
        ones.split(AT_ONCE),
        images.vector[:, None].split(AT_ONCE),
        strict=True,
    )
    return torch.cat([mixtures.posterior(*part, mixture).log_evidence[:, 0] for part in parts])
