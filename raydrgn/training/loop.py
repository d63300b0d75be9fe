"""The training loop: from a state to the last epoch, on one process of any number.

It knows neither Ray nor where states go: a ``Link`` connects it to whoever keeps them.
"""

import time
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, distributed, nn

from raydrgn.data.shard import ResidentShard
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.directory import Position
from raydrgn.run.recipe import TrainConfig
from raydrgn.run.state import TrainingState
from raydrgn.shapes import Float, Int
from raydrgn.training.plan import BatchPlan
from raydrgn.training.schedule import learning_rate
from raydrgn.training.step import SliceLattice, Stepper, encoder_input, transfer

PULSE_SECONDS = 1.0
"""Time between two looks at the losses; between them nothing waits for the device."""

ENCODE_BATCH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is; losses are means over the particles since the last pulse or the epoch."""

    epoch: int
    step: int
    particles: int
    """Particles done in this epoch, over all workers."""

    total: float
    reconstruction: float
    kl: float
    learning_rate: float
    rate: float
    """Particles per second over all workers, since the last pulse."""

    seconds: float
    """Since the loop began."""

    done: bool = False
    """Whether the epoch is finished, and the losses are means over it."""


@runtime_checkable
class Link(Protocol):
    """How a loop is connected to whoever keeps its results; only rank 0 calls all of it."""

    def put_state(self, state: TrainingState) -> None:
        """Keep a state; wait for the one before only."""
        ...

    def put_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep this worker's latents of an epoch; every worker calls this."""
        ...

    def pulse(self, progress: Progress) -> bool:
        """Tell how far the run is; return whether it is to stop."""
        ...

    def diverged(self, position: Position, rows: list[int]) -> None:
        """Tell in which table rows the loss stopped being finite; every worker calls this."""
        ...


class TrainingLoop:
    """Epochs over one worker's shard."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        plan: BatchPlan,
        shard: ResidentShard,
        vae: HeterogeneousVAE,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        lattice: SliceLattice,
        network: ModelConfig,
        link: Link,
    ) -> None:
        """Connect the parts; ``model`` is ``vae``, wrapped for several workers if there are."""
        self._config = config
        self._plan = plan
        self._shard = shard
        self._vae = vae
        self._optimiser = optimiser
        self._lattice = lattice
        self._device = lattice.plane.device
        self._zdim = network.zdim
        self._peak_rate = config.peak_rate(network.decoder_width)
        self._link = link
        self._stepper = Stepper(
            model,
            optimiser,
            lattice,
            beta=config.kl_weight(network.zdim),
            amp=config.amp,
            world=plan.world,
        )
        self._pulse = _Pulse(self._device)
        self._sums = np.zeros(3)
        self._is_stopping = False
        self._began = time.monotonic()
        self._saved = self._began

    def load(self, state: TrainingState) -> Position:
        """Put network and optimiser where a state left them, and return its position."""
        self._vae.load_state_dict(state.model)
        self._optimiser.load_state_dict(state.optimiser)
        self._sums = np.array(state.sums)
        return state.position

    def run(self, start: Position) -> bool:
        """Train from a position to the end; return False if it was stopped before."""
        for epoch in range(start.epoch, self._config.epochs + 1):
            first = start.step if epoch == start.epoch else 0
            if not self._run_epoch(epoch, first):
                return False
        return True

    def encode(self, epoch: int) -> None:
        """Make the latents of this worker's particles with the present weights, and keep them."""
        means, logvars = [], []
        rows = torch.arange(len(self._shard)).split(ENCODE_BATCH)
        with torch.inference_mode():
            for batch in self._shard.batches(rows):
                hartley = encoder_input(batch, transfer(batch, self._lattice))
                mean, logvar = self._vae.encoder.encode(hartley)
                means.append(mean.cpu())
                logvars.append(logvar.cpu())
        empty = torch.empty(0, self._zdim)
        z, spread = (torch.cat([empty, *parts]).numpy() for parts in (means, logvars))
        self._link.put_latents(epoch, self._plan.rows[0], z, spread)

    def _run_epoch(self, epoch: int, first: int) -> bool:
        plan, steps = self._plan, range(first, self._plan.num_steps)
        order = plan.order(epoch)
        noise = plan.noise(epoch, self._zdim)
        shares = [order[slice(*plan.share(step))] for step in steps]
        rate = 0.0
        self._pulse.start()
        for step, rows, batch in zip(steps, shares, self._shard.batches(shares), strict=True):
            points = plan.points(epoch, step)
            rate = self._learning_rate(epoch, step)
            losses = self._stepper(
                batch,
                noise=noise[rows].to(self._device, non_blocking=True),
                points=None if points is None else points.to(self._device, non_blocking=True),
                batch_count=plan.batch_count(step),
                learning_rate=rate,
            )
            self._pulse.add(losses, plan.batch_count(step))
            last = step == plan.num_steps - 1
            if self._pulse.is_due or last:
                taken = shares[step + 1 - first - self._pulse.num_steps : step + 1 - first]
                if not self._beat(Position(epoch, step + 1), rate, taken, last=last):
                    return False
        return self._end_epoch(epoch, rate)

    def _learning_rate(self, epoch: int, step: int) -> float:
        before = (epoch - 1) * self._plan.num_steps + step
        num_steps = self._plan.num_steps * self._config.epochs
        return learning_rate(self._config, peak=self._peak_rate, step=before, num_steps=num_steps)

    def _beat(
        self, position: Position, rate: float, taken: list[Int[Tensor, " _"]], *, last: bool
    ) -> bool:
        """Look at the losses since the last pulse; return False if the run is to end here."""
        steps = self._pulse.losses()  # (steps 3)
        beat = self._pulse.exchange(steps)
        if not np.isfinite(beat.sums).all():
            broken = [i for i, row in enumerate(steps) if not np.isfinite(row).all()]
            start, _ = self._plan.rows
            self._link.diverged(position, (taken[broken[0]] + start).tolist() if broken else [])
            return False
        self._sums += beat.sums
        if self._plan.rank == 0:
            done = min(position.step * self._config.batch_size, self._plan.num_particles)
            self._pulse.stop = self._link.pulse(
                self._progress(position, done, beat.sums / beat.particles, rate, beat.rate)
            )
        self._is_stopping = beat.stop
        overdue = time.monotonic() - self._saved > 60 * self._config.checkpoint_minutes
        if not last and self._plan.rank == 0 and (overdue or beat.stop):
            self._put_state(position)
        return last or not beat.stop

    def _end_epoch(self, epoch: int, rate: float) -> bool:
        """Keep the epoch's latents, weights and losses; return False if the run is to end here."""
        self.encode(epoch)
        mean, self._sums = self._sums / self._plan.num_particles, np.zeros(3)
        if self._plan.rank == 0:
            self._put_state(Position(epoch + 1, 0))
            count, seconds = self._plan.num_particles, max(self._pulse.epoch_seconds, 1e-9)
            position = Position(epoch, self._plan.num_steps)
            progress = self._progress(position, count, mean, rate, count / seconds)
            self._link.pulse(replace(progress, done=True))
        return not self._is_stopping or epoch == self._config.epochs

    def _put_state(self, position: Position) -> None:
        self._saved = time.monotonic()
        self._link.put_state(
            TrainingState(
                position=position,
                model=self._vae.state_dict(),
                optimiser=self._optimiser.state_dict(),
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
    ) -> Progress:
        total, reconstruction, kl = (round(float(value), 6) for value in losses)
        return Progress(
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


class _Beat(NamedTuple):
    """What all workers know after a pulse."""

    sums: Float[np.ndarray, "3"]
    particles: int
    rate: float
    stop: bool


class _Pulse:
    """Collects losses on the device, and brings workers together about once a second.

    Rank 0's clock decides after how many steps the next pulse is, so that all take it together; a
    wish to stop is heard by all at the pulse after the one at which rank 0 heard it.
    """

    def __init__(self, device: torch.device) -> None:
        self.stop = False
        self._device = device
        self._interval = 1
        self.start()

    def start(self) -> None:
        """Begin an epoch."""
        self._steps: list[Tensor] = []
        self._particles = 0
        self._since = self._epoch_began = time.monotonic()

    @property
    def num_steps(self) -> int:
        """Steps since the last pulse."""
        return len(self._steps)

    @property
    def is_due(self) -> bool:
        """Whether it is time for a pulse."""
        return len(self._steps) >= self._interval

    @property
    def epoch_seconds(self) -> float:
        """Time since the epoch began."""
        return time.monotonic() - self._epoch_began

    def add(self, losses: Float[Tensor, "3"], particles: int) -> None:
        """Note the losses of a step, without waiting for them."""
        self._steps.append(losses)
        self._particles += particles

    def losses(self) -> Float[np.ndarray, "steps 3"]:
        """Return the losses of this worker's steps since the last pulse; waits for the device."""
        return torch.stack(self._steps).double().cpu().numpy()

    def exchange(self, steps: Float[np.ndarray, "steps 3"]) -> _Beat:
        """Add up all workers' losses, and agree on the next pulse."""
        elapsed = max(time.monotonic() - self._since, 1e-6)
        wanted = min(max(len(steps) * PULSE_SECONDS / elapsed, 1), 2 * self._interval)
        leads = not distributed.is_initialized() or distributed.get_rank() == 0
        mine = [*steps.sum(axis=0), *((wanted, float(self.stop)) if leads else (0.0, 0.0))]
        shared = torch.tensor(mine, dtype=torch.float64, device=self._device)
        if distributed.is_initialized():
            distributed.all_reduce(shared)
        values = shared.cpu().numpy()
        beat = _Beat(values[:3], self._particles, self._particles / elapsed, values[4] > 0)
        self._interval = max(int(values[3]), 1) if np.isfinite(values[3]) else 1
        self._steps, self._particles, self._since = [], 0, time.monotonic()
        return beat
