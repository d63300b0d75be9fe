"""The course of ``--method mfa``: from a checkpoint to the last epoch, on one of any workers."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from raydrgn.data.shard import ResidentShard
from raydrgn.mfa.concerns import (
    first_concerns,
    last_concerns,
    mask_concern,
    orientation_concern,
    search_note,
    unobserved_note,
)
from raydrgn.mfa.config import LOW_PASSES
from raydrgn.mfa.fit import FIRST_MIXTURE_EPOCH, FULL_PASSES, Fit
from raydrgn.mfa.latents import determine_latents
from raydrgn.mfa.likelihood import Expected
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticleEstimates
from raydrgn.mfa.slice_grid import SliceGridFile
from raydrgn.mfa.workers import WorkerParticles
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import Position
from raydrgn.shapes import Float
from raydrgn.training.collectives import WorkerGroup
from raydrgn.training.loop import Sink
from raydrgn.training.plan import BatchPlan
from raydrgn.training.progress_log import TrainProgress, log_line

SHOW_SECONDS = 1.0

FIRST_SHARE = 0.02
"""Of an epoch, from which its rate is known: it begins with the work of an update."""


class EmLoop:
    """Epochs of expectation and maximisation over one worker's shard.

    Like ``TrainingLoop``: it gives what it makes to a ``Sink``, and goes on from a checkpoint.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        plan: BatchPlan,
        shard: ResidentShard,
        device: torch.device,
        sink: Sink,
        grid_file: SliceGridFile | None = None,
    ) -> None:
        """Take a worker's particles, which are passed over twice before the first epoch."""
        assert config.mfa is not None
        self._config = config
        self._plan = plan
        self._device = device
        self._sink = sink
        self._group = WorkerGroup()
        self._began = self._saved = self._shown = self._epoch_began = time.monotonic()
        self._alike_began, self._first_alike = self._began, 0  # of epochs that take equally long
        self._epoch = 1
        self._visits = self._planned = 0
        self._is_stopping = False
        particles = WorkerParticles.of_shard(
            shard,
            group=self._group,
            num_particles=plan.num_particles,
            first_row=plan.rows[0],
            seed=config.train.seed,
            device=device,
            on_batch=self._count,
        )
        self._optics_names = particles.optics_names
        self._fit = Fit(config.mfa, particles, box=config.data.box, grid_file=grid_file)

    def load(self, checkpoint: Checkpoint, estimates: Float[np.ndarray, "n k"]) -> Position:
        """Go on from a checkpoint, and what was estimated of all particles."""
        model = FactorModel.from_tensors(
            checkpoint.model, box=self._config.data.box, device=self._device
        )
        start, stop = self._plan.rows
        mine = ParticleEstimates.from_table(estimates[start:stop], device=self._device)
        self._fit.load(model, mine)
        return checkpoint.position

    def run(self, start: Position) -> bool:
        """Fit from a position to the last epoch; return False if it was stopped before."""
        for epoch in range(start.epoch, self._config.train.epochs + 1):
            if not self._run_epoch(epoch, start.step if epoch == start.epoch else 0):
                return False
        return True

    def encode(self, epoch: int) -> Expected:
        """Make the latents of this worker's particles with the present model, and keep them."""
        found = self._fit.expect()
        self._sink.save_latents(epoch, self._plan.rows[0], found.latents, found.logvar)
        return found

    def _steps(self, epoch: int) -> list[Callable[[], None]]:
        """Return the passes of an epoch."""
        if epoch == 1:
            low = [partial(self._fit.low_pass, number + 1) for number in range(LOW_PASSES)]
            return [self._begin, *low]
        if epoch < FIRST_MIXTURE_EPOCH:
            return [partial(self._fit.full_pass, number + 1) for number in range(FULL_PASSES)]
        return [partial(self._fit.mixture_pass, epoch)]

    def _begin(self) -> None:
        """Make the first model, and note at once what a run that is resumed does not know."""
        self._fit.begin()
        fit = self._fit
        before = fit.gain_before_search
        given = orientation_concern(before.gain, before.explained) if before else None
        found = orientation_concern(fit.gain_of_orientations.gain, fit.model.evidence)
        concerns = [
            mask_concern(fit.share_outside),  # of the first worker, which makes the mask
            given or found,
            search_note(fit.pose_widths),
            unobserved_note(fit.model.noise, self._optics_names),
        ]
        for concern in concerns:
            if concern is not None and self._group.is_first:
                self._sink.note(concern)

    def _run_epoch(self, epoch: int, first: int) -> bool:
        """Make the passes of an epoch from one on, and its latents; return False if stopped."""
        if not self._run_passes(epoch, first):
            return False
        found = self.encode(epoch)
        if self._group.is_first:
            self._report(epoch, found)
        self._save(Position(epoch + 1, 0))
        self._is_stopping = self._group.from_first(self._is_stopping)
        return not self._is_stopping or epoch == self._config.train.epochs

    def _run_passes(self, epoch: int, first: int) -> bool:
        """Make the passes of an epoch from one on; return False if it was stopped between two."""
        steps = self._steps(epoch)
        self._epoch, self._epoch_began = epoch, time.monotonic()
        if epoch <= FIRST_MIXTURE_EPOCH or not self._first_alike:
            self._alike_began, self._first_alike = self._epoch_began, epoch
        start, stop = self._plan.rows
        self._visits, self._planned = 0, (stop - start) * (len(steps) - first + 1)
        for step in range(first, len(steps)):
            steps[step]()
            self._is_stopping |= self._sink.is_interrupted()
            overdue = self._minutes_since_saved() > self._config.train.checkpoint_minutes
            stops, saves = self._group.from_first((self._is_stopping, overdue))
            self._is_stopping = stops
            if step + 1 < len(steps) and (stops or saves):
                self._save(Position(epoch, step + 1))
                if stops:
                    return False
        return True

    def _report(self, epoch: int, found: Expected) -> None:
        """Give the sink the losses of an epoch, and what is notable of the fit."""
        progress = TrainProgress(
            epoch=epoch,
            step=len(self._steps(epoch)),
            particles=self._plan.num_particles,
            total=round(found.negative_log_likelihood, 6),
            reconstruction=round(found.misfit, 6),
            kl=round(found.divergence, 6),
            learning_rate=None,
            rate=self._rate(1.0, self._epoch_began),
            seconds=round(time.monotonic() - self._began, 3),
            done=True,
        )
        line = log_line(
            progress, epochs=self._config.train.epochs, num_particles=self._plan.num_particles
        )
        self._is_stopping |= self._sink.report(progress, line)
        for concern in self._concerns(epoch, found):
            self._sink.note(concern)

    def _concerns(self, epoch: int, found: Expected) -> list[str]:
        """Return what is notable of the first fit, and of the last."""
        concerns = []
        if epoch == 1 and mask_concern(self._fit.share_outside) is None:  # which would explain them
            concerns = first_concerns(self._fit.model)
        if epoch == self._config.train.epochs:
            assert self._config.mfa is not None
            concerns += last_concerns(
                self._fit.model,
                null_class=self._config.mfa.null_class,
                cut_off=self._fit.cut_off,
                has_latents=determine_latents(found.latents, found.logvar),  # of this worker's
            )
        return concerns

    def _save(self, position: Position) -> None:
        """Keep the estimates of all workers, and then the checkpoint that they belong to."""
        self._saved = time.monotonic()
        self._sink.save_estimates(position, self._plan.rows[0], self._fit.estimates.to_table())
        self._sink.flush()
        self._group.all_of(None)  # all estimates are on disk
        if self._group.is_first:
            tensors = self._fit.model.to_tensors()
            self._sink.save_checkpoint(
                Checkpoint(position=position, model=tensors, optimiser={}, sums=[0.0, 0.0, 0.0])
            )

    def _count(self, particles: int) -> None:
        """Show progress after a batch: the share of the epoch's passes that is done."""
        self._visits += particles
        now = time.monotonic()
        if not self._group.is_first or now - self._shown < SHOW_SECONDS or not self._planned:
            return
        self._shown = now
        share = min(self._visits / self._planned, 1.0)
        self._is_stopping |= self._sink.show(
            TrainProgress(
                epoch=self._epoch,
                step=0,
                particles=int(share * self._plan.num_particles),
                total=None,
                reconstruction=None,
                kl=None,
                learning_rate=None,
                rate=self._rate(self._epoch - self._first_alike + share, self._alike_began),
                seconds=round(now - self._began, 3),
            )
        )

    def _rate(self, epochs: float, began: float) -> float:
        """Return the particles per second over some epochs; 0 where that is not known yet."""
        if epochs < FIRST_SHARE:
            return 0.0
        elapsed = max(time.monotonic() - began, 1e-6)
        return round(epochs * self._plan.num_particles / elapsed, 2)

    def _minutes_since_saved(self) -> float:
        return (time.monotonic() - self._saved) / 60
