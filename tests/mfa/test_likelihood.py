"""The terms of the likelihood beside closed forms."""

import pytest
import torch

from raydrgn.mfa.likelihood import add_likelihood
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.mfa.posterior import ImageProducts, image_posterior
from raydrgn.mfa.sums import Sums

CPU = torch.device("cpu")


@pytest.mark.parametrize("uncertainty", [0.0, 1.0, 4.0])
def test_the_divergence_of_a_normal_posterior_is_that_of_two_normal_distributions(uncertainty):
    """½ (tr C + mᵀm − k − log det C), also where components are uncertain."""
    count, dim, generator = 50, 4, torch.Generator().manual_seed(0)
    slices = 0.2 * torch.randn(count, 200, dim + 1, generator=generator)
    latents = torch.randn(count, dim, generator=generator)
    image = slices[:, :, 0] + (slices[:, :, 1:] @ latents[..., None])[..., 0]
    image += 0.5**0.5 * torch.randn(count, 200, generator=generator)
    products = ImageProducts(
        gram=2 * slices.mT @ slices,
        image=2 * (slices.mT @ image[..., None])[..., 0],
        power=2 * image.square().sum(1),
        uncertainty=torch.full((count, dim), uncertainty),
        null_evidence=torch.zeros(count),
    )
    found = image_posterior(
        products,
        Mixture.standard_normal(dim, device=CPU),
        ParticlePriors(),
        has_contrast=False,
        has_null_class=False,
    )
    grid = torch.zeros(1, 1, 1, 2 * dim + 2)
    sums = Sums.zero(grid, num_components=dim, num_shells=3, num_groups=1)
    add_likelihood(sums, found, products)
    trace = found.covariance.diagonal(dim1=1, dim2=2).sum(1)
    square, log_det = found.latent.square().sum(1), torch.logdet(found.covariance)
    expected = 0.5 * (trace + square - dim - log_det)
    assert sums.total("divergence") / count == pytest.approx(float(expected.mean()), rel=1e-4)
