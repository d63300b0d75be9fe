"""Which half of a set a particle belongs to, where halves are compared."""

import numpy as np

from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Int

HALF = "half"
"""Column of the half of a refinement: 1 or 2, as RELION counts them."""


def half_columns(found: np.ndarray | None, first: int) -> dict[str, np.ndarray]:
    """Return the column of the halves of a refinement; none where there are not two.

    Args:
        found: What a file has; None if it has nothing.
        first: What stands for the first half; the second is one more.
    """
    if found is None or set(np.unique(found)) != {first, first + 1}:
        return {}
    return {HALF: (found - first + 1).astype(np.int8)}


def has_own_halves(table: ParticleTable) -> bool:
    """Return whether particles have the halves of their refinement, and any in each.

    They do not count where rows of one image, as symmetry expansion makes them, are in both.
    """
    if HALF not in table.table.column_names or len(np.unique(table.column(HALF))) < 2:
        return False
    image, half = _images(table), table.column(HALF).astype(np.int64)
    return len(np.unique(image)) == len(np.unique(2 * image + half))


def repeated_images(table: ParticleTable) -> int:
    """Return how many rows are of an image that another row before them is of."""
    return len(table) - len(np.unique(_images(table)))


def half_of_particles(table: ParticleTable) -> Int[np.ndarray, " n"]:
    """Return 0 or 1 for each particle: its half in the refinement, whose poses each had apart.

    Where that is not known, images in turn, in the order in which they first come. All rows of one
    image are in one half: its noise would make halves agree.
    """
    if has_own_halves(table):
        return table.column(HALF).astype(np.int64) - 1
    _, first, number = np.unique(_images(table), return_index=True, return_inverse=True)
    turn = np.empty_like(first)
    turn[np.argsort(first)] = np.arange(len(first)) % 2
    half: np.ndarray = turn[number.ravel()]
    return half


def _images(table: ParticleTable) -> Int[np.ndarray, " n"]:
    """Return a number for each row, the same for rows of the same image."""
    depth = int(table.column("slice").max(initial=0)) + 1
    return table.stack_codes.astype(np.int64) * depth + table.column("slice")
