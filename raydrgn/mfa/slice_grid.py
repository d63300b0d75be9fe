"""A Fourier grid of several volumes in half a ball, of which slices are taken.

Where memory has no room for the whole grid, it is kept in a file and read in slabs: planes that
follow each other. What is taken of it is the same to the bit.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.errors import StorageError
from raydrgn.io import storage
from raydrgn.io.file_ranges import read_range, write_range
from raydrgn.io.scratch import scratch_file
from raydrgn.shapes import Bool, Float, Int

PADDING = 2
"""How much finer the grid of slices is than the transform of the volume."""


class PlanePoints(NamedTuple):
    """Where the points of a plane z are."""

    rows: slice
    """Of ``SliceGrid.values``."""

    reach: int
    """Of the plane along y and x."""

    inside: Bool[Tensor, "y x"]
    """Which points of the square within reach are in the plane."""


@dataclass(frozen=True, slots=True)
class GridPoints:
    """The grid points with z >= 0 that slices within a radius need.

    A cube has nearly twice as many points.
    """

    widths: Int[Tensor, "z y"]
    """Largest x of each row along x; -1 of rows without points; y from -reach on."""

    @classmethod
    def within(cls, reach: int) -> "GridPoints":
        """Return those for points nearer to the origin than ``reach`` grid points."""
        zs, ys = torch.arange(reach + 1), torch.arange(-reach, reach + 1).abs()
        # A cell reaches to the next row: the row is of points up to one nearer to the origin.
        zs, ys = ((axis - 1).clamp(min=0).double() for axis in (zs, ys))
        square = reach**2 - zs[:, None].square() - ys.square()
        widths = square.clamp(min=0).sqrt().floor().long() + 1
        return cls(torch.where(square > 0, widths, -1).clamp(max=reach))

    def __len__(self) -> int:
        return int(self._counts().sum())

    @property
    def reach(self) -> int:
        """Radius in grid points from which on there are no slices."""
        return len(self.widths) - 1

    def at_zero(self) -> Int[Tensor, "z y"]:
        """Return which of the points has x = 0, of each row along x."""
        counts = self._counts().flatten()
        firsts = (counts.cumsum(0) - counts).view_as(self.widths)
        return firsts + self.widths.clamp(min=0)

    def planes(self, *, device: torch.device) -> Iterator[PlanePoints]:
        """Yield where the points of each plane are, from z = 0 on."""
        first = 0
        for widths in self.widths:
            reach = int(widths.max())
            ticks = torch.arange(-reach, reach + 1)
            rows = widths[self.reach - reach : self.reach + reach + 1]
            inside = ticks.abs() <= rows[:, None]
            stop = first + int(inside.sum())
            yield PlanePoints(slice(first, stop), reach, inside.to(device))
            first = stop

    def ends(self) -> Int[Tensor, " z"]:
        """Return behind which of the points each plane ends."""
        return self._counts().sum(1).cumsum(0)

    def _counts(self) -> Int[Tensor, "z y"]:
        return (2 * self.widths + 1).clamp(min=0)


@dataclass(frozen=True, slots=True)
class SliceGrid:
    """Transforms of volumes at the points of a grid, or of some planes of it that lie together."""

    values: Float[Tensor, "n f"]
    """Real parts of all volumes, then the imaginary parts; by z, then y, then x."""

    at_zero: Int[Tensor, "z y"]
    """Which of the values has x = 0; y from -reach on."""

    cells: range
    """By the plane at which they begin, the cells that points may lie in: all, or a slab's."""

    @classmethod
    def empty(cls, points: GridPoints, *, num_volumes: int, device: torch.device) -> "SliceGrid":
        """Return a whole grid, unfilled."""
        values = torch.empty(len(points), 2 * num_volumes, device=device)
        return cls(values, points.at_zero().to(device), range(points.reach))

    @property
    def reach(self) -> int:
        """Radius in grid points from which on there are no slices."""
        return len(self.at_zero) - 1

    @property
    def is_whole(self) -> bool:
        """Whether it has all planes."""
        return len(self.cells) == self.reach

    def slabs(self) -> Iterator["SliceGrid"]:
        """Yield the grid, which is one slab."""
        yield self


SLABS = 12
"""Into which a grid is split that memory has no room for."""

MARGIN = 1
"""Planes before and after those of a slab's cells, which slopes of slices reach."""


class Slab(NamedTuple):
    """Planes of a grid that follow each other."""

    cells: range
    """As of ``SliceGrid``."""

    rows: slice
    """Of the values of the whole grid, with those of the margins."""


def slabs_of(points: GridPoints) -> list[Slab]:
    """Return the slabs of a grid, of about as many points each."""
    reach, ends = points.reach, [0, *points.ends().tolist()]
    shares = torch.arange(1, SLABS) * len(points) // SLABS
    inner = torch.searchsorted(points.ends(), shares).clamp(max=reach)
    slabs = []
    for first, stop in pairwise([0, *inner.tolist(), reach]):
        if first < stop:
            planes = max(first - MARGIN, 0), min(stop + MARGIN, reach)
            rows = slice(ends[planes[0]], ends[planes[1] + 1])
            slabs.append(Slab(range(first, stop), rows))
    return slabs


class SliceGridFile:
    """A whole grid in a file on a local disk, of which slabs are read."""

    def __init__(self, folder: Path, *, box: int, num_volumes: int) -> None:
        """Make the file, with room for the largest grid of a box.

        Raises:
            StorageError: If the disk has no room for it, or cannot be written.
        """
        self.folder = str(folder)
        self.num_volumes = num_volumes
        self._points = GridPoints.within(PADDING * box // 2)
        self._file = scratch_file(
            folder,
            self.num_bytes,
            need="the Fourier grid of the components, for which memory has no room, needs",
            remedy="Set TMPDIR to a larger local disk, or fit fewer components "
            "(raydrgn train --components).",
        )
        weakref.finalize(self, self._file.close)

    @property
    def _row_bytes(self) -> int:
        return 8 * self.num_volumes

    @property
    def num_bytes(self) -> int:
        """Of the grid."""
        return self._row_bytes * len(self._points)

    def begin(self, points: GridPoints) -> None:
        """Begin a grid, whose planes are then written."""
        self._points = points

    def write(self, rows: slice, values: Float[Tensor, "n f"]) -> None:
        """Write the values of a plane."""
        with storage.explained(self.folder, action="written"):
            data = values.contiguous().numpy().data.cast("B")
            write_range(self._file.fileno(), data, self._row_bytes * rows.start)

    def slabs(self) -> Iterator[SliceGrid]:
        """Yield slabs of the grid, which are read into the same memory one after the other."""
        slabs, at_zero = slabs_of(self._points), self._points.at_zero()
        most = max(slab.rows.stop - slab.rows.start for slab in slabs)
        buffer = torch.empty(most, 2 * self.num_volumes)
        for cells, rows in slabs:
            values = buffer[: rows.stop - rows.start]
            self._read(rows.start, values)
            yield SliceGrid(values, at_zero - rows.start, cells)

    def _read(self, first: int, values: Float[Tensor, "n f"]) -> None:
        with storage.explained(self.folder, action="read"):
            data = values.numpy().data.cast("B")
            if read_range(self._file.fileno(), data, self._row_bytes * first) < len(data):
                raise StorageError(
                    f"A file of raydrgn's in {self.folder} has been cut short. Run the same "
                    "command again."
                )
