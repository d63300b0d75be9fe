"""Volumes and their Fourier grids: padded for slices, unpadded for sums over slices.

Slices are interpolated trilinearly on a grid twice as fine as the transform of the volume, and
sums are spread trilinearly on the transform's own grid. A trilinear kernel multiplies the volume by
sinc² along each axis; volumes are divided by it before and after.
"""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from raydrgn.io.pixel_sizes import LARGEST_DIFFERENCE
from raydrgn.mfa.slice_grid import (
    PADDING,
    GridPoints,
    PlanePoints,
    SliceGrid,
    SliceGridFile,
)
from raydrgn.shapes import Complex, Float

TRANSFORMED = 4
"""Volumes that a grid of slices is made of at a time, or as many planes of more volumes."""

LEAST_ENVELOPE = 0.2
"""Limit to the division by sinc², which is 0.07 in the corners of the box."""


class VolumeGrids:
    """Transforms between volumes of one box and the grids of ``raydrgn.mfa.interpolation``."""

    def __init__(
        self, box: int, *, device: torch.device, grid_file: SliceGridFile | None = None
    ) -> None:
        """Prepare transforms.

        Args:
            box: Of the volumes.
            device: Where to compute.
            grid_file: Where grids of all volumes are kept, if memory has no room for them.
        """
        self.box = box
        self.device = device
        self._file = grid_file
        ticks = torch.arange(-(box // 2), box // 2, device=device)
        fine, coarse = (torch.sinc(ticks / (scale * box)).square() for scale in (PADDING, 1))
        self._fine = _outer(fine)
        self._coarse = _outer(coarse).clamp(min=LEAST_ENVELOPE)
        zs = torch.arange(box // 2 + 1, device=device)
        ys = torch.arange(-(box // 2), box // 2 + 1, device=device)
        self.radius = (
            (zs[:, None, None] ** 2 + ys[None, :, None] ** 2 + ys[None, None, :] ** 2)
            .float()
            .sqrt()
        )
        """Of each point of the unpadded grid."""

        self.shell = self.radius.round().long().clamp(max=box // 2)
        """Fourier shell of each point of the unpadded grid."""

        self._inside = self.radius < box / 2
        # Both points of a pair are in the plane z = 0, one of them elsewhere.
        self._pairs = torch.where(zs == 0, 1.0, 2.0)[:, None, None].expand_as(self.radius)
        self._counts = self._shell_sums(torch.ones_like(self.radius)[None])[0].clamp(min=1)

    @property
    def num_shells(self) -> int:
        """Fourier shells, from 0 to half of the box."""
        return self.box // 2 + 1

    def for_slices(self, volumes: Float[Tensor, "k d d d"], *, radius: float) -> SliceGrid:
        """Return the grid of ``gather``, whose points are 1/(2·box) cycles per pixel apart.

        Args:
            volumes: Of the box.
            radius: Of the points of images, cycles per box. The grid reaches as far as those of the
                smallest pixels.
        """
        points, count = self._points_within(radius), len(volumes)
        grid = SliceGrid.empty(points, num_volumes=count, device=self.device)
        for first in range(0, count, TRANSFORMED):  # some at a time: the transforms take memory
            some = volumes[first : first + TRANSFORMED]
            stop = first + len(some)
            for plane, values in self._transformed(some, points, at_once=points.reach + 1):
                of_plane = grid.values[plane.rows]
                of_plane[:, first:stop], of_plane[:, count + first : count + stop] = values
        return grid

    def for_passes(
        self, volumes: Float[Tensor, "k d d d"], *, radius: float
    ) -> SliceGrid | SliceGridFile:
        """Return the same, or the file that has it."""
        if self._file is None:
            return self.for_slices(volumes, radius=radius)
        points = self._points_within(radius)
        self._file.begin(points)
        at_once = -(-(points.reach + 1) * TRANSFORMED // len(volumes))
        for plane, values in self._transformed(volumes, points, at_once=at_once):
            self._file.write(plane.rows, torch.cat(values, dim=1))
        return self._file

    def _points_within(self, radius: float) -> GridPoints:
        farthest = PADDING * radius * (1 + LARGEST_DIFFERENCE)
        return GridPoints.within(min(math.ceil(farthest) + 1, PADDING * self.box // 2))

    def _transformed(
        self, volumes: Float[Tensor, "k d d d"], points: GridPoints, *, at_once: int
    ) -> Iterator[tuple[PlanePoints, tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]]]:
        """Yield real and imaginary parts of transforms at the points of each plane.

        They are of one axis after the other, since most of a padded volume is 0.

        Args:
            volumes: Of the box.
            points: Of the grid.
            at_once: Planes for which the first axis is transformed, which takes memory.
        """
        fine, planes = PADDING * self.box, points.planes(device=self.device)
        for first in range(0, points.reach + 1, at_once):
            count = min(at_once, points.reach + 1 - first)
            columns = volumes.new_empty(
                len(volumes), count, self.box, self.box, dtype=torch.complex64
            )
            for number, volume in enumerate(volumes):
                padded = _origin_first(volume / self._fine, -3, fine)
                columns[number] = torch.fft.rfft(padded, dim=-3)[first : first + count]
            for plane, values in zip(islice(planes, count), columns.unbind(1), strict=True):
                kept = torch.arange(-plane.reach, plane.reach + 1, device=self.device) % fine
                parts = []
                for some in values.split(TRANSFORMED):  # rounding varies with how many they are
                    rows = torch.fft.fft(_origin_first(some, -2, fine), dim=-2)[:, kept]
                    of_plane = torch.fft.fft(_origin_first(rows, -1, fine), dim=-1)[:, :, kept]
                    parts.append(of_plane[:, plane.inside])
                inside = torch.cat(parts).T
                yield plane, (inside.real, inside.imag)

    def empty_sums(self, num_volumes: int) -> Float[Tensor, "z y x f"]:
        """Return a grid of ``insert`` with nothing in it; its points are 1/box apart."""
        box = self.box
        return torch.zeros(box // 2 + 1, box + 1, box + 1, 2 * num_volumes, device=self.device)

    def coefficients(
        self, sums: Float[Tensor, "z y x f"], shares: Float[Tensor, " k"]
    ) -> Complex[Tensor, "z y x"]:
        """Return what was inserted, each point of the plane z = 0 with its Friedel mate's.

        Args:
            sums: Of ``insert``.
            shares: Of each volume, by which they are added up.
        """
        count = len(shares)
        values = torch.complex(sums[..., :count] @ shares, sums[..., count:] @ shares)
        values[0] += values[0].flip((-2, -1)).conj()
        return values

    def subtract(
        self, sums: Float[Tensor, "z y x f"], number: int, coefficients: Complex[Tensor, "z y x"]
    ) -> None:
        """Take the coefficients of a real volume from what was inserted of one volume."""
        both = torch.ones(len(coefficients), 1, 1, device=self.device)
        both[0] = 0.5  # each point of the plane z = 0 is added up with its Friedel pair
        sums[..., number] -= both * coefficients.real
        sums[..., sums.shape[-1] // 2 + number] -= both * coefficients.imag

    def spectrum(self, volumes: Float[Tensor, "k d d d"]) -> Complex[Tensor, "k z y x"]:
        """Return the transform of volumes on the unpadded grid."""
        box = self.box
        out = torch.empty(
            len(volumes), box // 2 + 1, box + 1, box + 1, dtype=torch.complex64, device=self.device
        )
        for number, volume in enumerate(volumes):
            out[number, :, :box, :box] = _half_transform(volume)
        out[:, :, box] = out[:, :, 0]
        out[:, :, :, box] = out[:, :, :, 0]
        return out

    def volumes(
        self, spectrum: Complex[Tensor, "k z y x"], *, radius: float | None = None
    ) -> Float[Tensor, "k d d d"]:
        """Return the volumes of coefficients on the unpadded grid, divided by sinc²."""
        box = self.box
        inside = self._inside if radius is None else self._inside & (self.radius < radius)
        kept = (spectrum * inside)[:, :, :box, :box]
        kept = torch.fft.ifftshift(kept, (-2, -1))
        # dim = -3 is the halved axis: its last frequency, z = box/2, is beyond the ball
        values = torch.fft.irfftn(kept, s=(box, box, box), dim=(-2, -1, -3))
        return torch.fft.fftshift(values, (-3, -2, -1)) / self._coarse

    def shell_means(self, values: Float[Tensor, "k z y x"]) -> Float[Tensor, "k shells"]:
        """Return the mean of values over each Fourier shell inside the ball."""
        return self._shell_sums(values) / self._counts

    def at_shell(self, values: Float[Tensor, " shells"]) -> Float[Tensor, "z y x"]:
        """Return the value of its shell at each point of the unpadded grid."""
        return values[self.shell]

    def neighbour_means(self, values: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
        """Return the mean of real values over each point and its 26 neighbours."""
        both = torch.cat([values[1:2].flip((1, 2)), values])[None, None]
        around = functional.pad(both, (1, 1, 1, 1, 0, 1), mode="replicate")
        return functional.avg_pool3d(around, 3, stride=1)[0, 0]

    def power(self, volumes: Float[Tensor, "k d d d"]) -> Float[Tensor, "k shells"]:
        """Return the mean |F|² of volumes over each Fourier shell."""
        parts = [self.spectrum(volume[None]).abs().square() for volume in volumes]
        return torch.cat([self.shell_means(part) for part in parts])

    def _shell_sums(self, values: Float[Tensor, "k z y x"]) -> Float[Tensor, "k shells"]:
        weights = (self._pairs * self._inside).flatten().double()
        shell = self.shell.flatten()
        return torch.stack(
            [
                torch.bincount(shell, part.flatten().double() * weights, minlength=self.num_shells)
                for part in values
            ]
        ).float()


def _origin_first(values: Tensor, axis: int, size: int) -> Tensor:
    """Return an array padded along an axis, with its middle first and what is before it last."""
    before = values.shape[axis] // 2
    shape = list(values.shape)
    shape[axis] = size
    padded = values.new_zeros(shape)
    padded.narrow(axis, 0, before).copy_(values.narrow(axis, before, before))
    padded.narrow(axis, size - before, before).copy_(values.narrow(axis, 0, before))
    return padded


def _half_transform(volume: Float[Tensor, "d d d"]) -> Complex[Tensor, "z d d"]:
    """Return the centred transform for z >= 0, y and x from the most negative on."""
    shifted = torch.fft.ifftshift(volume)
    half = torch.fft.rfftn(shifted, dim=(-2, -1, -3))
    return torch.fft.fftshift(half, (-2, -1))


def _outer(values: Float[Tensor, " d"]) -> Float[Tensor, "d d d"]:
    return values[:, None, None] * values[None, :, None] * values[None, None, :]
