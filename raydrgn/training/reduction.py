"""Losses of all workers, added up about once a second."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed

from raydrgn.shapes import Float

REDUCE_SECONDS = 1.0
"""Time between two reductions; between them nothing waits for the device."""


class ReducedLosses(NamedTuple):
    """What all workers know after a reduction."""

    sums: Float[np.ndarray, "3"]
    """Total, reconstruction and KL, summed over the particles of all workers."""

    particles: int
    rate: float
    """Particles per second."""

    stop: bool
    """Whether training is to stop."""

    are_weights_finite: bool
    """Those of all workers; a gradient that is not finite spoils them after a loss that is."""

    @property
    def is_finite(self) -> bool:
        """Whether losses and weights are finite."""
        return self.are_weights_finite and bool(np.isfinite(self.sums).all())


def are_finite(weights: Iterable[Tensor]) -> bool:
    """Return whether weights are finite, as their sums are; waits for the device."""
    return bool(torch.stack([weight.detach().sum() for weight in weights]).isfinite().all())


class MetricReduction:
    """Collects losses on the device, and adds up those of all workers about once a second.

    Rank 0's clock decides after how many steps the next reduction is, so that all workers take part
    in it. A request to stop reaches all workers with the reduction after rank 0 has received it.
    """

    def __init__(self, device: torch.device) -> None:
        self.stop = False
        self._device = device
        self._interval = 1
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Start the clock of an epoch."""
        self._steps: list[Tensor] = []
        self._particles = self._epoch_particles = 0
        self._since = self._epoch_began = time.monotonic()

    @property
    def num_steps(self) -> int:
        """Steps since the last reduction."""
        return len(self._steps)

    @property
    def is_due(self) -> bool:
        """Whether it is time for a reduction."""
        return len(self._steps) >= self._interval

    @property
    def epoch_rate(self) -> float:
        """Particles per second since the epoch began, or since training went on within it."""
        return self._epoch_particles / max(time.monotonic() - self._epoch_began, 1e-6)

    def add(self, losses: Float[Tensor, "3"], particles: int) -> None:
        """Keep the losses of a step, without waiting for them."""
        self._steps.append(losses)
        self._particles += particles
        self._epoch_particles += particles

    def losses(self) -> Float[np.ndarray, "steps 3"]:
        """Return the losses of this worker's steps since the last reduction.

        Waits for the device.
        """
        return torch.stack(self._steps).double().cpu().numpy()

    def reduce(
        self, steps: Float[np.ndarray, "steps 3"], *, are_weights_finite: bool
    ) -> ReducedLosses:
        """Add up all workers' losses, and agree on the next reduction."""
        elapsed = max(time.monotonic() - self._since, 1e-6)
        wanted = min(max(len(steps) * REDUCE_SECONDS / elapsed, 1), 2 * self._interval)
        leads = not distributed.is_initialized() or distributed.get_rank() == 0
        agreed = (wanted, float(self.stop)) if leads else (0.0, 0.0)
        mine = [*steps.sum(axis=0), *agreed, float(not are_weights_finite)]
        shared = torch.tensor(mine, dtype=torch.float64, device=self._device)
        if distributed.is_initialized():
            distributed.all_reduce(shared)
        values = shared.cpu().numpy()
        reduced = ReducedLosses(
            sums=values[:3],
            particles=self._particles,
            rate=self._particles / elapsed,
            stop=bool(values[4] > 0),
            are_weights_finite=bool(values[5] == 0),
        )
        self._interval = max(int(values[3]), 1) if np.isfinite(values[3]) else 1
        self._steps, self._particles, self._since = [], 0, time.monotonic()
        return reduced
