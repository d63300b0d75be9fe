"""One pass over particles: expectations of each, and the sums that an update is made of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.mfa.blocks import Rows, Work, worked
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints, ImageSet
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import Estimated, ParticleEstimates, rotation_matrices
from raydrgn.mfa.pose_slope import add_poses
from raydrgn.mfa.poses import RotationEstimate, ShiftGrid, estimate_rotations
from raydrgn.mfa.posterior import ImagePosterior, ImageProducts, image_posterior
from raydrgn.mfa.sums import Sums
from raydrgn.shapes import Float

T = TypeVar("T")

Batches = Iterable[tuple[Rows, ParticleBatch]]
"""Of a worker's particles."""


class ParticlePass:
    """Expectations with one model, at the Fourier points within a radius."""

    def __init__(
        self,
        model: FactorModel,
        grids: VolumeGrids,
        at: FourierPoints,
        *,
        component_variance: Float[Tensor, "k shells"],
        estimated: Estimated,
    ) -> None:
        """Prepare the grid of the model's volumes.

        Args:
            model: The model.
            grids: Of its box.
            at: Points of the images to take.
            component_variance: Posterior variance of the coefficients of each component.
            estimated: What is estimated.
        """
        self._model = model
        self._at = at
        self._grid = grids.for_passes(model.volumes, radius=at.radius)
        self._variance = component_variance[:, at.shell]  # (k n)
        self._estimated = estimated
        self._shifts = (
            ShiftGrid(at.points, at.box, sd_px=model.priors.shift_sd_px)
            if estimated.shifts
            else None
        )

    def empty_sums(self, grids: VolumeGrids) -> Sums:
        """Return the sums over nothing."""
        dim = self._model.num_components
        return Sums.zero(
            grids.empty_sums(dim + 1),
            num_components=dim,
            num_shells=grids.num_shells,
            num_groups=len(self._model.noise),
        )

    def expect(
        self, batches: Batches, estimates: ParticleEstimates
    ) -> Iterator[tuple[Rows, ImagePosterior, ImageProducts]]:
        """Yield the expectations of batches; nothing is summed or changed."""

        def work(rows: Rows, batch: ParticleBatch) -> Work[tuple[ImagePosterior, ImageProducts]]:
            images = ImageSet.of(batch, estimates[rows], self._at, self._model.noise)
            slices = yield images.slices
            return self._expect(images, slices)

        for rows, (found, products) in self._worked(work, batches):
            yield rows, found, products

    def accumulate(
        self,
        batches: Batches,
        estimates: ParticleEstimates,
        latents: Float[Tensor, "n k"],
        sums: Sums,
    ) -> None:
        """Add batches to the sums, and set latents and what is now estimated of their particles."""

        def work(rows: Rows, batch: ParticleBatch) -> Work[tuple[ParticleEstimates, Tensor]]:
            return self._accumulate(batch, estimates[rows], sums)

        for rows, (found, latent) in self._worked(work, batches):
            estimates[rows], latents[rows] = found, latent

    def start(
        self,
        batches: Batches,
        estimates: ParticleEstimates,
        latents: Float[Tensor, "n k"],
        sums: Sums,
    ) -> None:
        """Add batches whose latents are given, to break the symmetry of the components."""

        def work(rows: Rows, batch: ParticleBatch) -> Work[None]:
            return self._start(batch, estimates[rows], latents[rows], sums)

        for _ in self._worked(work, batches):
            pass

    def _worked(
        self, work: Callable[[Rows, ParticleBatch], Work[T]], batches: Batches
    ) -> Iterator[tuple[Rows, T]]:
        return worked(self._grid, work, batches, num_points=len(self._at.points))

    def _expect(
        self, images: ImageSet, slices: Float[Tensor, "b n2 k1"]
    ) -> tuple[ImagePosterior, ImageProducts]:
        flat = images.values.flatten(1)
        # Of ice and carbon, whose coefficients have another variance: Σ |y|² (1 − 1/r) − log r,
        # with r the ratio of the variances.
        ratio = self._model.null_noise / self._model.noise
        ratio = ratio[images.optics_group][:, self._at.shell]  # (b n)
        power = images.values.square().sum(-1)
        products = ImageProducts(
            gram=2 * slices.mT @ slices,
            image=2 * (slices.mT @ flat[..., None])[..., 0],
            power=2 * power.sum(1),
            uncertainty=2 * images.factors.square() @ self._variance.T,
            null_evidence=(power * (1 - 1 / ratio)).sum(1) - ratio.log().sum(1),
        )
        found = image_posterior(
            products,
            self._model.mixture,
            self._model.priors,
            has_contrast=self._estimated.contrast,
            has_null_class=self._estimated.null_class,
        )
        return found, products

    def _accumulate(
        self, batch: ParticleBatch, estimates: ParticleEstimates, sums: Sums
    ) -> Work[tuple[ParticleEstimates, Tensor]]:
        images = ImageSet.of(batch, estimates, self._at, self._model.noise)
        slices = yield images.slices
        found, _ = self._expect(images, slices)
        predicted = (slices @ found.first[..., None])[..., 0]  # (b 2n)
        values, pose, changes = images.values, None, {}
        if self._shifts is not None:
            shift = self._shifts.estimate(
                values, predicted.view_as(values), estimates.shifts_px, self._model.priors
            )
            values = shift.image
            changes["shifts_px"] = estimates.shifts_px + shift.change
            square = changes["shifts_px"].square().sum(1) + shift.variance
            sums.add(square_shift=square)
        flat = values.flatten(1)
        if self._estimated.rotations:
            tangents = yield partial(images.tangents, found.first)
            turn = self._turn(tangents, slices, found, estimates, residual=flat - predicted)
            changes["rotations"] = turn.rotations
            sums.rotation_evidence += turn.evidence.double().sum(0)
            pose = rotation_matrices(turn.rotations) @ batch.rotations
        spread = slices @ found.second
        images.insert(sums.grid, flat[..., None] * found.first[:, None] - spread, pose)
        kept = 1 - found.null_probability
        # E|y|², which no shift changes: the expected image alone has less, the more of its noise at
        # high frequency the uncertainty of the shift averages out.
        given = images.values.flatten(1).square()
        error = kept[:, None] * given - 2 * flat * predicted + (spread * slices).sum(-1)
        square = error.view_as(values).sum(2)
        sums.add_residuals(square, self._at.shell, images.optics_group, kept)
        power = images.values.square().sum(-1)
        of_junk = (found.contaminant_probability @ power).double()
        sums.null_power.index_add_(0, self._at.shell, of_junk)
        sums.contaminants.index_add_(0, images.optics_group, found.contaminant_probability.double())
        _add_moments(found, sums)
        if self._estimated.contrast:
            changes["contrast"] = found.contrast
        estimates = replace(estimates, null_probability=found.null_probability, **changes)
        if self._estimated.pose_slope:
            add_poses(sums, batch.rotations, estimates, found.latent, kept)
        return estimates, found.latent

    def _turn(
        self,
        tangents: Float[Tensor, "b n2 3"],
        slices: Float[Tensor, "b n2 k1"],
        found: ImagePosterior,
        estimates: ParticleEstimates,
        *,
        residual: Float[Tensor, "b n2"],
    ) -> RotationEstimate:
        """Estimate the rotation of each particle from what its expected slice leaves."""
        cross = 2 * tangents.mT @ slices  # (b 3 k1)
        moments = found.second - found.first[:, :, None] * found.first[:, None, :]
        return estimate_rotations(
            residual,
            tangents,
            estimates.rotations,
            self._model.priors,
            shared=cross @ moments @ cross.mT,
        )

    def _start(
        self,
        batch: ParticleBatch,
        estimates: ParticleEstimates,
        latents: Float[Tensor, "b k"],
        sums: Sums,
    ) -> Work[None]:
        images = ImageSet.of(batch, estimates, self._at, self._model.noise)
        slices = yield images.slices
        ones = torch.ones_like(latents[:, :1])
        first = estimates.contrast[:, None] * torch.cat([ones, latents], dim=1)
        predicted = (slices @ first[..., None])[..., 0]
        kept = 1 - estimates.null_probability
        residual = (kept[:, None] * (images.values.flatten(1) - predicted))[..., None]
        images.insert(sums.grid, residual * first[:, None])
        sums.add(particles=torch.ones_like(latents[:, 0]))


def _add_moments(found: ImagePosterior, sums: Sums) -> None:
    """Add the latents, contrasts and probabilities of a batch to the sums, in double precision."""
    kept = (1 - found.null_probability).double()
    latent = found.latent.double()
    of_means = (kept[:, None] * latent).T @ latent
    sums.latent += kept @ latent
    sums.contrast_latent += found.first[:, 1:].double().sum(0)
    sums.square_of_means += of_means
    sums.square += of_means + (kept[:, None, None] * found.covariance.double()).sum(0)
    sums.add(
        particles=torch.ones_like(kept),
        likely=kept,
        contrast=kept * found.contrast,
        square_contrast=kept * found.square_contrast,
        null=found.null_probability,
        log_evidence=kept * found.particle_evidence,
    )


class MeanPass:
    """Sums for the mean alone, and its products with images."""

    def __init__(self, model: FactorModel, grids: VolumeGrids, at: FourierPoints) -> None:
        self._model = model
        self._at = at
        self._grid = grids.for_slices(model.volumes[:1], radius=at.radius)

    def accumulate(self, batch: ParticleBatch, estimates: ParticleEstimates, sums: Sums) -> None:
        """Add a batch to the sums."""
        images = ImageSet.of(batch, estimates, self._at, self._model.noise)
        slices = images.slices(self._grid)
        residual = images.values.flatten(1)[..., None] - slices
        images.insert(sums.grid, residual)
        ones = torch.ones_like(estimates.contrast)
        square = residual.square().view_as(images.values).sum(2)
        sums.add_residuals(square, self._at.shell, images.optics_group, ones)
        sums.add(particles=ones, likely=ones)

    def gain_of_orientations(
        self, batch: ParticleBatch, estimates: ParticleEstimates
    ) -> Float[Tensor, "b 2"]:
        """Return what given orientations explain of images, nats.

        The second column is that beyond the orientations of other particles.
        """
        turned = replace(batch, rotations=batch.rotations.roll(1, 0))
        mine, others = (
            products[:, 1] - 0.5 * products[:, 0]
            for products in (self.products(one, estimates) for one in (batch, turned))
        )
        return torch.stack([mine, mine - others], dim=1)

    def products(self, batch: ParticleBatch, estimates: ParticleEstimates) -> Float[Tensor, "b 2"]:
        """Return the slice's product with itself, and with the image, of each particle."""
        images = ImageSet.of(batch, estimates, self._at, self._model.noise)
        slices = images.slices(self._grid)[..., 0]
        flat = images.values.flatten(1)
        return 2 * torch.stack([slices.square().sum(1), (slices * flat).sum(1)], dim=1)
