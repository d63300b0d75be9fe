"""Rotations and shifts of images that are tried one by one, by the mean alone."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints, ImageSet
from raydrgn.mfa.interpolation import gather
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticleEstimates, composed, rotation_matrices
from raydrgn.mfa.slice_grid import PADDING
from raydrgn.shapes import Float

JUNK_SHARE = 0.1
"""Share of images that are taken to show no particle, so that where those happen to fit the mean
does not count as errors of poses."""


class PoseWidths(NamedTuple):
    """SDs of the errors of given poses; None where they are too small to be searched for."""

    rotation: float | None
    """Of each component of the rotation vector, radians."""

    shift_px: float | None
    """Of each coordinate."""


class FoundPoses(NamedTuple):
    """Poses of images, in expectation over the trials."""

    estimates: ParticleEstimates

    square: Float[Tensor, "b 2"]
    """Expected squares of the rotation (radians²) and of the shift (pixels²) from the given pose,
    of one coordinate."""

    shows_particle: Float[Tensor, " b"]
    """Probability that the image shows one."""


class PoseTrials:
    """Trial rotations and shifts about the last estimates of particles."""

    def __init__(
        self,
        model: FactorModel,
        grids: VolumeGrids,
        at: FourierPoints,
        *,
        rotations: Float[Tensor, "t 3"] | None = None,
        shifts_px: Float[Tensor, "s 2"] | None = None,
    ) -> None:
        """Prepare the slices of a mean and the phases of shifts.

        Args:
            model: With the mean, and noise as it is with the last estimates.
            grids: Of its box.
            at: Points of the images to take.
            rotations: Rotation vectors to try after the last estimate; None leaves it.
            shifts_px: Shifts to try beyond the last estimate; None leaves it.
        """
        self._model = model
        self._at = at
        self._grid = grids.for_slices(model.volumes[:1], radius=at.radius)
        none = model.volumes.new_zeros(1, 3)
        self._rotations = none if rotations is None else rotations
        self._shifts = none[:, :2] if shifts_px is None else shifts_px
        angle = 2 * math.pi / at.box * at.points @ self._shifts.T
        self._phases = torch.cat([torch.cos(angle), -torch.sin(angle)])  # (2n s)

    @property
    def num_rotations(self) -> int:
        """Slices that are taken of each image."""
        return len(self._rotations)

    def likelihoods(
        self, batch: ParticleBatch, estimates: ParticleEstimates
    ) -> Float[Tensor, "b t s"]:
        """Return the logarithm of each image's probability over that of noise, by each trial."""
        images = ImageSet.of(batch, estimates, self._at, self._model.noise)
        tried = rotation_matrices(self._rotations) @ images.rotations[:, None]  # (b t 3 3)
        slices = gather(
            self._grid,
            tried.flatten(0, 1),
            self._at.points * PADDING,
            images.factors.repeat_interleave(self.num_rotations, dim=0),
        ).view(len(batch), self.num_rotations, -1, 2)
        image = torch.view_as_complex(images.values.contiguous())
        cross = torch.view_as_complex(slices).conj() * image[:, None]
        products = torch.cat([cross.real, cross.imag], dim=-1) @ self._phases
        return 2 * products - slices.square().sum((2, 3))[..., None]

    def estimate(
        self, batch: ParticleBatch, estimates: ParticleEstimates, widths: PoseWidths
    ) -> FoundPoses:
        """Return the expected poses of a batch.

        Args:
            batch: Particles.
            estimates: Of them, about which the trials are.
            widths: Of the priors about the given poses; None leaves a uniform one.
        """
        last = estimates.rotations.repeat_interleave(self.num_rotations, dim=0)
        turned = composed(self._rotations.repeat(len(batch), 1), last)
        rotation = turned.square().sum(1).view(len(batch), -1)
        shift = (estimates.shifts_px[:, None] + self._shifts).square().sum(2)
        prior = torch.zeros_like(rotation[:, :, None] * shift[:, None])
        if widths.rotation is not None:
            prior = prior - 0.5 * (rotation / widths.rotation**2)[:, :, None]
        if widths.shift_px is not None:
            prior = prior - 0.5 * (shift / widths.shift_px**2)[:, None]
        logs = (self.likelihoods(batch, estimates) + prior).flatten(1)
        evidence = torch.logsumexp(logs, dim=1) - torch.logsumexp(prior.flatten(1), dim=1)
        q = torch.softmax(logs, dim=1).view_as(prior)
        of_rotation, of_shift = q.sum(2), q.sum(1)
        found = replace(
            estimates,
            rotations=composed(of_rotation @ self._rotations, estimates.rotations),
            shifts_px=estimates.shifts_px + of_shift @ self._shifts,
        )
        squares = (of_rotation * rotation).sum(1) / 3, (of_shift * shift).sum(1) / 2
        odds = evidence.double() + math.log(1 / JUNK_SHARE - 1)
        return FoundPoses(found, torch.stack(squares, dim=1), torch.sigmoid(odds).float())


def with_junk(evidence: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return the logarithm of images' probability over that of noise, if some show no particle.

    Args:
        evidence: The same if each showed one.
    """
    none = torch.full_like(evidence, math.log(JUNK_SHARE))
    return torch.logaddexp(evidence + math.log(1 - JUNK_SHARE), none)


def trials_within(
    reach: float, step: float, *, dim: int, device: torch.device
) -> Float[Tensor, "t d"]:
    """Return the points of a grid about the origin that are no farther from it than a reach."""
    count = math.floor(reach / step + 1e-6)
    ticks = step * torch.arange(-count, count + 1, device=device)
    points = torch.stack(torch.meshgrid(*[ticks] * dim, indexing="ij"), dim=-1).view(-1, dim)
    return points[points.norm(dim=1) < reach + 1e-3 * step]
