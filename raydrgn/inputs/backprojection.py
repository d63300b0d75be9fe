"""Maps from particles with poses: whole, and of two halves, with a verdict.

Particles are split into partitions, each of one half. A task inserts the slices of one
partition, close to where it reads; its sums are added to those of the others.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from raydrgn.data.image_statistics import measure_images
from raydrgn.data.ingest import bad_images_message
from raydrgn.data.preprocess import ImageCorrection
from raydrgn.data.restoration import log_restoration
from raydrgn.data.statistics import sampled_rows
from raydrgn.errors import InputError
from raydrgn.inputs.comparison import Comparison, compare, read_reference
from raydrgn.inputs.diagnosis import Diagnosis, find_pixel_size_factor, find_shift_factor
from raydrgn.inputs.fourier_accumulator import FourierAccumulator
from raydrgn.inputs.insertion import Partition, insert_partition
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.inputs.reconstruction import full_map, half_maps
from raydrgn.inputs.resolution import Resolution, measure_resolution
from raydrgn.inputs.verdict import Verdict, judge
from raydrgn.io.half_sets import half_of_particles
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import log_pixel_sizes, reference_pixel_size
from raydrgn.io.sources import require_poses
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

MOST_PARTICLES, FEWEST_PARTICLES = 25_000, 1_000
"""Particles of a partition: what is lost with a worker and done again, and what is worth a sum."""

RANGES = 32
"""Partitions of each half, if they are not too small or too large by that."""

SEED = 0  # of the random phases
HALVES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Backprojection:
    """Maps, and what they show about the inputs."""

    full: Float[np.ndarray, "d d d"]
    halves: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]]
    """Maps of the particles of each half."""

    reference: Float[np.ndarray, "r r r"] | None
    resolution: Resolution
    verdict: Verdict

    def reversed(self) -> "Backprojection":
        """Return the maps as `--flip` has them; what was measured of them holds."""
        full, first, second = map(_reversed, (self.full, *self.halves))
        resolution = replace(self.resolution, mask=_reversed(self.resolution.mask))
        return replace(self, full=full, halves=(first, second), resolution=resolution)


def back_project(
    table: ParticleTable,
    options: BackprojectionOptions,
    *,
    half_of: Int[np.ndarray, " n"] | None = None,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> Backprojection:
    """Back-project particles and judge the maps; nothing is written.

    Args:
        table: The particles.
        options: How.
        half_of: 0 or 1 for each particle; by default as ``half_of_particles`` has it.
        executor: Where the work is done.
        progress: Called as it goes on.

    Raises:
        InputError: If particles have no poses, or images are not usable, named by their number.
    """
    require_poses(table)
    half_of = _checked_halves(table, half_of)
    reference = read_reference(options.reference) if options.reference else None
    if not table.has_ctf:
        log.warning("the particles have no CTF; the maps are not corrected for it")
    pixel_size = reference_pixel_size(table)
    log_pixel_sizes(table)
    log_restoration(table)
    insert = _Insert(invert=not options.uninvert_data, correction=_measure_correction(table))
    sums = _accumulate(table, half_of, pixel_size, insert, executor, progress)
    first, second, correlation = half_maps(*sums)
    full = full_map(*sums, correlation=correlation)
    del sums
    if options.flip:
        full, first, second = map(_reversed, (full, first, second))
    resolution = measure_resolution(
        first,
        second,
        full,
        pixel_size_angstrom=pixel_size,
        generator=torch.Generator().manual_seed(SEED),
    )
    return Backprojection(
        full=full,
        halves=(first, second),
        reference=reference[0] if reference else None,
        resolution=resolution,
        verdict=_judge(reference, full, resolution, table, insert, flip=options.flip),
    )


def _reversed(volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, "d d d"]:
    """Return a map of opposite hand, as cryoDRGN's `--flip` makes it."""
    return np.ascontiguousarray(volume[::-1])


def _checked_halves(
    table: ParticleTable, half_of: Int[np.ndarray, " n"] | None
) -> Int[np.ndarray, " n"]:
    """Return the half of each particle, those of the table by default; refuse an empty half."""
    found = half_of_particles(table) if half_of is None else half_of
    if len(np.unique(found)) < HALVES:
        raise InputError("Half maps need the particles of at least two images, one in each half.")
    return found


def _measure_correction(table: ParticleTable) -> ImageCorrection:
    """Return what about a thousand images show to need correction; warn of outliers."""
    examined = table.select(sampled_rows(len(table)))
    statistics = measure_images(examined, box=table.single_box())
    for warning in statistics.warnings(examined.column("index")):
        log.warning("%s", warning)
    return statistics.correction


def image_bytes(table: ParticleTable) -> int:
    """Return the size of all images of a table in memory."""
    return 4 * len(table) * table.single_box() ** 2


class HalfRows(NamedTuple):
    """Rows of the table that belong to one half."""

    half: int
    rows: Int[np.ndarray, " m"]


def split_rows(half_of: Int[np.ndarray, " n"]) -> list[HalfRows]:
    """Split particles into partitions, the same for any number of workers, as the order of sums is.

    Args:
        half_of: 0 or 1 for each particle.
    """
    count = len(half_of)
    of_half = count // HALVES
    ranges = max(min(RANGES, of_half // FEWEST_PARTICLES), -(-of_half // MOST_PARTICLES), 1)
    ends = np.linspace(0, count, ranges + 1).astype(int).tolist()
    return [
        HalfRows(half, start + np.flatnonzero(half_of[start:stop] == half))
        for start, stop in itertools.pairwise(ends)
        for half in range(HALVES)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Insert:
    """The work of a task."""

    invert: bool
    correction: ImageCorrection

    def __call__(
        self, partition: Partition, progress: Callable[[int], None]
    ) -> tuple[np.ndarray, FourierAccumulator]:
        return insert_partition(
            partition, invert=self.invert, correction=self.correction, progress=progress
        )


def _judge(
    reference: tuple[Float[np.ndarray, "r r r"], float] | None,
    full: Float[np.ndarray, "d d d"],
    resolution: Resolution,
    table: ParticleTable,
    insert: _Insert,
    *,
    flip: bool,
) -> Verdict:
    """Judge a map by itself and, if there is one, beside a reference, as in ``_compare_with``."""
    comparison = diagnosis = None
    if reference is not None:
        comparison, diagnosis = _compare_with(reference, full, resolution, table, insert, flip=flip)
    return judge(
        full,
        resolution,
        inverted_images=insert.invert,
        flipped=flip,
        corrected_ctf=table.has_ctf,
        comparison=comparison,
        diagnosis=diagnosis,
    )


def _compare_with(
    reference: tuple[Float[np.ndarray, "r r r"], float],
    full: Float[np.ndarray, "d d d"],
    resolution: Resolution,
    table: ParticleTable,
    insert: _Insert,
    *,
    flip: bool,
) -> tuple[Comparison, Diagnosis]:
    """Return how a map relates to a reference, and measured causes of a poor agreement.

    Args:
        reference: Its density, and its pixel size in Å.
        full: Map of all particles.
        resolution: Of the map.
        table: The particles.
        insert: How their images were inserted.
        flip: Whether the handedness of the map was changed, which that of the poses was not.
    """
    density, size = reference
    comparison = compare(full, density, resolution, reference_pixel_size_angstrom=size)
    matched = comparison.matched.flip(-3) if flip else comparison.matched
    diagnosis = Diagnosis(
        shift_factor=find_shift_factor(
            table,
            matched,
            pixel_size_angstrom=resolution.pixel_size_angstrom,
            invert=insert.invert,
            correction=insert.correction,
        ),
        pixel_size_factor=find_pixel_size_factor(
            full, density, resolution, reference_pixel_size_angstrom=size
        ),
    )
    return comparison, diagnosis


def _accumulate(
    table: ParticleTable,
    half_of: Int[np.ndarray, " n"],
    pixel_size_angstrom: float,
    work: _Insert,
    executor: Executor,
    progress: Progress,
) -> tuple[FourierAccumulator, FourierAccumulator]:
    """Return the sums of the particles of each half."""
    size = image_bytes(table)
    bad, sums = executor.sum_by(
        work,
        split_rows(half_of),
        key=lambda part: part.half,
        load=lambda part: Partition.of(
            table, part.rows, map_pixel_size_angstrom=pixel_size_angstrom
        ),
        progress=lambda done: progress("back-projecting", done, len(table), unit="particles"),
        input_bytes=size,
    )
    _refuse(table, bad)
    return sums[0], sums[1]


def _refuse(table: ParticleTable, bad: Sequence[np.ndarray]) -> None:
    """Refuse unusable images, given by their rows."""
    rows = np.sort(np.concatenate(bad))
    if len(rows):
        raise InputError(bad_images_message(table.select(rows)))
