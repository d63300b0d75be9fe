"""The prior of the latents: a mixture of normal distributions with one covariance for all.

    z ~ Σ_j w_j N(μ_j, S)

Of a particle only the likelihood of its latent matters, exp(−½ zᵀAz + bᵀz), so the mixture is
fitted without its image. The equations are those of a mixture of factor analysers (Ghahramani and
Hinton, 1996) whose factors are latents that are seen through a Gaussian likelihood.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydrgn.shapes import Float

COVARIANCE_FLOOR = 1e-3
"""Least variance of a state, where the mean variance of a latent is 1."""

FIRST_COVARIANCE = 0.5
"""Variance of the states to begin with, likewise."""

MEANS_PER_COVARIANCE = 5
"""Updates of the states' weights and means for each one of their covariance."""

LEAST_PARTICLES = 0.3
"""Particles that a state must have to be kept."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weights, means and covariance of the states."""

    weights: Float[Tensor, " j"]
    means: Float[Tensor, "j k"]
    covariance: Float[Tensor, "k k"]

    @classmethod
    def standard_normal(cls, dim: int, *, device: torch.device) -> "Mixture":
        """Return one state, of mean 0 and unit covariance."""
        return cls(
            torch.ones(1, device=device),
            torch.zeros(1, dim, device=device),
            torch.eye(dim, device=device),
        )

    @property
    def is_standard_normal(self) -> bool:
        """Whether it is that of ``standard_normal``: no mixture was fitted yet."""
        unit = Mixture.standard_normal(self.means.shape[1], device=self.means.device)
        return (
            len(self.weights) == 1
            and torch.equal(self.means, unit.means)
            and torch.equal(self.covariance, unit.covariance)
        )

    def transformed(self, shift: Float[Tensor, " k"], transform: Float[Tensor, "k k"]) -> "Mixture":
        """Return the mixture of y, where z = shift + transform·y."""
        inverse = torch.linalg.inv(transform)
        return Mixture(
            self.weights,
            (self.means - shift) @ inverse.T,
            inverse @ self.covariance @ inverse.T,
        )


class LatentPosterior(NamedTuple):
    """Of the latent z = basis·x of each particle, at each scale; x is independent of a state's."""

    basis: Float[Tensor, "b k k"]

    mean: Float[Tensor, "b p k"]
    """E[x]."""

    second: Float[Tensor, "b p k k"]
    """E[x xᵀ]."""

    log_evidence: Float[Tensor, "b p"]
    """log ∫ exp(−½ s zᵀAz + vᵀz) p(z) dz."""


def posterior(
    precision: Float[Tensor, "b k k"],
    scales: Float[Tensor, "b p"],
    vectors: Float[Tensor, "b p k"],
    mixture: Mixture,
) -> LatentPosterior:
    """Return moments and evidence of the latents whose likelihoods are given.

    In the basis in which both the precision and the covariance of the states are diagonal, all
    coordinates are independent within a state, at any scale.

    Args:
        precision: A of the likelihoods exp(−½ s zᵀAz + vᵀz).
        scales: s of them, of each particle.
        vectors: v of them.
        mixture: The prior.
    """
    dim = mixture.means.shape[1]
    root = torch.linalg.cholesky(mixture.covariance)
    values, axes = torch.linalg.eigh(root.T @ precision @ root)
    basis = root @ axes
    means = torch.linalg.solve_triangular(root, mixture.means.T, upper=False).T @ axes  # (b j k)
    shrunk = 1 / (1 + scales[..., None] * values.clamp(min=0)[:, None])  # variances of a state
    along = vectors @ basis
    logs = (along * shrunk) @ means.mT - 0.5 * (1 - shrunk) @ means.square().mT
    logs = logs + _log_weights(mixture)
    responsibilities = torch.softmax(logs, dim=2)
    products = (means[..., :, None] * means[..., None, :]).flatten(2)
    of_state = responsibilities @ means
    square = (responsibilities @ products).unflatten(2, (dim, dim))  # of the states' means
    mixed = along[..., :, None] * of_state[..., None, :]
    second = square + mixed + mixed.mT + along[..., :, None] * along[..., None, :]
    second = shrunk[..., :, None] * second * shrunk[..., None, :] + torch.diag_embed(shrunk)
    own = 0.5 * (shrunk.log() + shrunk * along.square()).sum(2)
    return LatentPosterior(
        basis, (along + of_state) * shrunk, second, torch.logsumexp(logs, dim=2) + own
    )


def first(latents: Float[Tensor, "n k"], states: int, *, seed: tuple[int, ...]) -> Mixture:
    """Return a mixture whose states are at the latents of random particles."""
    count, dim = latents.shape
    states = min(states, count)
    chosen = np.random.default_rng(seed).choice(count, states, replace=False)
    device = latents.device
    return Mixture(
        torch.full((states,), 1 / states, device=device),
        latents[torch.from_numpy(chosen).to(device)].clone(),
        FIRST_COVARIANCE * torch.eye(dim, device=device),
    )


def fit(
    precision: Float[Tensor, "n k k"],
    vector: Float[Tensor, "n k"],
    mixture: Mixture,
    *,
    iterations: int,
) -> Mixture:
    """Return the mixture after some iterations of EM, with a unit normal prior on its means.

    Each makes weights and means anew ``MEANS_PER_COVARIANCE`` times, which takes little as long as
    the covariance stays, and then the covariance. States that fewer than ``LEAST_PARTICLES``
    belong to are dropped.
    """
    num, dim = vector.shape
    identity = torch.eye(dim, device=vector.device)
    for _ in range(iterations):
        given = _given_state(precision, vector, mixture)
        flat = given.node_precision.flatten(1)
        for _ in range(MEANS_PER_COVARIANCE):
            responsibilities = torch.softmax(_state_logs(given, mixture), dim=1)
            summed = (responsibilities.T @ flat).view(-1, dim, dim)
            means = torch.linalg.solve(summed + identity, responsibilities.T @ given.node_vector)
            weights = responsibilities.mean(0)
            kept = weights > LEAST_PARTICLES / num
            mixture = Mixture(weights[kept] / weights[kept].sum(), means[kept], mixture.covariance)
        responsibilities = torch.softmax(_state_logs(given, mixture), dim=1)
        expected = responsibilities @ mixture.means
        spread = _spread(responsibilities, mixture.means, expected)
        # z_j − μ_j = C·b + (C·S⁻¹ − 1)·μ_j, given the particle and its state j
        pull = given.covariance @ given.inverse - identity
        off = (given.covariance @ vector[..., None] + pull @ expected[..., None])[..., 0]
        covariance = (
            given.covariance + off[:, :, None] * off[:, None, :] + pull @ spread @ pull.mT
        ).mean(0) + COVARIANCE_FLOOR * identity
        mixture = replace(mixture, covariance=0.5 * (covariance + covariance.T))
    return mixture


class _GivenState(NamedTuple):
    """What follows from a particle's likelihood and the covariance of the states."""

    covariance: Float[Tensor, "b k k"]
    """C = (A + S⁻¹)⁻¹, of a latent given its state."""

    inverse: Float[Tensor, "k k"]
    """S⁻¹."""

    node_precision: Float[Tensor, "b k k"]
    """S⁻¹ − S⁻¹CS⁻¹: of the evidence as a function of the mean of the state."""

    node_vector: Float[Tensor, "b k"]
    """S⁻¹Cb, likewise."""


def _given_state(
    precision: Float[Tensor, "b k k"], vector: Float[Tensor, "b k"], mixture: Mixture
) -> _GivenState:
    inverse = torch.linalg.inv(mixture.covariance)
    covariance = torch.linalg.inv(precision + inverse)
    product = inverse @ covariance
    node_vector = (product @ vector[..., None])[..., 0]
    return _GivenState(covariance, inverse, inverse - product @ inverse, node_vector)


def _state_logs(given: _GivenState, mixture: Mixture) -> Float[Tensor, "b j"]:
    """Return the logarithm of weight times evidence of each state, less a term of the particle."""
    dim = mixture.means.shape[1]
    rows, columns = torch.triu_indices(dim, dim, device=mixture.means.device)
    factor = torch.where(rows == columns, -0.5, -1.0)
    square = given.node_precision[:, rows, columns] * factor
    products = mixture.means[:, rows] * mixture.means[:, columns]
    return square @ products.T + given.node_vector @ mixture.means.T + _log_weights(mixture)


def _log_weights(mixture: Mixture) -> Float[Tensor, " j"]:
    return torch.log(mixture.weights).clamp(min=math.log(1e-30))


def _spread(
    responsibilities: Float[Tensor, "b j"],
    means: Float[Tensor, "j k"],
    expected: Float[Tensor, "b k"],
) -> Float[Tensor, "b k k"]:
    """Return the covariance of the state's mean, given the responsibilities."""
    dim = means.shape[1]
    products = (means[:, :, None] * means[:, None, :]).flatten(1)
    square = (responsibilities @ products).view(-1, dim, dim)
    return square - expected[:, :, None] * expected[:, None, :]
