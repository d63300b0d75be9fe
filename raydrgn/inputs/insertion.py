"""From particle images to slices in a Fourier accumulator."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import shifts_px
from raydrgn.data.preprocess import ImageCorrection, Preparation, find_bad
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.inputs.fourier_accumulator import FourierAccumulator
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.pixel_sizes import pixel_size_factors
from raydrgn.shapes import Complex, Float, Int

INSERT_POINTS = 1 << 19
"""Points inserted at a time: tens of MB of indices and weights."""

ROUNDING = 1e-5  # of squared radii, which keeps points at the Nyquist frequency

WINDOW_RADIUS = 0.95
"""Where images begin to fade, as a fraction of half the box; what lies beyond is no particle."""

NO_CORRECTION = ImageCorrection()


@dataclass(frozen=True, slots=True)
class Partition:
    """Some particles of a table, inserted by one task."""

    source: ImageSource
    box: int
    """Edge of the images in pixels."""

    rotations: Float[np.ndarray, "n 3 3"]
    shifts_px: Float[np.ndarray, "n 2"]
    pixel_size_angstrom: Float[np.ndarray, " n"]
    pixel_size_factors: Float[np.ndarray, " n"]
    """Pixel size of the map over that of each image, by which its points are multiplied."""

    ctf: Float[np.ndarray, "n 7"] | None
    """Parameters of the CTF; without them nothing is corrected for it."""

    rows: Int[np.ndarray, " n"]
    """Rows of the particles in the table, for messages."""

    @classmethod
    def of(
        cls,
        table: ParticleTable,
        rows: Int[np.ndarray, " n"],
        *,
        map_pixel_size_angstrom: float,
    ) -> "Partition":
        """Take some rows of a table."""
        part = table.select(rows)
        columns = [part.column(name) for name in CTF_COLUMNS] if table.has_ctf else None
        return cls(
            source=ImageSource.of(part),
            box=int(table.column("box")[0]),
            rotations=part.rotations.astype(np.float32),
            shifts_px=shifts_px(part).astype(np.float32),
            pixel_size_angstrom=part.column("pixel_size_angstrom").astype(np.float32),
            pixel_size_factors=pixel_size_factors(part, map_pixel_size_angstrom),
            ctf=None if columns is None else np.stack(columns, axis=-1).astype(np.float32),
            rows=np.asarray(rows),
        )


def insert_partition(
    partition: Partition,
    *,
    invert: bool,
    correction: ImageCorrection = NO_CORRECTION,
    progress: Callable[[int], None] | None = None,
) -> tuple[Int[np.ndarray, " bad"], FourierAccumulator]:
    """Insert the images of a partition; return the rows of unusable images, and the sums.

    Memory is that of the sums and of one block of images, whatever the number of particles.

    Args:
        partition: Particles.
        invert: Whether to multiply images by −1; right for stacks with bright particles.
        correction: Of hot pixels, and of images that are not normalised.
        progress: Called with the number of particles done since the last call.
    """
    box = partition.box
    sums = FourierAccumulator.empty(box)
    slicer = Slicer(box, invert=invert, correction=correction)
    bad = [np.empty(0, dtype=np.int64)]
    step = max(INSERT_POINTS // len(slicer.points), 1)
    for start, stop in block_ends(0, len(partition.rows), box=box):
        images = partition.source.part(start, stop).read()
        unusable = find_bad(images)
        bad.append(partition.rows[start:stop][unusable])
        kept = np.flatnonzero(~unusable)
        for i in range(0, len(kept), step):
            taken = kept[i : i + step]
            sums.insert(*slicer(images[taken], partition, start + taken))
        if progress:
            progress(stop - start)
    return np.concatenate(bad), sums


class Slicer:
    """Turns images into slices: points, coefficients, and the CTF there."""

    def __init__(
        self, box: int, *, invert: bool, correction: ImageCorrection = NO_CORRECTION
    ) -> None:
        origin = torch.zeros(1, 2, dtype=torch.int64)
        self.points = torch.cat([half_disc(box), origin])  # the origin is its own Friedel mate
        config = ImageConfig(box=box, invert=invert, window_radius=WINDOW_RADIUS)
        self._prepare = Preparation(config, points=self.points)
        self._plane = plane_coordinates(self.points, box)
        self._box = box
        self._sign = -1.0 if invert else 1.0
        self._correct = correction

    def __call__(
        self, images: Float[np.ndarray, "b h w"], partition: Partition, rows: Int[np.ndarray, " b"]
    ) -> tuple[Float[Tensor, "b n 3"], Complex[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Return the arguments of ``FourierAccumulator.insert`` for images of a partition."""
        images = self._correct(images)
        coefficients = torch.view_as_complex(self._prepare(images, partition.shifts_px[rows]))
        # The window would change the sum of pixels, by much where background nearly cancels it.
        coefficients[:, -1] = torch.from_numpy(images.sum((1, 2), dtype=np.float64)) * self._sign
        points = self._plane @ torch.from_numpy(partition.rotations[rows]) * self._box
        if partition.ctf is None:
            ctf = torch.full(coefficients.shape, -1.0)  # bright particles give positive density
        else:
            pixel_size = torch.from_numpy(partition.pixel_size_angstrom[rows])
            freqs = self._plane[:, :2] / pixel_size[:, None, None]
            params = CTFParameters.from_columns(torch.from_numpy(partition.ctf[rows]))
            ctf = contrast_transfer(freqs, params)
        factors = torch.from_numpy(partition.pixel_size_factors[rows])
        return self._on_the_map(points, coefficients, ctf, factors)

    def _on_the_map(
        self,
        points: Float[Tensor, "b n 3"],
        coefficients: Complex[Tensor, "b n"],
        ctf: Float[Tensor, "b n"],
        factors: Float[Tensor, " b"],
    ) -> tuple[Float[Tensor, "b n 3"], Complex[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Move points to where they lie in a map of another pixel size; drop those beyond it."""
        if (factors == 1).all():
            return points, coefficients, ctf
        points = points * factors[:, None, None]
        outside = points.square().sum(-1) > (self._box / 2) ** 2 * (1 + ROUNDING)
        points = points.masked_fill(outside[..., None], 0.0)
        return points, coefficients, ctf.masked_fill(outside, 0.0)
