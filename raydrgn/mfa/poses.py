"""Shifts and small rotations of particles, from the difference of image and predicted slice."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.mfa.particles import ParticlePriors, composed
from raydrgn.shapes import Float

SHIFT_REACH_PX = 1.5
SHIFT_STEP_PX = 0.25

LARGEST_ROTATION = math.radians(5)
"""Largest change in one pass."""


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

    def __init__(self, points: Float[Tensor, "n 2"], box: int) -> None:
        """Take the points (kx, ky) of slices, in cycles per box."""
        reach = round(SHIFT_REACH_PX / SHIFT_STEP_PX)
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
    """Rotations of images after one Gauss–Newton step."""

    rotations: Float[Tensor, "b 3"]
    """Rotation vectors after the given rotation, radians."""

    variance: Float[Tensor, " b"]
    """Of the three components together, radians²."""


def estimate_rotations(
    residual: Float[Tensor, "b n2"],
    jacobian: Float[Tensor, "b n2 3"],
    last: Float[Tensor, "b 3"],
    priors: ParticlePriors,
) -> RotationEstimate:
    """Take one Gauss–Newton step towards the rotation that fits best.

    Args:
        residual: Image less prediction, in units of the noise, real and imaginary parts.
        jacobian: Derivative of the prediction by a further rotation, per radian.
        last: Rotation vectors so far.
        priors: Their width, about the given rotation.
    """
    weight = 1 / priors.rotation_sd**2
    normal = 2 * jacobian.mT @ jacobian + weight * torch.eye(3, device=residual.device)
    gradient = 2 * (jacobian.mT @ residual[..., None])[..., 0] - weight * last
    covariance = torch.linalg.inv(normal)
    step = (covariance @ gradient[..., None])[..., 0]
    length = step.norm(dim=1, keepdim=True).clamp(min=1e-9)
    step = step * (LARGEST_ROTATION / length).clamp(max=1)
    return RotationEstimate(composed(step, last), covariance.diagonal(dim1=1, dim2=2).sum(1))
