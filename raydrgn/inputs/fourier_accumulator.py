"""A Fourier accumulator: coefficients of slices, summed on a grid in the space of the volume.

A slice's points fall between those of a grid twice as fine as the transform of the volume. Each is
shared out to the eight around it with trilinear weights, which on a grid point give all to it.
Half of the space is kept, x >= 0; the coefficient at -k is the conjugate of that at k, so a point
of the other half is inserted as its Friedel mate, and on the plane x = 0, where a point and its
Friedel mate are both kept, each stands for the other as well.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.geometry.box import check_box
from raydrgn.shapes import Complex, Float

PADDING = 2
"""How much finer the grid is than the transform of the volume."""


@dataclass(frozen=True, slots=True)
class FourierAccumulator:
    """Sums over slices at the points (z, y, x) of the fine grid, x from 0, z and y about 0."""

    box: int
    values: Complex[Tensor, "g g x"]
    """Sum of weight × CTF × coefficient."""

    weights: Float[Tensor, "g g x"]
    """Sum of weight × CTF²."""

    @classmethod
    def empty(cls, box: int) -> "FourierAccumulator":
        """Return an accumulator without slices."""
        check_box(box)
        reach = PADDING * box // 2 + 1  # one more than the largest point, for its neighbour
        shape = (2 * reach + 1, 2 * reach + 1, reach + 1)
        return cls(box, torch.zeros(shape, dtype=torch.complex64), torch.zeros(shape))

    def __add__(self, other: "FourierAccumulator") -> "FourierAccumulator":
        return FourierAccumulator(
            self.box, self.values + other.values, self.weights + other.weights
        )

    def insert(
        self,
        points: Float[Tensor, "b n 3"],
        coefficients: Complex[Tensor, "b n"],
        ctf: Float[Tensor, "b n"],
    ) -> None:
        """Add slices to the sums, in place.

        Args:
            points: Points (kx, ky, kz) in units of 1/box cycles per pixel, |k| <= box/2; one of
                each pair (k, -k).
            coefficients: Of the images, at these points.
            ctf: Values of the CTF at these points.
        """
        flat = points.reshape(-1, 3) * PADDING
        friedel_mate = flat[:, 0] < 0
        flat = torch.where(friedel_mate[:, None], -flat, flat)
        value = (coefficients * ctf).flatten()
        value = torch.where(friedel_mate, value.conj(), value)
        self._spread(flat, value, ctf.square().flatten())

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

    def completed(self) -> "FourierAccumulator":
        """Return the sums with each point and its Friedel mate on the plane x = 0."""
        values, weights = self.values.clone(), self.weights.clone()
        values[..., 0] += self.values[..., 0].flip(0, 1).conj()
        weights[..., 0] += self.weights[..., 0].flip(0, 1)
        return FourierAccumulator(self.box, values, weights)
