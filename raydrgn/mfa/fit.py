"""The course of a fit on one worker's particles: which passes there are, and what each does.

Epoch 1 is the mean, random latents, and passes at low frequency of several updates
each; epoch 2 is passes over all Fourier points; every further epoch fits the mixture prior to the
latents and makes one update. What workers exchange goes through a ``Group``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.mfa import mixture as mixtures
from raydrgn.mfa.config import MfaConfig
from raydrgn.mfa.contrast import contrast_mean
from raydrgn.mfa.expectation import ParticlePass
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.left_out import HalfMeans, OrientationGain
from raydrgn.mfa.likelihood import Expected, add_likelihood, likelihood_terms
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import Estimated, ParticleEstimates
from raydrgn.mfa.pose_slope import pose_slope, remove_slope
from raydrgn.mfa.search import PoseSearch, pose_widths
from raydrgn.mfa.slice_grid import SliceGridFile
from raydrgn.mfa.start import (
    MEAN_PASSES,
    ctf_weights,
    first_estimates,
    first_model,
    mean_rows,
    mean_sums,
)
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.support import read_support, share_outside, support_of_mean
from raydrgn.mfa.trials import PoseWidths
from raydrgn.mfa.update import Updater, require_particles
from raydrgn.mfa.workers import PASS, SAMPLE, WorkerParticles
from raydrgn.shapes import Float, Int

T = TypeVar("T")

LOW_UPDATES, FULL_PASSES, FULL_UPDATES = 4, 2, 2
FIRST_MIXTURE_EPOCH = 3

MIXTURE_PARTICLES = 20_000
"""Particles that the mixture is fitted to, at most."""

FIRST_ITERATIONS, ITERATIONS = 30, 6

UNCERTAINTY_WEIGHT = 0.7
"""Of the components' posterior variance once the prior is a mixture; 1 before."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Likelihoods of the latents of some particles, of all workers."""

    precision: Float[Tensor, "n k k"]
    vector: Float[Tensor, "n k"]
    latents: Float[Tensor, "n k"]


class Fit:
    """A model and the estimates of one worker's particles, taken from pass to pass."""

    def __init__(
        self,
        config: MfaConfig,
        particles: WorkerParticles,
        *,
        box: int,
        grid_file: SliceGridFile | None = None,
    ) -> None:
        """Take the particles of a worker, whose images are of a box.

        Args:
            config: Settings.
            particles: Of the worker.
            box: Of the images.
            grid_file: For the grid of slices, if memory has no room for it.
        """
        device = particles.device
        self._config = config
        self._particles = particles
        self._group = particles.group
        self._device = device
        self._grids = VolumeGrids(box, device=device, grid_file=grid_file)
        self._all_points = FourierPoints.within(box, box, device=device)
        self._sample: Sample | None = None
        self.share_outside = 0.0
        """Share of the mean's density that is outside of a given mask."""
        self.gain_of_orientations = OrientationGain(math.inf, math.inf)
        """What given orientations explain of the images, or what a search has made of them."""

        self.gain_before_search: OrientationGain | None = None
        """The same before a search of poses, where there was one."""

        self.pose_widths = PoseWidths(None, None)
        """Of the errors of given poses, where they were so wide that poses were searched."""

        self.estimates = ParticleEstimates.given(len(particles), device=device)
        self.model = self._shared(first_model(config, particles, self._grids, self._all_points))
        weights = ctf_weights(particles, self._grids, self._all_points)
        shares = particles.optics_shares
        self._updater = Updater(self._grids, weights, shares, particles.num_particles)

    def begin(self) -> None:
        """Make the mean, the mask, contrasts and junk, and first components from random latents.

        Raises:
            InputError: If the mask cannot be used.
        """
        parts = (self._particles, self.estimates, self._grids, self._all_points)
        for number in range(MEAN_PASSES):
            rows = mean_rows(self._particles, number + 1)
            sums = mean_sums(self.model, *parts, rows=rows)
            self._update(sums, partial(self._updater.mean, estimate_noise=number > 0))
        self._search_poses()
        if self._group.is_first:
            self.model = self._masked(self.model)
        self._share_model()
        halves = self._half_means()
        contrast, null_class = self._config.contrast, self._config.null_class
        if contrast or null_class:
            self.model = first_estimates(
                self.model,
                self._particles,
                self.estimates,
                halves.products(self.estimates),
                contrast=contrast,
                null_class=null_class,
            )
        self.gain_of_orientations = halves.gain_of_orientations(self.estimates)
        at = self._low_points
        worker_pass = self._pass(at, Estimated(), variance_weight=1.0)
        sums = worker_pass.empty_sums(self._grids)
        latents = self._particles.random_latents(self.model.num_components)
        worker_pass.start(self._batches(None, at), self.estimates, latents, sums)
        self._update(sums, partial(self._updater.started, radius=self._low))

    def _search_poses(self) -> None:
        """Search for rotations and shifts where those given are too far off for single steps."""
        config, parts = self._config, (self._particles, self.estimates, self._grids)
        if not config.rotations and not config.shifts:
            return
        found = pose_widths(self.model, *parts)
        widths = PoseWidths(
            found.rotation if config.rotations else None,
            found.shift_px if config.shifts else None,
        )
        if widths == PoseWidths(None, None):
            return
        self.gain_before_search = self._half_means().gain_of_orientations(self.estimates)
        search = PoseSearch(*parts, new_mean=self._new_mean)
        self.pose_widths = widths = search.run(self.model, widths, rotations=config.rotations)
        priors = self.model.priors
        if widths.rotation is not None:
            priors = replace(priors, rotation_sd=widths.rotation)
        if widths.shift_px is not None:
            priors = replace(priors, shift_sd_px=widths.shift_px)
        self.model = replace(self.model, priors=priors)

    def _half_means(self) -> HalfMeans:
        parts = (self._particles, self.estimates, self._grids, self._all_points)
        return HalfMeans(self.model, *parts, updater=self._updater.of_half())

    def _new_mean(self, sums: Sums) -> FactorModel:
        self._update(sums, partial(self._updater.mean, estimate_noise=True))
        return self.model

    def _masked(self, model: FactorModel) -> FactorModel:
        """Return the model within its mask, and note how much of the mean lies outside."""
        mask = self._config.mask
        if mask == "none":
            return model
        mean = model.volumes[0]
        if mask == "auto":
            support = support_of_mean(mean)
        else:
            support = read_support(mask, box=self._grids.box, device=self._device)
            self.share_outside = share_outside(mean, support)
        return replace(model, support=support, volumes=model.volumes * support)

    def low_pass(self, number: int) -> None:
        """Make a pass at low frequency; the first is 1."""
        estimated = Estimated(
            contrast=self._config.contrast,
            null_class=self._tells_junk,
            shifts=self._config.shifts,
        )
        self._run_pass(
            (1, number), self._low_points, estimated, updates=LOW_UPDATES, radius=self._low
        )

    def full_pass(self, number: int) -> None:
        """Make a pass over all Fourier points, with a standard normal prior."""
        self._run_pass((2, number), self._all_points, self._estimated, updates=FULL_UPDATES)

    def mixture_pass(self, epoch: int) -> None:
        """Fit the mixture prior, and make one pass with it."""
        if self._sample is None:
            self.expect()
        sample, self._sample = self._sample, None
        is_first = epoch == FIRST_MIXTURE_EPOCH
        if self._group.is_first and sample is not None:
            require_particles(len(sample.latents))
            before = self.model.mixture
            if is_first:
                seed = (self._particles.seed, SAMPLE, 1)
                before = mixtures.first(sample.latents, self._config.states, seed=seed)
            fitted = mixtures.fit(
                sample.precision,
                sample.vector,
                before,
                iterations=FIRST_ITERATIONS if is_first else ITERATIONS,
            )
            self.model = replace(self.model, mixture=fitted)
            if not is_first:
                self.model = self._updater.with_relevance(self.model)
        self._share_model()
        self._run_pass(
            (epoch, 1), self._all_points, self._estimated, updates=1, is_mixture=True,
            estimates_prior=not is_first,
        )  # fmt: skip

    def expect(self) -> Expected:
        """Return the latents with the present model; nothing of it is changed.

        Raises:
            InputError: If all images have become junk.
        """
        dim = self.model.num_components
        weight = 1.0 if self.model.mixture.is_standard_normal else UNCERTAINTY_WEIGHT
        worker_pass = self._pass(self._all_points, self._estimated, variance_weight=weight)
        sums = worker_pass.empty_sums(self._grids)
        count = len(self._particles)
        latents, logvar = np.empty((count, dim), np.float32), np.empty((count, dim), np.float32)
        scale = self.model.latent_scale()
        sampled = torch.from_numpy(self._particles.chosen(SAMPLE, 0, count=MIXTURE_PARTICLES))
        kept: list[tuple[np.ndarray, ...]] = []
        batches = self._batches(None, self._all_points)
        for rows, found, products in worker_pass.expect(batches, self.estimates):
            add_likelihood(sums, found, products)
            where = rows.numpy()
            latent, variance = found.moments()
            latents[where] = (latent * scale).cpu().numpy()
            logvar[where] = (variance.log() + 2 * scale.clamp(min=1e-6).log()).cpu().numpy()
            chosen = sampled[rows] & (found.null_probability < 0.5).cpu()
            values = (found.precision, found.vector, found.latent)
            kept.append(tuple(value.cpu()[chosen].numpy() for value in values))
        self._sample = self._gathered(kept, dim)
        self._group.add_up([sums.scalars])
        points, shares = self._all_points, self._particles.optics_shares
        is_first = self._group.is_first
        terms = likelihood_terms(sums, self.model, points, shares) if is_first else (0.0, 0.0, 0.0)
        return Expected(latents, logvar, *self._group.from_first(terms))

    def load(self, model: FactorModel, estimates: ParticleEstimates) -> None:
        """Go on from a model and the estimates of this worker's particles."""
        model = model.of_groups(len(self._particles.optics_shares))
        self.model, self.estimates, self._sample = model, estimates, None

    @property
    def cut_off(self) -> float:
        """Mobile density outside of the mask over that inside, on the first worker."""
        return self._updater.cut_off(self.model)

    @property
    def _low(self) -> float:
        """Radius of the passes at low frequency, cycles per box."""
        return self._grids.box / 4

    @property
    def _low_points(self) -> FourierPoints:
        return FourierPoints.within(self._grids.box, self._low, device=self._device)

    @property
    def _tells_junk(self) -> bool:
        """Whether images without a particle are looked for, and can be distinguished."""
        return self._config.null_class and self.model.priors.null_share > 0

    @property
    def _estimated(self) -> Estimated:
        config = self._config
        rotations = config.rotations and self.model.priors.rotation_sd > 0
        return Estimated(
            contrast=config.contrast,
            null_class=self._tells_junk,
            shifts=config.shifts,
            rotations=rotations,
            pose_slope=config.shifts or rotations,
        )

    def _run_pass(
        self,
        place: tuple[int, int],
        at: FourierPoints,
        estimated: Estimated,
        *,
        updates: int,
        radius: float | None = None,
        is_mixture: bool = False,
        estimates_prior: bool = False,
    ) -> None:
        """Make a pass of several updates, each of another part of the particles."""
        rank = self._particles.ranks(PASS, *place)
        weight = UNCERTAINTY_WEIGHT if is_mixture else 1.0
        for part in range(min(updates, self._particles.num_particles)):
            rows = torch.from_numpy(np.flatnonzero(rank % updates == part))
            sums, latents = self._accumulated(rows, at, estimated, variance_weight=weight)
            update = partial(
                self._updater.updated,
                radius=radius,
                estimated=estimated,
                is_mixture=is_mixture,
                estimates_prior=estimates_prior,
            )
            self._update(sums, update)
            if estimated.contrast:
                self.estimates.contrast /= self._of_all(contrast_mean, sums)
            if estimated.pose_slope:
                slope = self._of_all(pose_slope, sums)
                turns = self._particles.rotations(rows)
                remove_slope(self.estimates, slope, rows, rotations=turns, latents=latents[rows])
            if estimated.rotations and self.model.priors.rotation_sd == 0:
                self.estimates.rotations.zero_()
            del sums  # before the next grid of slices, which is larger than all else

    def _of_all(self, value_of: Callable[[Sums], T], sums: Sums) -> T:
        """Return a value of the sums over all workers, which only the first one has."""
        mine: Any = value_of(sums) if self._group.is_first else None
        value: T = self._group.from_first(mine)
        return value

    def _accumulated(
        self,
        rows: Int[Tensor, " n"],
        at: FourierPoints,
        estimated: Estimated,
        *,
        variance_weight: float,
    ) -> tuple[Sums, Float[Tensor, "_ k"]]:
        """Return the sums over some particles, and estimate them anew, with all latents."""
        worker_pass = self._pass(at, estimated, variance_weight=variance_weight)
        sums = worker_pass.empty_sums(self._grids)
        dim = self.model.num_components
        latents = torch.zeros(len(self._particles), dim, device=self._device)
        worker_pass.accumulate(self._batches(rows, at), self.estimates, latents, sums)
        return sums, latents

    def _pass(
        self, at: FourierPoints, estimated: Estimated, *, variance_weight: float
    ) -> ParticlePass:
        variance = self._updater.component_variance(self.model, variance_weight)
        return ParticlePass(
            self.model, self._grids, at, component_variance=variance, estimated=estimated
        )

    def _update(self, sums: Sums, update: Callable[[FactorModel, Sums], FactorModel]) -> None:
        """Add up the sums of all workers, and take the first one's update."""
        self._group.add_up(sums.tensors())
        if self._group.is_first:
            self.model = update(self.model, sums)
        self._share_model()

    def _share_model(self) -> None:
        self.model = self._shared(self.model)

    def _shared(self, model: FactorModel) -> FactorModel:
        if self._group.size == 1:
            return model  # which tensors would copy from a GPU
        is_first = self._group.is_first
        tensors: dict[str, Any] = self._group.from_first(model.to_tensors() if is_first else {})
        if is_first:
            return model
        return FactorModel.from_tensors(tensors, box=self._grids.box, device=self._device)

    def _batches(
        self, rows: Int[Tensor, " n"] | None, at: FourierPoints
    ) -> Iterator[tuple[Int[Tensor, " b"], ParticleBatch]]:
        """Yield batches of some particles, or of all, as slices of all volumes allow."""
        count = self._config.components + 1
        if rows is None:
            return self._particles.all_batches(at, num_volumes=count)
        return self._particles.batches(rows, at, num_volumes=count)

    def _gathered(self, kept: list[tuple[np.ndarray, ...]], dim: int) -> Sample:
        """Return the sample of all workers, in the order of the table."""
        empty = (np.empty((0, dim, dim)), np.empty((0, dim)), np.empty((0, dim)))
        mine = [np.concatenate(parts) for parts in zip(empty, *kept, strict=True)]
        everyone = self._group.all_of(mine)
        parts = [np.concatenate(part) for part in zip(*everyone, strict=True)]
        return Sample(*(torch.from_numpy(p.astype(np.float32)).to(self._device) for p in parts))
