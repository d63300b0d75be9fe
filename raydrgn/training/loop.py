"""The training loop: from a checkpoint to the last epoch, on one process of any number.

It knows neither Ray nor where checkpoints go: a ``Sink`` takes what it gives.
"""

import math
import time
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.shard import ResidentShard
from raydrgn.errors import RaydrgnError
from raydrgn.model.device import free_gpu, full_gpu
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import Position
from raydrgn.shapes import Float, Int
from raydrgn.training.collectives import WorkerGroup
from raydrgn.training.optimiser import load_state, saved_state
from raydrgn.training.plan import BatchPlan
from raydrgn.training.pretraining import (
    LARGE_ERROR,
    LARGE_ERROR_NOTE,
    SPOILED_PRETRAINING,
    EncoderPretraining,
)
from raydrgn.training.progress_log import PhaseProgress, TrainProgress, log_line
from raydrgn.training.reduction import MetricReduction, are_finite
from raydrgn.training.schedule import RateSchedule
from raydrgn.training.step import SliceLattice, choose_amp_dtype, ctf_values, encoder_input
from raydrgn.training.steps import Steps

LOG_SECONDS = 10.0
"""Time between two lines of run.log within an epoch."""

ENCODE_BATCH = 256
"""Particles that are encoded at a time, if there is memory for as many."""

STEPS_BETWEEN_REQUESTS = 10
"""Steps of pre-training after which workers ask whether they are to stop."""


@runtime_checkable
class Sink(Protocol):
    """Takes the results of a loop; only rank 0 calls all of it."""

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; wait for the checkpoint before only."""
        ...

    def save_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep this worker's latents of an epoch; every worker calls this."""
        ...

    def report(self, progress: TrainProgress, line: str | None) -> bool:
        """Report how far the run is, with a line for the log; return whether it is to stop."""
        ...

    def show(self, progress: TrainProgress | PhaseProgress) -> bool:
        """Report how far the run is, for people alone; return whether it is to stop."""
        ...

    def save_estimates(
        self, position: Position, start: int, table: Float[np.ndarray, "n k"]
    ) -> None:
        """Keep what is estimated of this worker's particles, before a checkpoint."""
        ...

    def note(self, message: str) -> None:
        """Show a message to the user, and write it into the log."""
        ...

    def log(self, message: str) -> None:
        """Write a message into the log."""
        ...

    def flush(self) -> None:
        """Wait until everything is kept."""
        ...

    def is_interrupted(self) -> bool:
        """Return whether the workers are to stop, since a machine of theirs is taken away.

        Every worker calls this after the same step, and gets the same answer.
        """
        ...

    def report_divergence(self, position: Position, rows: list[int], *, uses_amp: bool) -> None:
        """Report in which table rows loss or gradient are not finite; every worker calls this.

        Args:
            position: After the step.
            rows: Of this worker's part of the batch; empty if another one's loss is not finite.
            uses_amp: Whether matrix products are in half precision.
        """
        ...


class TrainingLoop:
    """Epochs over one worker's shard."""

    def __init__(
        self,
        config: RunConfig,
        *,
        plan: BatchPlan,
        shard: ResidentShard,
        vae: HeterogeneousVAE,
        steps: Steps,
        optimiser: torch.optim.Optimizer,
        lattice: SliceLattice,
        sink: Sink,
    ) -> None:
        """Connect the parts; ``steps`` move the weights of ``vae`` by ``optimiser``."""
        self._config = config.train
        self._plan = plan
        self._shard = shard
        self._vae = vae
        self._steps = steps
        self._optimiser = optimiser
        self._lattice = lattice
        self._zdim = vae.config.zdim
        self._rate = RateSchedule.of(config, plan)
        self._sink = sink
        self._uses_amp = choose_amp_dtype(lattice.plane.device, amp=config.train.amp) is not None
        self._reduction = MetricReduction(lattice.plane.device)
        self._sums = np.zeros(3)
        self._is_stopping = False
        self._began = time.monotonic()
        self._saved = self._logged = self._began
        self._pretraining: EncoderPretraining | None = None
        self._encode_batch = ENCODE_BATCH

    def begin_with(self, targets: Float[np.ndarray, "2 n zdim"]) -> None:
        """Pre-train the encoder on latents of this worker's particles before the first epoch."""
        self._pretraining = EncoderPretraining(
            self._vae.encoder,
            targets,
            plan=self._plan,
            shard=self._shard,
            lattice=self._lattice,
            width=self._vae.config.encoder_width,
        )

    def load(self, checkpoint: Checkpoint) -> Position:
        """Put network and optimiser where a checkpoint left them, and return its position."""
        self._vae.load_state_dict(checkpoint.model)
        if checkpoint.optimiser:
            load_state(self._optimiser, checkpoint.optimiser)
        self._sums = np.array(checkpoint.sums)
        return checkpoint.position

    def run(self, start: Position) -> bool:
        """Train from a position to the end; return False if it was stopped before."""
        if self._pretraining is not None and not self._pretrain(self._pretraining):
            return False
        for epoch in range(start.epoch, self._config.epochs + 1):
            first = start.step if epoch == start.epoch else 0
            if not self._run_epoch(epoch, first):
                return False
        return True

    def encode(self, epoch: int) -> None:
        """Make the latents of this worker's particles with the present weights, and keep them.

        Where the GPU has too little memory for as many at a time, fewer are taken from then on.
        """
        while True:
            try:
                z, spread = self._encoded()
                break
            except RuntimeError as error:
                if full_gpu(error) is None or self._encode_batch == 1:
                    raise
            free_gpu()  # the error, and what it held, is gone
            self._encode_batch //= 2
        self._sink.save_latents(epoch, self._plan.rows[0], z, spread)

    def _encoded(self) -> tuple[Float[np.ndarray, "n zdim"], Float[np.ndarray, "n zdim"]]:
        """Return means and log-variances."""
        means, logvars = [], []
        rows = torch.arange(len(self._shard)).split(self._encode_batch)
        with torch.inference_mode():
            for batch in self._shard.batches(rows):
                hartley = encoder_input(batch, ctf_values(batch, self._lattice))
                mean, logvar = self._vae.encoder.encode(hartley)
                means.append(mean.cpu())
                logvars.append(logvar.cpu())
        empty = torch.empty(0, self._zdim)
        z, spread = (torch.cat([empty, *parts]).numpy() for parts in (means, logvars))
        return z, spread

    def _pretrain(self, steps: EncoderPretraining) -> bool:
        """Pre-train the encoder, and keep a checkpoint; return False if stopped before the end."""
        group = WorkerGroup()
        for done in steps:
            if done % STEPS_BETWEEN_REQUESTS and done < steps.num_steps:
                continue
            stop = self._sink.is_interrupted()
            if group.is_first:
                shown = PhaseProgress(phase="pretraining", done=done, of=steps.num_steps)
                stop |= self._sink.show(shown)
            if group.from_first(stop) and done < steps.num_steps:
                return False
        error = steps.error()
        if not (math.isfinite(error) and are_finite(self._vae.encoder.parameters())):
            raise RaydrgnError(SPOILED_PRETRAINING)  # weights are the same on all workers
        if group.is_first:
            self._sink.log(
                f"the encoder gives the latents of the mixture with an error of {error:.0%} of "
                "their SD, and is frozen from here on"
            )
            if error > LARGE_ERROR:
                self._sink.note(LARGE_ERROR_NOTE)
            self._sink.save_checkpoint(
                Checkpoint(
                    position=Position(1, 0),
                    model=self._vae.state_dict(),
                    optimiser={},
                    sums=[0.0, 0.0, 0.0],
                )
            )
        self._saved = time.monotonic()
        return True

    def _run_epoch(self, epoch: int, first: int) -> bool:
        plan, rate = self._plan, 0.0
        selections = plan.batches(epoch)[first:]
        self._reduction.begin_epoch()
        losses_of_steps = self._steps.take(epoch, first, selections)
        for step, losses in enumerate(losses_of_steps, start=first):
            rate = self._rate(epoch, step)
            self._reduction.add(losses, plan.batch_count(step))
            last = step == plan.num_steps - 1
            if self._reduction.is_due or last:
                done = step + 1 - first
                taken = selections[done - self._reduction.num_steps : done]
                if not self._reduce(Position(epoch, step + 1), rate, taken, last=last):
                    return False
        return self._end_epoch(epoch, rate)

    def _reduce(
        self, position: Position, rate: float, taken: list[Int[Tensor, " _"]], *, last: bool
    ) -> bool:
        """Add up the losses since the last reduction; return False if the run is to end here."""
        steps = self._reduction.losses()  # (steps 3)
        is_sound = are_finite(self._vae.parameters())
        reduced = self._reduction.reduce(steps, are_weights_finite=is_sound)
        if not reduced.is_finite:
            broken = [i for i, row in enumerate(steps) if not np.isfinite(row).all()]
            if np.isfinite(reduced.sums).all():  # the gradient of the last step, then
                broken = [len(steps) - 1]
            start, _ = self._plan.rows
            rows = (taken[broken[0]] + start).tolist() if broken else []
            self._sink.report_divergence(position, rows, uses_amp=self._uses_amp)
            return False
        self._sums += reduced.sums
        if self._plan.rank == 0:
            done = min(position.step * self._plan.num_strata, self._plan.num_particles)
            means = reduced.sums / reduced.particles
            self._reduction.stop = self._report(
                self._progress(position, done, means, rate, reduced.rate)
            )
        self._is_stopping = reduced.stop or self._sink.is_interrupted()
        overdue = time.monotonic() - self._saved > 60 * self._config.checkpoint_minutes
        if not last and self._plan.rank == 0 and (overdue or self._is_stopping):
            self._save_checkpoint(position, rate)
        return last or not self._is_stopping

    def _end_epoch(self, epoch: int, rate: float) -> bool:
        """Keep the epoch's latents, weights and losses; return False if the run is to end here."""
        self.encode(epoch)
        mean, self._sums = self._sums / self._plan.num_particles, np.zeros(3)
        if self._plan.rank == 0:
            count, speed = self._plan.num_particles, self._reduction.epoch_rate
            position = Position(epoch, self._plan.num_steps)
            progress = self._progress(position, count, mean, rate, speed)
            self._report(replace(progress, done=True))  # first: a run that is killed has its losses
            self._save_checkpoint(Position(epoch + 1, 0), rate)
        return not self._is_stopping or epoch == self._config.epochs

    def _report(self, progress: TrainProgress) -> bool:
        """Report progress, at intervals with a line for the log; return whether to stop."""
        line, now = None, time.monotonic()
        if progress.done or now - self._logged >= LOG_SECONDS:
            self._logged = now
            line = log_line(
                progress, epochs=self._config.epochs, num_particles=self._plan.num_particles
            )
        return self._sink.report(progress, line)

    def _save_checkpoint(self, position: Position, rate: float) -> None:
        self._saved = time.monotonic()
        self._sink.save_checkpoint(
            Checkpoint(
                position=position,
                model=self._vae.state_dict(),
                optimiser=saved_state(self._optimiser, rate),
                sums=self._sums.tolist(),
            )
        )

    def _progress(
        self,
        position: Position,
        done: int,
        losses: Float[np.ndarray, "3"],
        rate: float,
        speed: float,
    ) -> TrainProgress:
        total, reconstruction, kl = (round(float(value), 6) for value in losses)
        return TrainProgress(
            epoch=position.epoch,
            step=position.step,
            particles=done,
            total=total,
            reconstruction=reconstruction,
            kl=kl,
            learning_rate=rate,
            rate=round(speed, 2),
            seconds=round(time.monotonic() - self._began, 3),
        )
