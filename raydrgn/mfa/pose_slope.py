"""Poses and latent, which are independent by the model, by the sums of a pass.

To an image, a part that moves looks much as a shift or a small rotation of the whole does, so that
refined poses take up some of the motion. What they have of a linear dependence on the latent,

    t = f R_xy (T z),   ω = R (W z)

with shifts t and rotation vectors ω in the frame of an image of rotation R, whose pixels are 1/f
times as large as those of the volume, is given to the components instead:
V_k − (T_k + W_k × r)·∇V₀, which leaves the images' predictions as they are, to first order.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.mfa.particles import ParticleEstimates, composed, turns
from raydrgn.mfa.sums import Sums
from raydrgn.shapes import Float, Int

LEAST_SEEN = 0.1
"""Of a direction of the volume, whose square images show in their plane: 2/3 if views are even."""


class PoseSlope(NamedTuple):
    """What shifts and rotations have of a linear dependence on the latent."""

    mean: Float[Tensor, " k"]
    """Of the latents."""

    shift: Float[Tensor, "3 k"]
    """T: of the particle, pixels per unit of the latent, in the frame of the volume (x, y, z)."""

    rotation: Float[Tensor, "3 k"]
    """W: its rotation vector, radians, likewise."""


def add_poses(
    sums: Sums,
    rotations: Float[Tensor, "b 3 3"],
    estimates: ParticleEstimates,
    latents: Float[Tensor, "b k"],
    kept: Float[Tensor, " b"],
) -> None:
    """Add the products of poses and latents of a batch to the sums.

    Args:
        sums: To add to.
        rotations: Given ones, f R.
        estimates: Of the same pass as the latents.
        latents: Of the images as those of particles.
        kept: How likely each is one.
    """
    in_plane = rotations[:, :2].double()
    shift = in_plane.mT @ estimates.shifts_px.double()[..., None]
    rotation = turns(rotations.double()).mT @ estimates.rotations.double()[..., None]
    weighted = kept.double()[:, None] * torch.cat([shift, rotation], dim=1)[..., 0]
    moments = torch.cat([torch.ones_like(latents[:, :1]), latents], dim=1).double()
    sums.pose_latent += weighted.T @ moments
    sums.in_plane += (kept.double()[:, None, None] * (in_plane.mT @ in_plane)).sum(0)


def pose_slope(sums: Sums) -> PoseSlope:
    """Return the slopes of a pass, by the covariances of poses and latents."""
    mean = sums.latent / sums.total("likely")
    covariance = (sums.pose_latent[:, 1:] - torch.outer(sums.pose_latent[:, 0], mean)).cpu()
    by_latent = covariance @ sums.inverse_covariance().cpu()
    values, vectors = torch.linalg.eigh(sums.in_plane.cpu())
    seen = values.clamp(min=LEAST_SEEN * sums.total("likely"))
    shift = (vectors / seen) @ vectors.T @ by_latent[:3]
    rotation = by_latent[3:] / sums.total("likely")
    return PoseSlope(mean.cpu().float(), shift.float(), rotation.float())


def remove_slope(
    estimates: ParticleEstimates,
    slope: PoseSlope,
    rows: Int[Tensor, " n"],
    *,
    rotations: Float[Tensor, "n 3 3"],
    latents: Float[Tensor, "n k"],
) -> None:
    """Take from the poses of some particles what depends on their latents.

    Args:
        estimates: To change.
        slope: Of the pass over them.
        rows: Of the particles.
        rotations: Given ones, f R.
        latents: Of the same pass.
    """
    mean, shift, rotation = (part.to(latents.device) for part in slope)
    off = latents - mean
    estimates.shifts_px[rows] -= (rotations[:, :2] @ (off @ shift.T)[..., None])[..., 0]
    if bool(rotation.any()):
        back = -(turns(rotations) @ (off @ rotation.T)[..., None])[..., 0]
        estimates.rotations[rows] = composed(back, estimates.rotations[rows])


def give_slope(
    volumes: Float[Tensor, "k1 d d d"], slope: PoseSlope, support: Float[Tensor, "d d d"]
) -> None:
    """Give the components what poses no longer have.

    Args:
        volumes: The mean and the components, which are changed.
        slope: Of the poses.
        support: Mask.
    """
    _, shift, rotation = (part.to(volumes.device) for part in slope)
    box = volumes.shape[-1]
    transform = torch.fft.rfftn(volumes[0])
    frequency = torch.fft.fftfreq(box, device=volumes.device)
    frequency[box // 2] = 0  # of which a real volume has no slope
    ticks = torch.arange(box, device=volumes.device) - box // 2
    along = [_along(ticks, axis) for axis in range(3)]
    for axis in range(3):
        ramp = _along(frequency, axis)[..., : box // 2 + 1]
        gradient = torch.fft.irfftn(2j * math.pi * ramp * transform, s=(box, box, box))
        gradient *= support
        second, third = (axis + 1) % 3, (axis + 2) % 3
        for number, volume in enumerate(volumes[1:]):
            turned = rotation[second, number] * along[third]
            turned = turned - rotation[third, number] * along[second]
            volume -= (shift[axis, number] + turned) * gradient


def _along(values: Float[Tensor, " d"] | Int[Tensor, " d"], axis: int) -> Tensor:
    """Return values along an axis (0 is x) of a volume, whose last dimension is x."""
    shape = [1, 1, 1]
    shape[2 - axis] = len(values)
    return values.view(shape)
