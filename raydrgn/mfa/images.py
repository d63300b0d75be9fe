"""Images as the fit takes them: centred, in units of the noise, at some Fourier points."""

from dataclasses import dataclass

import torch
from torch import Tensor

from raydrgn.ctf import contrast_transfer
from raydrgn.data.batch import ParticleBatch
from raydrgn.geometry.lattice import half_disc
from raydrgn.mfa.interpolation import gather, gather_tangents, insert
from raydrgn.mfa.particles import ParticleEstimates, rotation_matrices
from raydrgn.mfa.poses import shifted_back
from raydrgn.mfa.slice_grid import PADDING, SliceGrid
from raydrgn.shapes import Float, Int


@dataclass(frozen=True, slots=True)
class FourierPoints:
    """Points of images, those of low frequency first."""

    box: int
    points: Float[Tensor, "n 2"]
    """(kx, ky) in cycles per box."""

    index: Int[Tensor, " n"]
    """Of each point in the half disc."""

    shell: Int[Tensor, " n"]

    @property
    def radius(self) -> float:
        """Of the point farthest from the origin, cycles per box."""
        return float(self.points[-1].norm())

    @classmethod
    def within(cls, box: int, radius: float, *, device: torch.device) -> "FourierPoints":
        """Return the points nearer to the origin than a radius in cycles per box."""
        lattice = half_disc(box).to(device)
        distance = lattice.float().norm(dim=1)
        order = torch.argsort(distance, stable=True)
        kept = order[distance[order] < min(radius, box / 2)]
        points = lattice[kept].float()
        return cls(box, points, kept, distance[kept].round().long().clamp(max=box // 2))


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images at points, with the geometry of their slices."""

    at: FourierPoints
    values: Float[Tensor, "b n 2"]
    """Coefficients over the noise's SD, of particles at the origin."""

    factors: Float[Tensor, "b n"]
    """Contrast transfer over the noise's SD."""

    rotations: Float[Tensor, "b 3 3"]
    optics_group: Int[Tensor, " b"]

    @classmethod
    def of(
        cls,
        batch: ParticleBatch,
        estimates: ParticleEstimates,
        at: FourierPoints,
        noise: Float[Tensor, "groups shells"],
    ) -> "ImageSet":
        """Make the images of a batch, with what is estimated of their poses.

        Args:
            batch: Particles.
            estimates: What is estimated of them.
            at: Points to take.
            noise: Variance by optics group and shell.
        """
        assert batch.optics_group is not None
        over_sd = noise.rsqrt()[batch.optics_group][:, at.shell]
        values = batch.coefficients[:, at.index] * over_sd[..., None]
        if bool(estimates.shifts_px.any()):
            values = shifted_back(values, at.points, estimates.shifts_px, at.box)
        rotations = batch.rotations
        if bool(estimates.rotations.any()):
            rotations = rotation_matrices(estimates.rotations) @ rotations
        return cls(at, values, ctf_at(batch, at) * over_sd, rotations, batch.optics_group)

    def slices(
        self, grid: SliceGrid, out: Float[Tensor, "b n2 k"] | None = None
    ) -> Float[Tensor, "b n2 k"]:
        """Return the slices of the volumes of a grid, times the factors.

        Args:
            grid: Of ``VolumeGrids``, as far as the points.
            out: From the slabs before, if the grid is a slab.
        """
        pairs = None if out is None else out.view(*self.factors.shape, -1)
        pairs = gather(grid, self.rotations, self.at.points * PADDING, self.factors, pairs)
        return pairs.view(len(pairs), -1, pairs.shape[2] // 2)

    def tangents(
        self,
        moments: Float[Tensor, "b k"],
        grid: SliceGrid,
        out: Float[Tensor, "b n2 3"] | None = None,
    ) -> Float[Tensor, "b n2 3"]:
        """Return the derivatives by a rotation of each image's frame, of slices of a sum.

        Args:
            moments: By which the volumes are added up.
            grid: As in ``slices``.
            out: Likewise.
        """
        pairs = None if out is None else out.view(*self.factors.shape, 2, 3)
        fine = self.at.points * PADDING
        pairs = gather_tangents(grid, self.rotations, fine, self.factors, moments, pairs)
        return pairs.flatten(1, 2)

    def insert(
        self,
        grid: Float[Tensor, "z y x f"],
        values: Float[Tensor, "b n2 k"],
        rotations: Float[Tensor, "b 3 3"] | None = None,
    ) -> None:
        """Add values at the points of the images, times the factors, to an unpadded grid."""
        pose = self.rotations if rotations is None else rotations
        pairs = values.reshape(len(values), len(self.at.points), -1)
        insert(grid, pose, self.at.points, self.factors, pairs, limit=self.at.box / 2)


def ctf_at(batch: ParticleBatch, at: FourierPoints) -> Float[Tensor, "b n"]:
    """Return the contrast transfer of a batch at points; 1 where optics are not known."""
    if batch.ctf is None:
        return torch.ones(len(batch), len(at.points), device=at.points.device)
    freqs = at.points / at.box / batch.pixel_size_angstrom[:, None, None]
    return contrast_transfer(freqs, batch.ctf)
