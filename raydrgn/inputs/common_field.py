"""Images of several boxes or pixel sizes, as of two microscopes: the square that all of them show.

Of each image the middle is taken, whose edge in Å is that of the smallest field of view. In one box
afterwards, their pixels differ by the rounding of that edge to whole pixels only.
"""

import logging
from collections import Counter

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import LARGEST_DIFFERENCE
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted

log = logging.getLogger(__name__)


def taken_boxes(table: ParticleTable) -> Int[np.ndarray, " n"]:
    """Return the edge of what is taken of each image, pixels; even, and the box where all have one.

    Pixel sizes that differ by up to 20 % in one box stay: particles of both are brought to one
    frame as they are.

    Raises:
        InputError: If boxes differ and pixel sizes are not known.
    """
    even = table.column("box").astype(np.int64) // 2 * 2
    has_sizes = "pixel_size_angstrom" in table.table.column_names
    sizes = table.column("pixel_size_angstrom").astype(np.float64) if has_sizes else np.ones(1)
    if (even == even[0]).all() and sizes.max() <= (1 + LARGEST_DIFFERENCE) * sizes.min():
        return even
    if not has_sizes:
        raise InputError(
            f"The images differ in size: {table.listed_boxes()}; and their pixel sizes, by which "
            "they could be brought to one field of view, are not known. Give a .star or .cs file, "
            "which has them."
        )
    field = (even * sizes).min()
    return np.minimum(2 * np.rint(field / (2 * sizes)).astype(np.int64), even)


def log_taken(table: ParticleTable, taken: Int[np.ndarray, " n"]) -> None:
    """Log what is taken of the images, if it is not all of them."""
    boxes = table.column("box")
    if (taken == boxes).all():
        return
    pairs = Counter(zip(table.optics_groups(), boxes.tolist(), taken.tolist(), strict=True))
    parts = [
        (f"optics group {group}: " if group else "")
        + (f"all {box} px" if edge == box else f"{edge} of {box} px")
        + f" ({counted(count, 'image')})"
        for (group, box, edge), count in sorted(pairs.items())
    ]
    log.info("the middle of each image is taken: %s", "; ".join(parts))


def middle(images: Float[np.ndarray, "b h w"], edge: int) -> Float[np.ndarray, "b s s"]:
    """Return the middle of images; the pixel at ``box // 2`` becomes the one at ``edge // 2``."""
    start = images.shape[-1] // 2 - edge // 2
    part = slice(start, start + edge)
    return np.ascontiguousarray(images[:, part, part])
