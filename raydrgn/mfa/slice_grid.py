"""A Fourier grid of several volumes in half a ball, of which slices are taken."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.shapes import Bool, Float, Int


class PlanePoints(NamedTuple):
    """Where the points of a plane z are."""

    rows: slice
    """Of ``SliceGrid.values``."""

    reach: int
    """Of the plane along y and x."""

    inside: Bool[Tensor, "y x"]
    """Which points of the square within reach are in the plane."""


@dataclass(frozen=True, slots=True)
class SliceGrid:
    """Transforms of volumes at the grid points with z >= 0 that slices within a radius need.

    A cube has nearly twice as many points.
    """

    values: Float[Tensor, "n f"]
    """Real parts of all volumes, then the imaginary parts; by z, then y, then x."""

    at_zero: Int[Tensor, "z y"]
    """Which of the values has x = 0; y from -reach on."""

    widths: Int[Tensor, "z y"]
    """Largest x of each row along x; -1 of rows without points. On the CPU."""

    @classmethod
    def empty(cls, reach: int, *, num_volumes: int, device: torch.device) -> "SliceGrid":
        """Return a grid for points nearer to the origin than ``reach`` grid points, unfilled."""
        widths = _widths(reach)
        counts = (2 * widths + 1).clamp(min=0).flatten()
        ends = counts.cumsum(0)
        at_zero = (ends - counts).view_as(widths) + widths.clamp(min=0)
        values = torch.empty(int(ends[-1]), 2 * num_volumes, device=device)
        return cls(values, at_zero.to(device), widths)

    @property
    def reach(self) -> int:
        """Radius in grid points from which on there are no slices."""
        return len(self.widths) - 1

    def planes(self) -> Iterator[PlanePoints]:
        """Yield where the points of each plane are, from z = 0 on."""
        first = 0
        for widths in self.widths:
            reach = int(widths.max())
            ticks = torch.arange(-reach, reach + 1)
            rows = widths[self.reach - reach : self.reach + reach + 1]
            inside = ticks.abs() <= rows[:, None]
            stop = first + int(inside.sum())
            yield PlanePoints(slice(first, stop), reach, inside.to(self.values.device))
            first = stop


def num_points(reach: int) -> int:
    """Return how many points a grid has, without making it."""
    return int((2 * _widths(reach) + 1).clamp(min=0).sum())


def _widths(reach: int) -> Int[Tensor, "z y"]:
    """Return the largest x of each row that the cells of points inside have, or -1."""
    zs, ys = torch.arange(reach + 1), torch.arange(-reach, reach + 1).abs()
    # A point's cell reaches to the next row: the row is of points up to one nearer to the origin.
    zs, ys = ((axis - 1).clamp(min=0).double() for axis in (zs, ys))
    square = reach**2 - zs[:, None].square() - ys.square()
    widths = square.clamp(min=0).sqrt().floor().long() + 1
    return torch.where(square > 0, widths, -1).clamp(max=reach)
