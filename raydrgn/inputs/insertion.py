"""Slices of images summed in Fourier space: what back-projection adds up.

A slice's points fall between those of a grid twice as fine as the transform of the volume. Each is
shared out to the eight around it with trilinear weights, which on a grid point give all to it.
Half of the space is kept, x >= 0; the coefficient at -k is the conjugate of that at k, so a point
of the other half is inserted as its mate, and on the plane x = 0, where a point and its mate are
both kept, each stands for the other as well.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import shifts_px
from raydrgn.data.preprocess import Preparation, find_bad
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.geometry.lattice import check_box, half_disc, plane_coordinates
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.shapes import Complex, Float, Int

PADDING = 2
"""How much finer the grid is than the transform of the volume."""

INSERT_POINTS = 1 << 19
"""Points inserted at a time: tens of MB of indices and weights."""


WINDOW_RADIUS = 0.95
"""Where images begin to fade, as a fraction of half the box; what lies beyond is no particle."""


@dataclass(frozen=True, slots=True)
class SliceSums:
    """Sums over images at the points (z, y, x) of the fine grid, x from 0, z and y about 0."""

    box: int
    values: Complex[Tensor, "g g x"]
    """Sum of weight × transfer × coefficient."""

    weights: Float[Tensor, "g g x"]
    """Sum of weight × transfer²."""

    @classmethod
    def empty(cls, box: int) -> "SliceSums":
        """Return sums over nothing."""
        check_box(box)
        reach = PADDING * box // 2 + 1  # one more than the largest point, for its neighbour
        shape = (2 * reach + 1, 2 * reach + 1, reach + 1)
        return cls(box, torch.zeros(shape, dtype=torch.complex64), torch.zeros(shape))

    def __add__(self, other: "SliceSums") -> "SliceSums":
        return SliceSums(self.box, self.values + other.values, self.weights + other.weights)

    def insert(
        self,
        points: Float[Tensor, "b n 3"],
        coefficients: Complex[Tensor, "b n"],
        transfer: Float[Tensor, "b n"],
    ) -> None:
        """Add slices to the sums, in place: they are this object's own.

        Args:
            points: Places (kx, ky, kz) in units of 1/box cycles per pixel, |k| <= box/2; one of
                each pair (k, -k).
            coefficients: Of the images, at these places.
            transfer: What the coefficients were multiplied with in imaging.
        """
        flat = points.reshape(-1, 3) * PADDING
        mate = flat[:, 0] < 0
        flat = torch.where(mate[:, None], -flat, flat)
        value = (coefficients * transfer).flatten()
        value = torch.where(mate, value.conj(), value)
        self._spread(flat, value, transfer.square().flatten())

    def _spread(
        self, points: Float[Tensor, "n 3"], value: Complex[Tensor, " n"], power: Float[Tensor, " n"]
    ) -> None:
        reach, (_, rows, columns) = self.values.shape[2] - 1, self.values.shape
        # NumPy's unbuffered addition takes two thirds of the time of torch's index_add_ here
        values, weights = self.values.view(-1).numpy(), self.weights.view(-1).numpy()
        first = torch.floor(points)
        fraction = points - first
        x, y, z = first.long().unbind(-1)
        start = ((z + reach) * rows + (y + reach)) * columns + x
        sides = torch.stack([1 - fraction, fraction])  # (2 n 3)
        for dz, dy, dx in itertools.product((0, 1), repeat=3):
            weight = sides[dx, :, 0] * sides[dy, :, 1] * sides[dz, :, 2]
            where = (start + ((dz * rows + dy) * columns + dx)).numpy()
            np.add.at(values, where, (value * weight).resolve_conj().numpy())
            np.add.at(weights, where, (power * weight).numpy())

    def completed(self) -> "SliceSums":
        """Return the sums with the plane x = 0 holding each point and its mate."""
        values, weights = self.values.clone(), self.weights.clone()
        values[..., 0] += self.values[..., 0].flip(0, 1).conj()
        weights[..., 0] += self.weights[..., 0].flip(0, 1)
        return SliceSums(self.box, values, weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class InsertionOptions:
    """How images become slices."""

    invert: bool = True
    """Multiply images by −1; right for stacks with bright particles."""

    correct_ctf: bool = True
    """Weight by the contrast transfer; without it bright particles give positive density."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Some particles, summed by one task."""

    source: ImageSource
    rotations: Float[np.ndarray, "n 3 3"]
    shifts_px: Float[np.ndarray, "n 2"]
    pixel_size_angstrom: Float[np.ndarray, " n"]
    map_pixel_size_angstrom: float
    ctf: Float[np.ndarray, "n 7"] | None
    rows: Int[np.ndarray, " n"]
    """Numbers of the particles in the table, for messages."""

    @classmethod
    def of(
        cls,
        table: ParticleTable,
        rows: Int[np.ndarray, " n"],
        *,
        correct_ctf: bool,
        map_pixel_size_angstrom: float,
    ) -> "Lane":
        """Take some rows of a table."""
        part = table.select(rows)
        columns = [part.column(name) for name in CTF_COLUMNS] if correct_ctf else None
        return cls(
            source=ImageSource.of(part),
            rotations=part.rotations.astype(np.float32),
            shifts_px=shifts_px(part).astype(np.float32),
            pixel_size_angstrom=part.column("pixel_size_angstrom").astype(np.float32),
            map_pixel_size_angstrom=map_pixel_size_angstrom,
            ctf=None if columns is None else np.stack(columns, axis=-1).astype(np.float32),
            rows=np.asarray(rows),
        )


def sum_lane(
    lane: Lane, options: InsertionOptions, *, progress: Any = None
) -> tuple[SliceSums, Int[np.ndarray, " bad"]]:
    """Insert the images of a lane; return their sums, and the rows of unusable images.

    Memory is that of the sums and of one block of images, whatever the number of particles.

    Args:
        lane: Particles.
        options: How images become slices.
        progress: Called with the number of particles done since the last call.
    """
    box = lane.source.headers[0].shape[2]
    sums = SliceSums.empty(box)
    slicer = Slicer(box, options)
    bad = [np.empty(0, dtype=np.int64)]
    step = max(INSERT_POINTS // len(slicer.points), 1)
    for start, stop in block_ends(0, len(lane.rows), box=box):
        images = lane.source.part(start, stop).read()
        unusable = find_bad(images)
        bad.append(lane.rows[start:stop][unusable])
        kept = np.flatnonzero(~unusable)
        for i in range(0, len(kept), step):
            taken = kept[i : i + step]
            sums.insert(*slicer(images[taken], lane, start + taken))
        if progress:
            progress(stop - start)
    return sums, np.concatenate(bad)


class Slicer:
    """Turns images into slices: coefficients, their places, and the transfer there."""

    def __init__(self, box: int, options: InsertionOptions) -> None:
        origin = torch.zeros(1, 2, dtype=torch.int64)
        self.points = torch.cat([half_disc(box), origin])  # the origin is its own mate
        config = ImageConfig(box=box, invert=options.invert, window_radius=WINDOW_RADIUS)
        self._prepare = Preparation(config, points=self.points)
        self._plane = plane_coordinates(self.points, box)
        self._box = box
        self._sign = -1.0 if options.invert else 1.0

    def __call__(
        self, images: Float[np.ndarray, "b h w"], lane: Lane, rows: Int[np.ndarray, " b"]
    ) -> tuple[Float[Tensor, "b n 3"], Complex[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Return the arguments of ``SliceSums.insert`` for some images of a lane."""
        coefficients = torch.view_as_complex(self._prepare(images, lane.shifts_px[rows]))
        # The window would change the sum of pixels, by much where background nearly cancels it.
        coefficients[:, -1] = torch.from_numpy(images.sum((1, 2), dtype=np.float64)) * self._sign
        places = self._plane @ torch.from_numpy(lane.rotations[rows]) * self._box
        if lane.ctf is None:
            transfer = torch.full(coefficients.shape, -1.0)
        else:
            pixel_size = torch.from_numpy(lane.pixel_size_angstrom[rows])
            freqs = self._plane[:, :2] / pixel_size[:, None, None]
            params = CTFParameters.from_columns(torch.from_numpy(lane.ctf[rows]))
            transfer = contrast_transfer(freqs, params)
        return self._on_the_map(places, transfer, lane, rows, coefficients)

    def _on_the_map(
        self,
        places: Float[Tensor, "b n 3"],
        transfer: Float[Tensor, "b n"],
        lane: Lane,
        rows: Int[np.ndarray, " b"],
        coefficients: Complex[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n 3"], Complex[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Move points to where they lie in a map of another pixel size; drop those beyond it."""
        scale = torch.from_numpy(lane.map_pixel_size_angstrom / lane.pixel_size_angstrom[rows])
        if (scale == 1).all():
            return places, coefficients, transfer
        places = places * scale[:, None, None].float()
        outside = places.square().sum(-1) > (self._box / 2) ** 2
        places = places.masked_fill(outside[..., None], 0.0)
        return places, coefficients, transfer.masked_fill(outside, 0.0)
