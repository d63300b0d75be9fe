"""Shifts and small rotations of particles, from the difference of image and predicted slice."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.mfa.particles import ParticlePriors, composed
from raydrgn.shapes import Float

SHIFT_REACH_PX = 1.5
"""Largest trial shift from the last estimate."""

SHIFT_REACH_SDS = 3.0
"""The same in SDs of the shifts."""

SHIFT_STEP_PX = 0.25

LARGEST_ROTATION = math.radians(5)
"""Largest change in one pass."""

ROTATION_STEP = 0.5
"""Of a Gauss–Newton step, what is taken.

Whole ones overshoot where the noise bends the likelihood as much as the density does: some images
swing between two rotations, and rounding errors double with every pass.
"""

ROTATION_SDS = tuple(math.radians(0.05) * 2 ** (step / 2) for step in range(16))
"""SDs of rotations whose likelihoods are compared, from 0.05 to 9 degrees."""

LEAST_INFORMATION = 0.01
"""Of a rotation about one axis, over that about the axis of most."""


class ShiftEstimate(NamedTuple):
    """Posterior of the shifts of images."""

    change: Float[Tensor, "b 2"]
    """Expected shift beyond the last estimate, pixels."""

    variance: Float[Tensor, " b"]
    """Of both coordinates together, pixels²."""

    image: Float[Tensor, "b n 2"]
    """The image, shifted back, in expectation."""


class ShiftGrid:
    """Trial shifts of images, and their phases at the points of slices."""

    def __init__(self, points: Float[Tensor, "n 2"], box: int, *, sd_px: float) -> None:
        """Take the points (kx, ky) of slices in cycles per box, and the SD of the shifts."""
        largest = min(SHIFT_REACH_PX, SHIFT_REACH_SDS * sd_px)
        reach = math.ceil(largest / SHIFT_STEP_PX)
        ticks = SHIFT_STEP_PX * torch.arange(-reach, reach + 1, device=points.device)
        self._trials = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).view(-1, 2)
        angle = 2 * math.pi / box * points @ self._trials.T  # (n trials)
        self._cos, self._sin = torch.cos(angle), torch.sin(angle)

    def estimate(
        self,
        image: Float[Tensor, "b n 2"],
        predicted: Float[Tensor, "b n 2"],
        last: Float[Tensor, "b 2"],
        priors: ParticlePriors,
    ) -> ShiftEstimate:
        """Return the shifts of images against predictions, both in units of the noise.

        A shift leaves the power of the prediction as it is, so only the product with the image
        decides. A particle at t has the phase exp(−2πi k·t / box).
        """
        y, p = (torch.view_as_complex(x.contiguous()) for x in (image, predicted))
        cross = p.conj() * y
        prior = (last[:, None] + self._trials).square().sum(-1) / priors.shift_sd_px**2
        logs = 2 * (cross.real @ self._cos + cross.imag @ -self._sin) - 0.5 * prior
        q = torch.softmax(logs, dim=1)
        change = q @ self._trials
        variance = q @ self._trials.square().sum(-1) - change.square().sum(-1)
        back = torch.complex(q @ self._cos.T, q @ self._sin.T)
        return ShiftEstimate(change, variance, torch.view_as_real(y * back))


def shifted_back(
    image: Float[Tensor, "b n 2"],
    points: Float[Tensor, "n 2"],
    shifts_px: Float[Tensor, "b 2"],
    box: int,
) -> Float[Tensor, "b n 2"]:
    """Return images of particles at shifts as if they were at the origin."""
    angle = 2 * math.pi / box * shifts_px @ points.T
    phases = torch.complex(torch.cos(angle), torch.sin(angle))
    return torch.view_as_real(torch.view_as_complex(image.contiguous()) * phases)


class RotationEstimate(NamedTuple):
    """Rotations of images after half a Gauss–Newton step."""

    rotations: Float[Tensor, "b 3"]
    """Rotation vectors after the given rotation, radians."""

    evidence: Float[Tensor, "b trials"]
    """Logarithm of the image's probability for each of ``ROTATION_SDS``, over that for 0."""


def estimate_rotations(
    residual: Float[Tensor, "b n2"],
    jacobian: Float[Tensor, "b n2 3"],
    last: Float[Tensor, "b 3"],
    priors: ParticlePriors,
    *,
    shared: Float[Tensor, "b 3 3"],
) -> RotationEstimate:
    """Take half a Gauss–Newton step towards the rotation that fits best.

    Args:
        residual: Image less prediction, in units of the noise, real and imaginary parts.
        jacobian: Derivative of the prediction by a further rotation, per radian.
        last: Rotation vectors so far.
        priors: Their width, about the given rotation.
        shared: Information about the rotation that latent and contrast take away.
    """
    # The likelihood is exp(−½ uᵀHu + bᵀu) of the rotation vector u after the given rotation.
    information, axes = torch.linalg.eigh(2 * jacobian.mT @ jacobian - shared)
    information = torch.maximum(information, LEAST_INFORMATION * information[:, 2:].clamp(min=0))
    along = (axes.mT @ last[..., None])[..., 0]
    slope = 2 * (axes.mT @ (jacobian.mT @ residual[..., None]))[..., 0]
    vector = information * along + slope
    moved = vector / (information + 1 / priors.rotation_sd**2)
    step = ROTATION_STEP * (axes @ (moved - along)[..., None])[..., 0]
    length = step.norm(dim=1, keepdim=True).clamp(min=1e-9)
    step = step * (LARGEST_ROTATION / length).clamp(max=1)
    variances = residual.new_tensor(ROTATION_SDS).square()[:, None]  # (trials 1)
    ratio = 1 + variances * information[:, None]
    terms = variances * vector.square()[:, None] / ratio - ratio.log()
    return RotationEstimate(composed(step, last), 0.5 * terms.sum(-1))
