"""The course of a fit on one worker's particles: which passes there are, and what each does.

Epoch 1 is the mean, random latents, and ``LOW_PASSES`` passes at low frequency of several updates
each; epoch 2 is passes over all Fourier points; every further epoch fits the mixture prior to the
latents and makes one update. What workers tell each other goes through a ``Group``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.data.shard import ResidentShard
from raydrgn.mfa import mixture as mixtures
from raydrgn.mfa.config import LOW_PASSES, MASKS, MfaConfig
from raydrgn.mfa.expectation import MeanPass, ParticlePass
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints, ctf_at
from raydrgn.mfa.interpolation import insert
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import Estimated, ParticleEstimates, ParticlePriors
from raydrgn.mfa.posterior import ImagePosterior, ImageProducts
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.support import ball, read_support, support_of_mean
from raydrgn.mfa.update import COMPONENT_SHARE, LEAST_CONTRAST_SD, Updater, contrast_mean
from raydrgn.shapes import Bool, Float, Int

BATCH_BYTES = 32_000_000
"""Slices of a batch of particles, which are the most that a pass holds."""

MEAN_PASSES = 3
MEAN_PARTICLES = 3000
LOW_UPDATES, FULL_PASSES, FULL_UPDATES = 4, 2, 2
FIRST_MIXTURE_EPOCH = 3

MIXTURE_PARTICLES = 20_000
"""Particles that the mixture is fitted to, at most."""

FIRST_ITERATIONS, ITERATIONS = 30, 6
CONTRAST_ITERATIONS = 20
FIRST_COVARIANCE = 0.5

UNCERTAINTY_WEIGHT = 0.5
"""Of the components' posterior variance once the prior is a mixture; 1 before."""

LEAST_SHARE = 0.05
"""Of all particles, those that the mean is made from at least."""

T = TypeVar("T")

LATENT_BLOCK = 4096

_MEAN, _PASS, _SAMPLE, _LATENTS = 11, 12, 13, 14  # one stream of random numbers for each purpose


@runtime_checkable
class Group(Protocol):
    """The workers of a fit."""

    def add_up(self, tensors: list[Tensor]) -> None:
        """Add up tensors over all workers, in place, on the first worker at least."""
        ...

    def from_first(self, value: T) -> T:
        """Return what the first worker gives."""
        ...

    def all_of(self, value: T) -> list[T]:
        """Return what each worker gives, in their order."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """Latents of a worker's particles, and the terms of the likelihood over all workers'."""

    latents: Float[np.ndarray, "n k"]
    logvar: Float[np.ndarray, "n k"]
    negative_log_likelihood: float
    """Per Fourier point of an image, nats."""

    misfit: float
    """Squared residual over the noise's variance, per Fourier point; 1 is noise alone."""

    divergence: float
    """Kullback–Leibler divergence of latent and contrast from their priors, nats."""


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
        shard: ResidentShard,
        group: Group,
        *,
        box: int,
        num_particles: int,
        first_row: int,
        seed: int,
        device: torch.device,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        """Take the particles of a worker.

        Args:
            config: Of the mixture.
            shard: The worker's particles.
            group: All workers.
            box: Of the images.
            num_particles: Of all workers.
            first_row: Row of the shard's first particle in the table.
            seed: Of everything random.
            device: Where to compute.
            on_batch: Called with the number of particles after each batch of a pass.
        """
        self._config = config
        self._shard = shard
        self._group = group
        self._num_particles = num_particles
        self._first_row = first_row
        self._seed = seed
        self._device = device
        self._on_batch = on_batch or (lambda count: None)
        self._grids = VolumeGrids(box, device=device)
        self._all_points = FourierPoints.within(box, box, device=device)
        self._sample: Sample | None = None
        self.estimates = ParticleEstimates.given(len(shard), device=device)
        self.model = self._first_model(box)
        self._updater = Updater(self._grids, self._ctf_weights(), num_particles)

    def begin(self) -> None:
        """Make the mean, the mask, contrasts, and the first components from random latents.

        Raises:
            InputError: If the mask cannot be used.
        """
        if self._config.mask not in MASKS:
            support = read_support(self._config.mask, box=self._grids.box, device=self._device)
            self.model = self.model.with_changes(support=support)
        self._fit_mean()
        if self._config.contrast:
            self._fit_first_contrasts()
        at = self._low_points
        worker_pass = self._pass(at, Estimated(), variance_weight=1.0)
        sums = worker_pass.empty_sums(self._grids)
        latents = self._random_latents()
        for rows, batch in self._batches(torch.arange(len(self._shard)), at):
            worker_pass.start(batch, self.estimates[rows], latents[rows], sums)
        self._update(sums, partial(self._updater.started, radius=self._low))

    def low_pass(self, number: int) -> None:
        """Make a pass at low frequency; the first is 1."""
        estimated = Estimated(
            contrast=self._config.contrast,
            null_class=self._config.null_class and number > LOW_PASSES // 2,
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
            before = self._first_mixture(sample) if is_first else self.model.mixture
            fitted = mixtures.fit(
                sample.precision,
                sample.vector,
                before,
                iterations=FIRST_ITERATIONS if is_first else ITERATIONS,
            )
            self.model = self.model.with_changes(mixture=fitted)
            if not is_first:
                self.model = self._updater.with_relevance(
                    self.model, variance_weight=UNCERTAINTY_WEIGHT
                )
        self._share_model()
        self._run_pass(
            (epoch, 1), self._all_points, self._estimated, updates=1, is_mixture=True,
            is_relevance=not is_first,
        )  # fmt: skip

    def expect(self) -> Expected:
        """Return the latents with the present model; nothing of it is changed."""
        dim = self.model.num_components
        weight = 1.0 if len(self.model.mixture.weights) == 1 else UNCERTAINTY_WEIGHT
        worker_pass = self._pass(self._all_points, self._estimated, variance_weight=weight)
        sums = worker_pass.empty_sums(self._grids)
        count = len(self._shard)
        latents, logvar = np.empty((count, dim), np.float32), np.empty((count, dim), np.float32)
        scale = self.model.latent_scale()
        sampled = torch.from_numpy(self._sampled())
        kept: list[tuple[np.ndarray, ...]] = []
        for rows, batch in self._batches(torch.arange(count), self._all_points):
            found, products = worker_pass.expect(batch, self.estimates[rows])
            _add_likelihood(sums, found, products)
            where = rows.numpy()
            variance = found.covariance.diagonal(dim1=1, dim2=2).clamp(min=1e-12)
            latents[where] = (found.latent * scale).cpu().numpy()
            logvar[where] = (variance.log() + 2 * scale.clamp(min=1e-6).log()).cpu().numpy()
            chosen = sampled[rows] & (found.null_probability < 0.5).cpu()
            values = (found.precision, found.vector, found.latent)
            kept.append(tuple(value.cpu()[chosen].numpy() for value in values))
        self._sample = self._gathered(kept, dim)
        self._group.add_up([sums.scalars])
        return self._expected(sums, latents, logvar)

    def _expected(
        self, sums: Sums, latents: Float[np.ndarray, "n k"], logvar: Float[np.ndarray, "n k"]
    ) -> Expected:
        count = self._num_particles * len(self._all_points.points)
        noise = self.model.noise[self._all_points.shell]
        of_noise = float(torch.log(math.pi * noise).mean()) + sums.total("power") / count
        terms = (
            of_noise - sums.total("log_evidence") / count,
            sums.total("misfit") / sums.total("likely") / len(self._all_points.points),
            sums.total("divergence") / sums.total("likely"),
        )
        return Expected(latents, logvar, *self._group.from_first(terms))

    def load(self, model: FactorModel, estimates: ParticleEstimates) -> None:
        """Go on from a model and the estimates of this worker's particles."""
        self.model, self.estimates, self._sample = model, estimates, None

    @property
    def _low(self) -> float:
        """Radius of the passes at low frequency, cycles per box."""
        return self._grids.box / 4

    @property
    def _low_points(self) -> FourierPoints:
        return FourierPoints.within(self._grids.box, self._low, device=self._device)

    @property
    def _estimated(self) -> Estimated:
        config = self._config
        return Estimated(
            contrast=config.contrast,
            null_class=config.null_class,
            shifts=config.shifts,
            rotations=config.rotations,
        )

    def _first_model(self, box: int) -> FactorModel:
        """Return a model without density, whose noise is the power of the images."""
        shells, dim = self._grids.num_shells, self._config.components
        at, power = self._all_points, torch.zeros(shells, dtype=torch.float64, device=self._device)
        sampled = self._chosen(_MEAN, (0,), MEAN_PARTICLES)
        count = torch.tensor(float(sampled.sum()), dtype=torch.float64, device=self._device)
        for _, batch in self._batches(torch.from_numpy(np.flatnonzero(sampled)), at):
            square = batch.coefficients[:, at.index].square().sum((0, 2))
            power.index_add_(0, at.shell, square.double())
        self._group.add_up([power, count])
        points = torch.bincount(at.shell, minlength=shells).clamp(min=1)
        noise = (power / points / count.clamp(min=1)).float()
        noise[0] = noise[1]
        noise = torch.minimum(noise, 1.5 * noise[-4:].mean())
        mean_power = torch.full_like(noise, 1e3 * float(noise.mean()))
        model = FactorModel(
            torch.zeros(dim + 1, box, box, box, device=self._device),
            ball(box, device=self._device),
            noise,
            noise.clone(),
            mean_power,
            (COMPONENT_SHARE * mean_power).expand(dim, shells).clone(),
            Mixture.standard_normal(dim, device=self._device),
            ParticlePriors(),
        )
        return self._shared(model)

    def _ctf_weights(self) -> Float[Tensor, "z y x"]:
        at, grid = self._all_points, self._grids.empty_sums(1)
        for _, batch in self._batches(torch.arange(len(self._shard)), at, num_volumes=1):
            ctf = ctf_at(batch, at)
            values = torch.stack([ctf, torch.zeros_like(ctf)], dim=-1)
            insert(grid, batch.rotations, at.points, ctf, values, limit=at.box / 2)
        self._group.add_up([grid])
        weights = self._grids.coefficients(grid)[0].real.cpu()
        return self._group.from_first(weights).to(self._device)

    def _fit_mean(self) -> None:
        wanted = max(MEAN_PARTICLES, math.ceil(LEAST_SHARE * self._num_particles))
        for number in range(MEAN_PASSES):
            chosen = np.flatnonzero(self._chosen(_MEAN, (number + 1,), wanted))
            worker_pass = MeanPass(self.model, self._grids, self._all_points)
            sums = Sums.zero(
                self._grids.empty_sums(1),
                num_components=self.model.num_components,
                num_shells=self._grids.num_shells,
            )
            rows = torch.from_numpy(chosen)
            for where, batch in self._batches(rows, self._all_points, num_volumes=1):
                worker_pass.accumulate(batch, self.estimates[where], sums)
            self._update(sums, partial(self._updater.mean, estimate_noise=number > 0))
        if self._config.mask == "auto" and self._group.is_first:
            support = support_of_mean(self.model.volumes[0])
            volumes = self.model.volumes * support
            self.model = self.model.with_changes(support=support, volumes=volumes)
        self._share_model()

    def _fit_first_contrasts(self) -> None:
        """Estimate contrasts from the mean alone, and their SD."""
        worker_pass = MeanPass(self.model, self._grids, self._all_points)
        found = torch.zeros(len(self._shard), 2, dtype=torch.float64, device=self._device)
        rows = torch.arange(len(self._shard))
        for where, batch in self._batches(rows, self._all_points, num_volumes=1):
            found[where] = worker_pass.products(batch, self.estimates[where]).double()
        power, product = found.unbind(1)
        variance, scale = self.model.priors.contrast_sd**2, 1.0
        contrast = torch.ones_like(power)
        for _ in range(CONTRAST_ITERATIONS):
            precision = scale**2 * power + 1 / variance
            contrast = (scale * product + 1 / variance) / precision
            sums = torch.stack([contrast.sum(), (contrast.square() + 1 / precision).sum()])
            self._group.add_up([sums])
            mean, square = self._group.from_first((sums / self._num_particles).tolist())
            variance = max(square / mean**2 - 1, LEAST_CONTRAST_SD**2)
            scale *= mean
        precision = scale**2 * power + 1 / variance
        contrast = (scale * product + 1 / variance) / precision
        self.estimates.contrast = contrast.clamp(min=0).float()
        priors = ParticlePriors(contrast_sd=math.sqrt(variance))
        self.model = self.model.with_changes(volumes=self.model.volumes * scale, priors=priors)

    def _first_mixture(self, sample: Sample) -> Mixture:
        """Return a mixture whose states are at the latents of random particles."""
        states = min(self._config.states, len(sample.latents))
        generator = np.random.default_rng((self._seed, _SAMPLE, 1))
        chosen = generator.choice(len(sample.latents), states, replace=False)
        means = sample.latents[torch.from_numpy(chosen).to(self._device)]
        dim = means.shape[1]
        return Mixture(
            torch.full((states,), 1 / states, device=self._device),
            means.clone(),
            FIRST_COVARIANCE * torch.eye(dim, device=self._device),
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
        is_relevance: bool = False,
    ) -> None:
        """Make a pass of several updates, each of another part of the particles."""
        rank = self._ranks(_PASS, place)
        weight = UNCERTAINTY_WEIGHT if is_mixture else 1.0
        for part in range(min(updates, self._num_particles)):
            rows = torch.from_numpy(np.flatnonzero(rank % updates == part))
            worker_pass = self._pass(at, estimated, variance_weight=weight)
            sums = worker_pass.empty_sums(self._grids)
            for where, batch in self._batches(rows, at):
                self.estimates[where] = worker_pass.accumulate(batch, self.estimates[where], sums)
            update = partial(
                self._updater.updated,
                radius=radius,
                estimated=estimated,
                is_mixture=is_mixture,
                is_relevance=is_relevance,
            )
            self._update(sums, update)
            if estimated.contrast:
                self.estimates.contrast /= self._group.from_first(contrast_mean(sums))

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
        is_first = self._group.is_first
        tensors: dict[str, Any] = self._group.from_first(model.to_tensors() if is_first else {})
        if is_first:
            return model
        return FactorModel.from_tensors(tensors, box=self._grids.box, device=self._device)

    def _batches(
        self, rows: Int[Tensor, " n"], at: FourierPoints, *, num_volumes: int | None = None
    ) -> Iterator[tuple[Int[Tensor, " b"], ParticleBatch]]:
        """Yield the batches of some particles, numbered within the shard."""
        volumes = num_volumes or self._config.components + 1
        size = max(BATCH_BYTES // (8 * volumes * len(at.points)), 1)
        selections = [part for part in rows.split(size) if len(part)]
        for where, batch in zip(selections, self._shard.batches(selections), strict=True):
            yield where, batch
            self._on_batch(len(where))

    def _ranks(self, purpose: int, place: tuple[int, ...]) -> Int[np.ndarray, " n"]:
        """Return the place of each of this worker's particles in a random order of all."""
        generator = np.random.default_rng((self._seed, purpose, *place))
        order = generator.permutation(self._num_particles)
        return order[self._first_row : self._first_row + len(self._shard)]

    def _chosen(self, purpose: int, place: tuple[int, ...], count: int) -> Bool[np.ndarray, " n"]:
        return self._ranks(purpose, place) < count

    def _sampled(self) -> Bool[np.ndarray, " n"]:
        return self._chosen(_SAMPLE, (0,), MIXTURE_PARTICLES)

    def _random_latents(self) -> Float[Tensor, "n k"]:
        """Return standard normal latents of this worker's particles."""
        dim, first, stop = (
            self.model.num_components,
            self._first_row,
            self._first_row + len(self._shard),
        )
        blocks = [
            np.random.default_rng((self._seed, _LATENTS, block)).standard_normal(
                (LATENT_BLOCK, dim), dtype=np.float32
            )
            for block in range(first // LATENT_BLOCK, -(-stop // LATENT_BLOCK))
        ]
        offset = first // LATENT_BLOCK * LATENT_BLOCK
        drawn = np.concatenate(blocks)[first - offset : stop - offset]
        return torch.from_numpy(drawn).to(self._device)

    def _gathered(self, kept: list[tuple[np.ndarray, ...]], dim: int) -> Sample:
        """Return the sample of all workers, in the order of the table."""
        empty = (np.empty((0, dim, dim)), np.empty((0, dim)), np.empty((0, dim)))
        mine = [np.concatenate(parts) for parts in zip(empty, *kept, strict=True)]
        everyone = self._group.all_of(mine)
        parts = [np.concatenate(part) for part in zip(*everyone, strict=True)]
        return Sample(*(torch.from_numpy(p.astype(np.float32)).to(self._device) for p in parts))


def _add_likelihood(sums: Sums, found: ImagePosterior, products: ImageProducts) -> None:
    """Add the terms of the likelihood of a batch."""
    kept = 1 - found.null_probability
    fitted = (found.first * products.image).sum(1)
    square = (found.second * products.gram).sum((1, 2))
    sums.add(
        log_evidence=found.log_evidence,
        divergence=fitted - 0.5 * square - kept * found.particle_evidence,
        power=0.5 * products.power,
        likely=kept,
        misfit=0.5 * kept * products.power - fitted + 0.5 * square,
    )
