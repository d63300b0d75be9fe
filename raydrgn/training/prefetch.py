"""What steps take that differs from step to step, sent to the device for many steps at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.data.streaming import to_device
from raydrgn.shapes import Float, Int
from raydrgn.training.plan import BatchPlan

PREFETCHED_STEPS = 256

PADDING = -1
"""In the rows of a batch: no particle, but what gives the batch its size."""


class StepInput(NamedTuple):
    """What one step takes, on the device; the shapes are those of every step."""

    rows: Int[Tensor, " b"]
    """Particles, numbered within the worker's part; ``PADDING`` pads the batch."""

    points: Int[Tensor, " m"] | None
    """Fourier points to compare at; None means all."""

    rate: Float[Tensor, ""]
    """Learning rate."""

    factor: Float[Tensor, ""]
    """By which a worker's sum of losses is multiplied: one over the particles of all workers."""

    def clone(self) -> "StepInput":
        """Return a copy with tensors of its own."""
        points = None if self.points is None else self.points.clone()
        return StepInput(self.rows.clone(), points, self.rate.clone(), self.factor.clone())

    def copy_(self, other: "StepInput") -> None:
        """Take over the values of another step."""
        for mine, theirs in zip(self, other, strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)


def padded(selection: Int[Tensor, " _"], size: int) -> Int[Tensor, " b"]:
    """Return a selection of particles, padded to a size."""
    rows = torch.full((size,), PADDING)
    rows[: len(selection)] = selection
    return rows


def prefetched(
    plan: BatchPlan,
    selections: Sequence[Int[Tensor, " _"]],
    *,
    epoch: int,
    first: int,
    size: int,
    rate: Callable[[int, int], float],
    device: torch.device,
) -> Iterator[StepInput]:
    """Yield what the steps of an epoch take.

    ``PREFETCHED_STEPS`` steps at a time are drawn by a thread, while the device computes, and sent
    in one copy of whole numbers and one of others.

    Args:
        plan: Of the epoch's draws.
        selections: Particles of each step from ``first`` on.
        epoch: Number of the epoch.
        first: Step to begin with.
        size: Particles of each batch after padding.
        rate: Returns the learning rate of a step of an epoch.
        device: Where the steps are taken.
    """

    def drawn(start: int) -> tuple[Tensor, Tensor]:
        numbers, values = [], []
        for step, selection in enumerate(
            selections[start : start + PREFETCHED_STEPS], start=first + start
        ):
            points = plan.points(epoch, step)
            rows = padded(selection, size)
            numbers.append(rows if points is None else torch.cat([rows, points]))
            values.append((rate(epoch, step), 1 / plan.batch_count(step)))
        return torch.stack(numbers), torch.tensor(values)

    has_points = plan.num_chosen < plan.num_points
    with ThreadPoolExecutor(1) as drawer:
        ahead = drawer.submit(drawn, 0)
        for start in range(0, len(selections), PREFETCHED_STEPS):
            numbers, values = (to_device(part, device) for part in ahead.result())
            if start + PREFETCHED_STEPS < len(selections):
                ahead = drawer.submit(drawn, start + PREFETCHED_STEPS)
            for row, (step_rate, factor) in zip(numbers, values, strict=True):
                points = row[size:] if has_points else None
                yield StepInput(row[:size], points, step_rate, factor)
