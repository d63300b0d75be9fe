"""The prior of the latents: a mixture of normal distributions with one covariance for all.

    z ~ Σ_j w_j N(μ_j, S)

Of a particle only the likelihood of its latent matters, exp(−½ zᵀAz + bᵀz), so the mixture is
fitted without its image. The equations are those of a mixture of factor analysers (Ghahramani and
Hinton, 1996) whose factors are latents that are seen through a Gaussian likelihood.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.shapes import Float

COVARIANCE_FLOOR = 1e-3
"""Least variance of a state, where the mean variance of a latent is 1."""

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

    def transformed(self, shift: Float[Tensor, " k"], transform: Float[Tensor, "k k"]) -> "Mixture":
        """Return the mixture of y, where z = shift + transform·y."""
        inverse = torch.linalg.inv(transform)
        return Mixture(
            self.weights,
            (self.means - shift) @ inverse.T,
            inverse @ self.covariance @ inverse.T,
        )


class LatentPosterior(NamedTuple):
    """Of the latent of each particle."""

    mean: Float[Tensor, "b k"]
    covariance: Float[Tensor, "b k k"]
    log_evidence: Float[Tensor, " b"]
    """log ∫ exp(−½ zᵀAz + bᵀz) p(z) dz."""


def posterior(
    precision: Float[Tensor, "b k k"], vector: Float[Tensor, "b k"], mixture: Mixture
) -> LatentPosterior:
    """Return mean, covariance and evidence of the latents whose likelihood is given.

    Args:
        precision: A of the likelihood exp(−½ zᵀAz + bᵀz).
        vector: b of it.
        mixture: The prior.
    """
    given = _given_state(precision, vector, mixture)
    logs = _state_logs(given, mixture)
    responsibilities = torch.softmax(logs, dim=1)
    means = responsibilities @ mixture.means
    spread = _spread(responsibilities, mixture.means, means)
    pull = given.covariance @ given.inverse
    mean = (given.covariance @ (vector + means @ given.inverse)[..., None])[..., 0]
    half_square = 0.5 * torch.einsum("bk,bkl,bl->b", vector, given.covariance, vector)
    log_evidence = (
        torch.logsumexp(logs, dim=1)
        + half_square
        + 0.5 * torch.logdet(given.covariance)
        - 0.5 * torch.logdet(mixture.covariance)
    )
    return LatentPosterior(mean, given.covariance + pull @ spread @ pull.mT, log_evidence)


def fit(
    precision: Float[Tensor, "n k k"],
    vector: Float[Tensor, "n k"],
    mixture: Mixture,
    *,
    iterations: int,
) -> Mixture:
    """Return the mixture after some iterations of EM, with a unit normal prior on its means.

    States that fewer than ``LEAST_PARTICLES`` belong to are dropped.
    """
    num, dim = vector.shape
    identity = torch.eye(dim, device=vector.device)
    for _ in range(iterations):
        given = _given_state(precision, vector, mixture)
        responsibilities = torch.softmax(_state_logs(given, mixture), dim=1)
        means = responsibilities @ mixture.means
        spread = _spread(responsibilities, mixture.means, means)
        # z_j − μ_j = C·b + (C·S⁻¹ − 1)·μ_j, given the particle and its state j
        pull = given.covariance @ given.inverse - identity
        off = (given.covariance @ vector[..., None] + pull @ means[..., None])[..., 0]
        covariance = (
            given.covariance + off[:, :, None] * off[:, None, :] + pull @ spread @ pull.mT
        ).mean(0) + COVARIANCE_FLOOR * identity
        summed = torch.einsum("nj,nkl->jkl", responsibilities, given.node_precision)
        moved = torch.linalg.solve(summed + identity, responsibilities.T @ given.node_vector)
        weights = responsibilities.mean(0)
        kept = weights > LEAST_PARTICLES / num
        mixture = Mixture(
            weights[kept] / weights[kept].sum(), moved[kept], 0.5 * (covariance + covariance.T)
        )
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
    least = math.log(1e-30)
    log_weights = torch.log(mixture.weights).clamp(min=least)
    return square @ products.T + given.node_vector @ mixture.means.T + log_weights


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
