"""Which half of a set a particle belongs to, where halves are compared."""

import numpy as np

from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Int


def half_of_particles(table: ParticleTable) -> Int[np.ndarray, " n"]:
    """Return 0 or 1 for each particle: images in turn, in the order in which they first come.

    All rows of one image, as symmetry expansion makes them, are in one half: its noise would make
    halves agree.
    """
    depth = int(table.column("slice").max(initial=0)) + 1
    images = table.stack_codes.astype(np.int64) * depth + table.column("slice")
    _, first, number = np.unique(images, return_index=True, return_inverse=True)
    turn = np.empty_like(first)
    turn[np.argsort(first)] = np.arange(len(first)) % 2
    half: np.ndarray = turn[number.ravel()]
    return half
