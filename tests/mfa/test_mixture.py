"""The mixture prior of latents: against integrals, and on states that are known."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from raydrgn.mfa.mixture import Mixture, fit, posterior

CPU = torch.device("cpu")


class Moments(NamedTuple):
    """Of the latents themselves, at one scale."""

    mean: torch.Tensor
    covariance: torch.Tensor
    log_evidence: torch.Tensor


def moments(precision, vector, mixture, *, scale=1.0):
    """Return the posterior of latents, out of two scales of which the first is another."""
    scales = torch.tensor([0.3, scale]).expand(len(vector), 2)
    vectors = torch.stack([torch.zeros_like(vector), vector], dim=1)
    found = posterior(precision / scale, scales, vectors, mixture)
    mean = (found.basis @ found.mean[:, 1, :, None])[..., 0]
    second = found.basis @ found.second[:, 1] @ found.basis.mT
    covariance = second - mean[:, :, None] * mean[:, None, :]
    return Moments(mean, covariance, found.log_evidence[:, 1])


@pytest.fixture
def mixture():
    return Mixture(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[-1.0, 0.5], [0.8, -0.2]]),
        torch.tensor([[0.4, 0.1], [0.1, 0.3]]),
    )


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_posterior_and_evidence_are_the_integrals(mixture, scale):
    precision = torch.tensor([[[2.0, 0.4], [0.4, 1.5]]])
    vector = torch.tensor([[0.7, -0.9]])
    found = moments(precision, vector, mixture, scale=scale)
    a, b = precision[0].numpy().astype(float), vector[0].numpy().astype(float)
    states = [
        (w, multivariate_normal(m, mixture.covariance.numpy()))
        for w, m in zip(mixture.weights.tolist(), mixture.means.numpy(), strict=True)
    ]

    ticks = np.linspace(-7, 7, 401)  # of a smooth function that vanishes there the sum is exact
    z = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    prior = sum(w * state.pdf(z) for w, state in states)
    density = np.exp(-0.5 * ((z @ a) * z).sum(axis=1) + z @ b) * prior * (ticks[1] - ticks[0]) ** 2
    evidence = density.sum()
    mean = density @ z / evidence
    second = density @ (z[:, 0] * z[:, 1]) / evidence
    assert float(found.log_evidence) == pytest.approx(np.log(evidence), abs=1e-4)
    np.testing.assert_allclose(found.mean[0], mean, atol=1e-4)
    assert float(found.covariance[0, 0, 1]) == pytest.approx(second - mean[0] * mean[1], abs=1e-4)


def test_a_standard_normal_prior_gives_ridge_regression():
    torch.manual_seed(0)
    root = torch.randn(5, 3, 3)
    precision, vector = root @ root.mT, torch.randn(5, 3)
    found = moments(precision, vector, Mixture.standard_normal(3, device=CPU))
    expected = torch.linalg.inv(precision + torch.eye(3))
    torch.testing.assert_close(found.covariance, expected, atol=1e-5, rtol=1e-4)
    mean = (expected @ vector[..., None])[..., 0]
    torch.testing.assert_close(found.mean, mean, atol=1e-5, rtol=1e-4)


def test_a_linear_change_of_latents_leaves_the_evidence(mixture):
    torch.manual_seed(1)
    root = torch.randn(4, 2, 2)
    precision, vector = root @ root.mT + torch.eye(2), torch.randn(4, 2)
    shift, transform = torch.tensor([0.3, -0.2]), torch.tensor([[1.2, 0.3], [-0.1, 0.8]])
    moved = mixture.transformed(shift, transform)
    # z = shift + transform·y in exp(−½ zᵀAz + bᵀz)
    inner = transform.T @ precision @ transform
    linear = (vector - precision @ shift) @ transform
    constant = vector @ shift - 0.5 * torch.einsum("k,bkl,l->b", shift, precision, shift)
    before = moments(precision, vector, mixture)
    after = moments(inner, linear, moved)
    torch.testing.assert_close(
        after.log_evidence + constant, before.log_evidence, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(shift + after.mean @ transform.T, before.mean, atol=1e-4, rtol=1e-4)


def test_states_are_found_from_noisy_likelihoods():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.8], [-1.0, -1.8]])
    labels = torch.randint(3, (3000,), generator=generator)
    truth = centres[labels] + 0.1 * torch.randn(3000, 2, generator=generator)
    noise = 0.6
    vector = (truth + noise * torch.randn(3000, 2, generator=generator)) / noise**2
    precision = torch.eye(2).expand(3000, 2, 2) / noise**2
    start = Mixture(torch.full((8,), 1 / 8), noise**2 * vector[:8], 0.5 * torch.eye(2))
    found = fit(precision, vector, start, iterations=12)
    nearest = torch.cdist(found.means, centres).argmin(1)
    weight = torch.zeros(3).index_add_(0, nearest, found.weights)
    shares = torch.bincount(labels) / 3000
    torch.testing.assert_close(weight, shares, atol=0.03, rtol=0)
    estimate = moments(precision, vector, found).mean
    assert (estimate - truth).square().mean() < 0.5 * (noise**2 * vector - truth).square().mean()


def test_states_of_no_particle_are_dropped():
    vector = torch.zeros(100, 2)
    precision = 10 * torch.eye(2).expand(100, 2, 2)
    means = torch.tensor([[0.0, 0.0], [60.0, 60.0]])
    start = Mixture(torch.tensor([0.5, 0.5]), means, 0.01 * torch.eye(2))
    assert len(fit(precision, vector, start, iterations=3).weights) == 1


def test_a_fitted_state_is_not_the_standard_normal_prior():
    prior = Mixture.standard_normal(2, device=CPU)
    assert prior.is_standard_normal
    fitted = fit(torch.eye(2).expand(50, 2, 2), torch.ones(50, 2), prior, iterations=1)
    assert len(fitted.weights) == 1
    assert not fitted.is_standard_normal
