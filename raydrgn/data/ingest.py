"""Filling a shard: every particle read and prepared once.

This is the plain way, by one process; ``raydrgn.data.pipeline`` spreads the same function over a
cluster.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from raydrgn.data.config import ImageConfig, Precision
from raydrgn.data.preprocess import Preparation, find_bad
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.data.store import ParticleStore
from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Bool, Float, Int

BAD_NAMED = 20  # bad images named in an error


class PreparedBlock(NamedTuple):
    """Some prepared particles."""

    rows: Int[np.ndarray, " k"]
    """Their numbers within the shard."""

    values: Float[np.ndarray, "k n 2"]
    """Coefficients; zero for bad images."""

    bad: Bool[np.ndarray, " k"]
    """Images that are constant or have a pixel that is not finite."""


def shifts_px(table: ParticleTable) -> Float[np.ndarray, "n 2"]:
    """Return the shifts in pixels of the images."""
    return table.column("shift_angstrom") / table.column("pixel_size_angstrom")[:, None]


def prepare_images(
    images: Float[np.ndarray, "k h w"],
    shifts: Float[np.ndarray, "k 2"],
    preparation: Preparation,
    *,
    precision: Precision,
) -> tuple[Float[np.ndarray, "k n 2"], Bool[np.ndarray, " k"]]:
    """Return the coefficients of images in the type they are stored in, and which are bad."""
    bad = find_bad(images)
    if bad.any():
        images = np.where(bad[:, None, None], np.float32(0), images)
    return preparation(images, shifts).numpy().astype(precision, copy=False), bad


def prepared_blocks(table: ParticleTable, config: ImageConfig) -> Iterator[PreparedBlock]:
    """Yield all particles of a table, prepared, block by block."""
    source, shifts, preparation = ImageSource.of(table), shifts_px(table), Preparation(config)
    for start, stop in block_ends(0, len(table), box=config.box):
        rows = np.arange(start, stop)
        images = source.part(start, stop).read()
        prepared = prepare_images(
            images, shifts[start:stop], preparation, precision=config.precision
        )
        yield PreparedBlock(rows, *prepared)


def fill_store(
    store: ParticleStore,
    blocks: Iterator[PreparedBlock],
    *,
    progress: Callable[[int], None] | None = None,
) -> Int[np.ndarray, " bad"]:
    """Write blocks into a store; return the numbers of bad images, ascending."""
    bad, done = [np.empty(0, dtype=np.int64)], 0
    for block in blocks:
        store.write(block.rows, block.values)
        bad.append(block.rows[block.bad])
        done += len(block.rows)
        if progress:
            progress(done)
    return np.sort(np.concatenate(bad))


def bad_images_message(bad: ParticleTable) -> str:
    """Return the message that names images without use, with the remedy.

    Args:
        bad: The rows of these images.
    """
    count, indices = len(bad), bad.column("index")
    named = ", ".join(map(str, indices[:BAD_NAMED])) + (", …" if count > BAD_NAMED else "")
    place = f"image {bad.column('slice')[0] + 1} of {bad.table.column('stack')[0].as_py()}"
    if count == 1:
        return (
            f"Particle {named} (from 0), {place}, has pixels that are not finite, or is constant. "
            "Leave it out with --drop-bad."
        )
    return (
        f"{count:,} images have pixels that are not finite, or are constant: particles {named} "
        f"(numbers from 0; the first is {place}). Leave them out with --drop-bad."
    )
