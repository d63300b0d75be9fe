"""The maximisation step: new volumes, noise, spectra and priors from the sums of a pass.

Volumes take one step of the preconditioned normal equations,

    δV_k = (N_k − λ_k V_k) / (w/σ² + λ_k),   N_k = Σ_i Pᵀ C/σ² E[z̃_k (y − prediction)]

with w = Σ C² at each point of the grid and λ the inverse prior variance of the shell. The latents
are made to have covariance 1; what images tell of them is less, R = E[ẑ ẑᵀ] of the expectations ẑ,
and so is the curvature of the likelihood (its observed information). Where an update is of all
particles, steps are R⁻¹ times as long: with those of expectation maximisation itself, weak
components would take hundreds of passes. Of a part of them, the noise would grow as much.

References:
    Louis (1982), J. R. Stat. Soc. B 44, 226: the observed information in expectation maximisation.
    MacKay (1992), Neural Comput. 4, 415: prior variances from the number of parameters that the
    data determine.
"""

import math
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from raydrgn.errors import InputError
from raydrgn.mfa.contrast import contrast_mean, contrast_sd, contrast_slope
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.noise import with_noise
from raydrgn.mfa.particles import Estimated
from raydrgn.mfa.pose_slope import give_slope, pose_slope
from raydrgn.mfa.poses import ROTATION_SDS
from raydrgn.mfa.sums import LEAST_VARIANCE, Sums
from raydrgn.mfa.support import cut_off
from raydrgn.shapes import Float

COMPONENT_SHARE = 0.05
"""Prior variance of components over that of the mean, before it is estimated."""

RELEVANCE_FLOOR = 0.005
"""Least prior variance of components over that of the mean, when it is estimated.

It is no more than the variance that images alone leave to a coefficient: with a larger one,
components would be made of noise where the mean is far above it.
"""

LEAST_DETERMINED = 0.01
"""Share of a shell's coefficients of a component that images determine, at least."""

LEAST_CERTAINTY = 0.2
"""Of a latent: variance of its expectations, of 1 at most. Steps are five times as long at most."""

FARTHER_SHARE = 0.05
"""Of the largest weight of a shell, what points of all others have of it, at most."""

LARGEST_LATENT = 3.0
"""Of a latent's squared norm in a few images: SDs above its mean."""

LEAST_SHIFT_SD_PX = 0.03
LEAST_ROTATION_EVIDENCE = 0.02
"""Nats per particle that rotations must explain to be refined: less, and the given ones are kept.

At that, an estimate has about a fifth of the variance of its own uncertainty.
"""

NULL_SHARES = (1e-4, 0.9)
EMPTY_SHARES = (0.01, 0.99)  # of junk


class Updater:
    """Makes a new model from a model and the sums of a pass with it."""

    def __init__(
        self,
        grids: VolumeGrids,
        weights: Float[Tensor, "z y x"],
        optics_shares: Float[Tensor, " groups"],
        num_particles: int,
    ) -> None:
        """Describe the data.

        Args:
            grids: Of the box.
            weights: Sum of C² over all particles at each point of the unpadded grid.
            optics_shares: Share of each optics group among all particles.
            num_particles: Of which the sums of a pass may be over a part.
        """
        self._grids = grids
        self._optics_shares = optics_shares
        self._num_particles: float = num_particles
        self._of_shell = grids.at_shell(grids.shell_means(weights[None])[0])
        self._views = torch.where(self._of_shell > 0, weights / self._of_shell, 1.0)
        """Weight of each point over the mean of its shell: 1 where views are even."""

        self._views_for_steps = torch.maximum(self._views, grids.neighbour_means(self._views))
        """At least the mean of the neighbours: beside a view that others do not cover, the diagonal
        falls off faster than the neighbours' share in the equations."""

        self._mobile: Float[Tensor, "d d d"] | None = None
        """Sum of squares of the components as the last update makes them without the mask."""

        at = FourierPoints.within(grids.box, grids.box, device=grids.device)
        self._points_per_shell = torch.bincount(at.shell, minlength=grids.num_shells)

    def of_half(self) -> "Updater":
        """Return the same for half of the particles, whose views are about those of all."""
        half = copy(self)
        half._num_particles, half._of_shell = self._num_particles / 2, self._of_shell / 2
        return half

    def mean(self, model: FactorModel, sums: Sums, *, estimate_noise: bool) -> FactorModel:
        """Return the model with a new mean, of sums for it alone."""
        if estimate_noise:
            model = self._with_noise(model, sums, radius=None)
        return self._with_mean_power(self._stepped(model, sums, None))

    def started(self, model: FactorModel, sums: Sums, *, radius: float) -> FactorModel:
        """Return the model with its first components."""
        return self._with_mean_power(self._stepped(model, sums, radius), radius)

    def updated(
        self,
        model: FactorModel,
        sums: Sums,
        *,
        radius: float | None,
        estimated: Estimated,
        is_mixture: bool,
        estimates_prior: bool,
    ) -> FactorModel:
        """Return the model after a pass.

        Args:
            model: The model that the sums were made with.
            sums: Over the particles of the pass.
            radius: Of the Fourier points taken, where not all were.
            estimated: What was estimated of the particles.
            is_mixture: Whether the prior of the latents is a mixture, which is then carried along;
                the sums are of all particles.
            estimates_prior: Whether the prior variance of each component is estimated, in each
                shell; else it is a share of the mean's power.

        Raises:
            InputError: If all images have become junk, or the volumes are not finite.
        """
        require_particles(sums.total("likely"))
        model = self._stepped(model, sums, radius, is_whole=is_mixture)
        if estimated.pose_slope:
            give_slope(model.volumes, pose_slope(sums), model.support)
        model = self._whitened(model, sums, is_mixture=is_mixture)
        model = self._with_noise(model, sums, radius=radius)
        model = _with_priors(model, sums, estimated, is_mixture=is_mixture)
        model = self._with_mean_power(model, radius)
        if not estimates_prior:
            power = COMPONENT_SHARE * model.mean_power
            model = replace(model, component_power=power.expand_as(model.component_power))
        return model

    def with_relevance(self, model: FactorModel) -> FactorModel:
        """Return the model with each component's own prior variance by shell.

        It is the power of a shell over the share of its coefficients that the images determine
        (MacKay 1992), so that it goes to nothing where there is no more than noise.
        """
        power = self._grids.power(model.volumes[1:]) / self._mask_share(model)
        left = self._variance(model, model.component_power) / self._mask_share(model)
        determined = (1 - left / model.component_power).clamp(min=LEAST_DETERMINED)
        [precision] = self._grids.shell_means(self._precision(model, self._views)[None])
        floor = torch.minimum(RELEVANCE_FLOOR * model.mean_power, 1 / precision)
        return replace(model, component_power=torch.maximum(power / determined, floor))

    def cut_off(self, model: FactorModel) -> float:
        """Return the mobile density outside of the mask over that inside, by the last update."""
        return 0.0 if self._mobile is None else cut_off(self._mobile, model.support)

    def component_variance(
        self, model: FactorModel, variance_weight: float
    ) -> Float[Tensor, "k shells"]:
        """Return the posterior variance of the coefficients of each component by shell.

        It is a mean over the images' points: where no image has a slice does not count.
        """
        return self._variance(model, model.component_power, self._views) * variance_weight

    def _variance(
        self,
        model: FactorModel,
        powers: Float[Tensor, "k shells"],
        views: Float[Tensor, "z y x"] | None = None,
    ) -> Float[Tensor, "k shells"]:
        """Return the posterior variance of coefficients of some prior variances by shell.

        Args:
            model: With noise and mask.
            powers: Prior variances.
            views: Weights of the points of a shell; None counts all alike.
        """
        precision = self._precision(model, self._views)
        parts = []
        for power in powers:
            variance = 1 / (precision + self._grids.at_shell(1 / power))
            counted = variance if views is None else variance * views
            parts.append(self._grids.shell_means(counted[None]))
        return torch.cat(parts) * self._mask_share(model)

    def _precision(
        self, model: FactorModel, views: Float[Tensor, "z y x"]
    ) -> Float[Tensor, "z y x"]:
        # Of several optics groups as if their views were alike: this only sets the step's length
        # and the variances, not where the steps lead to.
        return self._precision_of(model, views, self._optics_shares @ (1 / model.noise))

    def _precision_for_steps(self, model: FactorModel) -> Float[Tensor, "z y x"]:
        """Return the same, but no less than images have at the next shells, or nearly anywhere.

        The diagonal does not show what other points of the grid have a share in. Where the noise
        of shells differs, as at the edge of what low-passed images show, that is more.
        """
        over_noise = self._optics_shares @ (1 / model.noise)
        nearby = functional.max_pool1d(over_noise[None], kernel_size=3, stride=1, padding=1)[0]
        least = FARTHER_SHARE * float(over_noise.max())
        return self._precision_of(model, self._views_for_steps, nearby.clamp(min=least))

    def _precision_of(
        self,
        model: FactorModel,
        views: Float[Tensor, "z y x"],
        over_noise: Float[Tensor, " shells"],
    ) -> Float[Tensor, "z y x"]:
        return model.signal * self._of_shell * views * self._grids.at_shell(over_noise)

    @staticmethod
    def _mask_share(model: FactorModel) -> float:
        """Return the share of white noise's power that the mask lets through."""
        return float(model.support.square().mean())

    def _stepped(
        self, model: FactorModel, sums: Sums, radius: float | None, *, is_whole: bool = False
    ) -> FactorModel:
        """Return the model with new volumes; the grid of the sums is given up for them."""
        share = self._num_particles / sums.total("particles")
        views = self._views_for_steps
        precision = self._precision_for_steps(model)
        volumes = range(sums.grid.shape[-1] // 2)  # the mean alone, at first
        power = torch.cat([model.mean_power[None], model.component_power])
        lengths = torch.eye(len(volumes), device=power.device)
        if sums.square.any():  # else there are no latents yet
            lengths[1:, 1:] = step_lengths(sums, is_whole=is_whole)
        # Of few images of a grid point one alone may have the whole of the equations' largest
        # eigenvalue, 1 + |z|² (chi-square), for which their diagonal is too small.
        largest = len(lengths) + LARGEST_LATENT * math.sqrt(2 * (len(lengths) - 1))
        images = views * self._num_particles / (2 * self._grids.radius.clamp(min=0.5))
        curvature = precision * (share * largest / images.clamp(min=1)).clamp(min=1)
        stepped = model.volumes.clone()
        mobile = torch.zeros_like(model.support)
        for number in volumes:  # one at a time: the transforms take memory
            [spectrum] = self._grids.spectrum(model.volumes[number][None])
            of_prior = self._grids.at_shell(1 / power[number]) * spectrum / share
            self._grids.subtract(sums.grid, number, of_prior)
        for number in volumes:
            volume, shares = model.volumes[number], lengths[number]
            gradient = share * self._grids.coefficients(sums.grid, shares)
            damping = shares[number] * self._grids.at_shell(1 / power[number])
            [moved] = self._grids.volumes((gradient / (curvature + damping))[None], radius=radius)
            stepped[number] = (volume + moved) * model.support
            if number > 0:  # of steps no longer than 1, whose noise is less
                mobile += (volume + moved / shares[number].clamp(min=1)).square()
        self._mobile = mobile
        sums.release_grid()
        if not bool(stepped.isfinite().all()):
            raise InputError(
                "The fit diverged: its volumes are no longer finite. Check poses and CTF with "
                "`raydrgn backproject`, and try fewer components (`raydrgn train --components 4`)."
            )
        return replace(model, volumes=stepped)

    @staticmethod
    def _whitened(model: FactorModel, sums: Sums, *, is_mixture: bool) -> FactorModel:
        """Return the model with latents of mean 0 and covariance 1, and orthogonal components."""
        device, likely = model.volumes.device, sums.total("likely")
        mean = (sums.latent / likely).float().to(device)
        second = (sums.square / likely).float().to(device) - torch.outer(mean, mean)
        volumes = torch.empty_like(model.volumes)
        components = model.volumes[1:].flatten(1)
        torch.addmv(model.volumes[0].flatten(), components.T, mean, out=volumes[0].view(-1))
        slope = contrast_slope(sums).float().to(device)  # components gain this of the mean
        along = torch.outer(components @ volumes[0].view(-1), slope)
        products = components @ components.T + along + along.T
        products += volumes[0].square().sum() * torch.outer(slope, slope)
        values, vectors = torch.linalg.eigh(second)
        root = vectors * values.clamp(min=LEAST_VARIANCE).sqrt()
        _, order = torch.linalg.eigh(root.T @ products @ root)
        turn = root @ order.flip(1)
        # An eigenvector's sign is arbitrary: latents keep theirs from pass to pass.
        turn = turn * turn.gather(0, turn.abs().argmax(0, keepdim=True)).sign()
        turned = volumes[1:].view(len(turn), -1)
        torch.matmul(turn.T, components, out=turned)
        turned.addr_(turn.T @ slope, volumes[0].view(-1))
        mixture = model.mixture
        if is_mixture:
            mixture = mixture.transformed(mean, turn)
        return replace(model, volumes=volumes, mixture=mixture)

    def _with_noise(self, model: FactorModel, sums: Sums, *, radius: float | None) -> FactorModel:
        """Return the model with the noise that the residuals have."""
        shells = torch.arange(model.noise.shape[1], device=model.noise.device)
        known = (shells > 0) & (shells < (radius or math.inf) - 0.5)
        return with_noise(model, sums, self._points_per_shell, known)

    def _with_mean_power(self, model: FactorModel, radius: float | None = None) -> FactorModel:
        """Return the model with the prior variance that its mean shows."""
        [power] = self._grids.power(model.volumes[:1])
        [variance] = self._variance(model, model.mean_power[None])
        estimate = (power + variance) / self._mask_share(model)
        estimate = estimate.clamp(min=1e-9)
        if radius is not None:
            shells = torch.arange(len(estimate), device=estimate.device)
            estimate = torch.where(shells < radius - 1, estimate, model.mean_power)
        return replace(model, mean_power=estimate)


def require_particles(number: float) -> None:
    """Refuse to go on without particles.

    Raises:
        InputError: If all images are likelier to be junk.
    """
    if number < 1:
        raise InputError(
            "All images have become junk: none is explained by the volumes. Check poses and CTF "
            "with `raydrgn backproject`; `raydrgn train --no-null-class` looks for no junk."
        )


def step_lengths(sums: Sums, *, is_whole: bool) -> Float[Tensor, "k k"]:
    """Return by what the steps of the components are multiplied.

    Steps of length 1 are right for latents of covariance 1. Where a new mixture has made it larger,
    they are as much shorter; else volumes would swing.

    Args:
        sums: Over particles.
        is_whole: Whether over all of them, so that steps may be longer: R⁻¹.
    """
    products = sums.square_of_means if is_whole else sums.square
    values, vectors = torch.linalg.eigh(products / sums.total("likely"))
    least = LEAST_CERTAINTY if is_whole else 1.0
    return ((vectors / values.clamp(min=least)) @ vectors.T).float()


def _with_priors(
    model: FactorModel, sums: Sums, estimated: Estimated, *, is_mixture: bool
) -> FactorModel:
    """Return the model with the priors of contrast, junk and poses that the particles show."""
    particles, likely = sums.total("particles"), sums.total("likely")
    priors, volumes = model.priors, model.volumes
    changes: dict[str, float] = {}
    if estimated.null_class:
        low, high = NULL_SHARES
        null = sums.total("null")
        changes["null_share"] = min(max(null / particles, low), high)
        empty = 1 - float(sums.contaminants.sum()) / max(null, 1.0)
        changes["empty_share"] = min(max(empty, EMPTY_SHARES[0]), EMPTY_SHARES[1])
    if estimated.contrast:
        changes["contrast_sd"] = contrast_sd(sums)
        volumes = volumes * contrast_mean(sums)
    if estimated.shifts:
        variance = sums.total("square_shift") / particles / 2
        changes["shift_sd_px"] = max(math.sqrt(variance), LEAST_SHIFT_SD_PX)
    if estimated.rotations:
        least = LEAST_ROTATION_EVIDENCE * likely if is_mixture else -math.inf
        changes["rotation_sd"] = rotation_sd(sums.rotation_evidence, least=least)
    return replace(
        model,
        volumes=volumes,
        priors=replace(priors, **changes),
        signal=sums.total("square_contrast") / particles,
    )


def rotation_sd(evidence: Float[Tensor, " trials"], *, least: float) -> float:
    """Return the likeliest SD of the rotations, radians, between the trials by a parabola.

    Args:
        evidence: Logarithm of the images' probability for each of ``ROTATION_SDS``.
        least: If no trial has as much, the SD is 0: the given rotations are exact.
    """
    best = int(evidence.argmax())
    if float(evidence[best]) < least:
        return 0.0
    if not 0 < best < len(evidence) - 1:
        return ROTATION_SDS[best]
    before, here, after = evidence[best - 1 : best + 2].tolist()
    offset = 0.5 * (before - after) / (before - 2 * here + after)
    return ROTATION_SDS[best] * (ROTATION_SDS[1] / ROTATION_SDS[0]) ** offset
