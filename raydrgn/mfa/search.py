"""A coarse search of rotations and shifts, before components begin.

Gauss–Newton steps reach rotations that are a few degrees off, and the grid of shifts those that are
a pixel off. Where the images show that errors are wider, poses about the given ones are tried: at
low frequency, where few trials are enough, and then about the best at higher frequency in smaller
steps. In between, the mean is made anew of the poses found.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticleEstimates, composed, rotation_matrices, turns
from raydrgn.mfa.start import mean_rows, mean_sums
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.trials import PoseTrials, PoseWidths, trials_within, with_junk
from raydrgn.mfa.workers import MEAN, WorkerParticles
from raydrgn.shapes import Float, Int

RADIUS = 8.0
"""Of the Fourier points of the first stage, cycles per box; at most a quarter of the box."""

ROTATION_STEP = math.radians(6)
"""Between the trials of the first stage; a further one has twice the radius and half the steps."""

LARGEST_REACH = math.radians(24)
REACH_SDS = 2.5
"""Of the trials of the first stage about the given poses, in SDs of the errors."""

REACH_STEPS = 2
"""Of trials about the last estimate."""

SHIFT_ROUNDS, ROTATION_ROUNDS, FINE_ROUNDS = 3, 4, 1
"""How often the mean is made of some particles, before all are searched: of wide shifts alone, of
wide rotations, and in each further stage."""

FIRST_NUMBER = 10
"""Of the random choices of particles for a mean."""

MEASURED_PARTICLES = 1000

ROTATION_SDS = tuple(math.radians(angle) for angle in (1, 2, 3, 4, 5, 6, 8, 10))
"""SDs of errors whose likelihoods are compared, along each axis."""

SHIFT_SDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""The same of shifts, in steps of the first stage."""

WIDE_ROTATIONS, WIDE_SHIFTS_PX = math.radians(5.5), 1.0
"""SDs above which poses are searched. A motion looks like errors of rotations of a few degrees; the
steps of the fit reach these better than a search with the mean alone."""

NEARLY_ALL = 0.99
"""Of what the likeliest SD explains: wide ones explain about the same, and the least is taken."""

LEAST_GAIN = 0.1
"""Nats per image that wide errors must explain beyond the narrowest."""

LEAST_ROTATION, LEAST_SHIFT_PX = math.radians(1), 0.25
"""SDs of errors that a search takes, at least."""


class Stage(NamedTuple):
    """Fourier points and steps of a part of the search."""

    radius: float
    """Of the points, cycles per box."""

    rotation_step: float
    shift_step_px: float

    @classmethod
    def first(cls, box: int) -> "Stage":
        """Return the stage about the given poses."""
        radius = min(RADIUS, box / 4)
        return cls(radius, ROTATION_STEP, box / (4 * radius))

    def finer(self) -> "Stage":
        """Return the next stage, about the poses that this one has found."""
        return Stage(2 * self.radius, self.rotation_step / 2, self.shift_step_px / 2)


def pose_widths(
    model: FactorModel,
    particles: WorkerParticles,
    estimates: ParticleEstimates,
    grids: VolumeGrids,
) -> PoseWidths:
    """Return the likeliest widths of the errors of some particles' poses, where they are wide.

    Args:
        model: With a mean.
        particles: Of which some are taken.
        estimates: About whose rotations and shifts others are tried.
        grids: Of the box.
    """
    stage, device = Stage.first(grids.box), particles.device
    at = FourierPoints.within(grids.box, stage.radius, device=device)
    rotations = trials_within(2 * stage.rotation_step, stage.rotation_step, dim=3, device=device)
    shifts = trials_within(grids.box / 5, stage.shift_step_px / 2, dim=2, device=device)
    shift_sds = [stage.shift_step_px * sd for sd in SHIFT_SDS]
    by_rotation = PoseTrials(model, grids, at, rotations=rotations)
    by_shift = PoseTrials(model, grids, at, shifts_px=shifts)
    rows = torch.from_numpy(np.flatnonzero(particles.chosen(MEAN, 0, count=MEASURED_PARTICLES)))
    total = torch.zeros(2, len(SHIFT_SDS), dtype=torch.float64, device=device)
    for where, batch in particles.batches(rows, at, num_volumes=len(rotations)):
        mine = estimates[where]
        of_rotation = by_rotation.likelihoods(batch, mine)[:, :, 0]
        of_shift = by_shift.likelihoods(batch, mine)[:, 0]
        total[0] += _evidence(of_rotation, rotations, ROTATION_SDS)
        total[1] += _evidence(of_shift, shifts, shift_sds)
    particles.group.add_up([total])
    by_rotation_sd, by_shift_sd = particles.group.from_first(total.tolist())
    least = LEAST_GAIN * min(MEASURED_PARTICLES, particles.num_particles)
    return PoseWidths(
        _wide(by_rotation_sd, ROTATION_SDS, above=WIDE_ROTATIONS, least=least),
        _wide(by_shift_sd, shift_sds, above=WIDE_SHIFTS_PX, least=least),
    )


def _evidence(
    logs: Float[Tensor, "b t"], trials: Float[Tensor, "t d"], sds: Sequence[float]
) -> Float[Tensor, " sds"]:
    """Return the logarithm of all images' probability, with trials drawn with each of some SDs."""
    found = []
    for sd in sds:
        prior = torch.log_softmax(-0.5 * trials.square().sum(1) / sd**2, dim=0)
        found.append(with_junk(torch.logsumexp(logs + prior, dim=1).double()).sum())
    return torch.stack(found)


def _wide(
    evidence: Sequence[float], sds: Sequence[float], *, above: float, least: float
) -> float | None:
    """Return the least SD that explains nearly all, if it is wide and explains enough."""
    gain = np.asarray(evidence) - evidence[0]
    found = int(np.argmax(gain >= NEARLY_ALL * gain.max()))
    return sds[found] if sds[found] > above and gain[found] > least else None


def _new_width(width: float | None, square: float, count: float, *, least: float) -> float | None:
    """Return the SD of errors of a sum of squares, if there was one before."""
    return None if width is None else max(math.sqrt(square / max(count, 1)), least)


class PoseSearch:
    """The course of a search over one worker's particles."""

    def __init__(
        self,
        particles: WorkerParticles,
        estimates: ParticleEstimates,
        grids: VolumeGrids,
        *,
        new_mean: Callable[[Sums], FactorModel],
    ) -> None:
        """Take what a search is over.

        Args:
            particles: Of the worker.
            estimates: Of them; rotations and shifts are changed in place.
            grids: Of the box.
            new_mean: Adds up sums of all workers for the mean; returns the model with it.
        """
        self._particles = particles
        self._estimates = estimates
        self._grids = grids
        self._new_mean = new_mean
        self._number = FIRST_NUMBER
        self._all_points = FourierPoints.within(grids.box, grids.box, device=grids.device)

    def run(self, model: FactorModel, widths: PoseWidths, *, rotations: bool) -> PoseWidths:
        """Find the poses of all particles; the mean is left to ``new_mean``.

        Args:
            model: With the mean of the given poses.
            widths: Of their errors.
            rotations: Whether rotations may be changed.

        Returns:
            The widths that are found.
        """
        stage = Stage.first(self._grids.box)
        if widths.shift_px is not None:  # blurred by them, the mean knows nothing of rotations
            shifts = widths._replace(rotation=None)
            for _ in range(SHIFT_ROUNDS):
                model, shifts = self._round(model, stage, shifts, self._some())
            again = pose_widths(model, self._particles, self._estimates, self._grids)
            widths = shifts._replace(rotation=again.rotation if rotations else None)
        if widths.rotation is not None:
            for _ in range(ROTATION_ROUNDS):
                model, widths = self._round(model, stage, widths, self._some())
        model, widths = self._round(model, stage, widths, self._all())
        while stage.radius < self._grids.box / 4:
            stage = stage.finer()
            for _ in range(FINE_ROUNDS):
                model, widths = self._round(model, stage, widths, self._some())
            model, widths = self._round(model, stage, widths, self._all())
        return widths

    def _some(self) -> Int[Tensor, " n"]:
        self._number += 1
        return mean_rows(self._particles, self._number)

    def _all(self) -> Int[Tensor, " n"]:
        return torch.arange(len(self._particles))

    def _round(
        self, model: FactorModel, stage: Stage, widths: PoseWidths, rows: Int[Tensor, " n"]
    ) -> tuple[FactorModel, PoseWidths]:
        """Search some particles, and return the model with their mean, and the widths found."""
        is_first = stage == Stage.first(self._grids.box)
        all_trials = self._trials(model, stage, widths, is_first=is_first)
        at = FourierPoints.within(self._grids.box, stage.radius, device=self._grids.device)
        total = torch.zeros(3, dtype=torch.float64, device=self._grids.device)
        given = []
        most = max(trials.num_rotations for trials in all_trials)
        for where, batch in self._particles.batches(rows, at, num_volumes=most):
            mine = self._estimates[where]
            if is_first:
                mine.rotations.zero_()
                mine.shifts_px.zero_()
            for trials in all_trials:
                mine, square, weight = trials.estimate(batch, mine, widths)
            self._estimates[where] = mine
            total += torch.cat([weight @ square, weight.sum()[None]]).double()
            given.append(batch.rotations)
        self._particles.group.add_up([total])
        of_rotation, of_shift, count = self._particles.group.from_first(total.tolist())
        found = PoseWidths(
            _new_width(widths.rotation, of_rotation, count, least=LEAST_ROTATION),
            _new_width(widths.shift_px, of_shift, count, least=LEAST_SHIFT_PX),
        )
        self._centre(rows, torch.cat([self._all_points.points.new_zeros(0, 3, 3), *given]), found)
        sums = mean_sums(
            model, self._particles, self._estimates, self._grids, self._all_points, rows=rows
        )
        return self._new_mean(sums), found

    def _trials(
        self, model: FactorModel, stage: Stage, widths: PoseWidths, *, is_first: bool
    ) -> list[PoseTrials]:
        """Return trials that follow each other: of shifts alone about given ones, and of both."""
        box, device = self._grids.box, self._grids.device
        at = FourierPoints.within(box, stage.radius, device=device)
        made = partial(PoseTrials, model, self._grids, at)
        near = REACH_STEPS * stage.shift_step_px
        rotations = shifts = wide_shifts = None
        if widths.shift_px is not None:
            reach = max(min(REACH_SDS * widths.shift_px, box / 4), near)
            wide_shifts = trials_within(reach, stage.shift_step_px / 2, dim=2, device=device)
            shifts = trials_within(near, stage.shift_step_px, dim=2, device=device)
        if widths.rotation is not None:
            reach = REACH_STEPS * stage.rotation_step
            if is_first:
                reach = min(REACH_SDS * widths.rotation, LARGEST_REACH)
            rotations = trials_within(reach, stage.rotation_step, dim=3, device=device)
        both = made(rotations=rotations, shifts_px=shifts)
        if not is_first or wide_shifts is None:
            return [both]
        alone = made(shifts_px=wide_shifts)
        return [alone] if rotations is None else [alone, both]

    def _centre(
        self, rows: Int[Tensor, " n"], given: Float[Tensor, "n 3 3"], widths: PoseWidths
    ) -> None:
        """Take out of the poses of particles what is a motion of the whole volume.

        A volume at o and turned by q, both in its own frame, fits images at the shifts R·o and the
        rotations R·q as well. Errors of given poses have no such part.
        """
        mine = self._estimates[rows]
        pose = rotation_matrices(mine.rotations) @ given
        seen = pose[:, :2].double()
        total = torch.cat(
            [
                (seen.mT @ seen).sum(0),
                (seen.mT @ mine.shifts_px[..., None].double()).sum(0),
                (turns(given).mT @ mine.rotations[..., None]).double().sum(0),
            ],
            dim=1,
        )  # (3 5)
        count = torch.tensor([float(len(rows))], dtype=torch.float64, device=total.device)
        group = self._particles.group
        group.add_up([total, count])
        total, count = (
            value.to(total.device) for value in group.from_first((total.cpu(), count.cpu()))
        )
        normal, vector, turn = total.split((3, 1, 1), dim=1)
        offset = torch.linalg.lstsq(normal.cpu(), vector.cpu()).solution
        if widths.shift_px is not None:
            moved = (seen @ offset.to(seen.device))[..., 0]
            self._estimates.shifts_px[rows] = mine.shifts_px - moved.float()
        if widths.rotation is not None:
            turned = (turns(given) @ (turn / count).float())[..., 0]
            self._estimates.rotations[rows] = composed(-turned, mine.rotations)
