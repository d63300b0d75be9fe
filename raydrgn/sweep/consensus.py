"""One map for all particles: what every run of a sweep is compared with."""

import numpy as np

from raydrgn.data.preprocess import ImageCorrection
from raydrgn.inputs.insertion import Partition, insert_partition
from raydrgn.inputs.reconstruction import full_map, half_maps
from raydrgn.io.particles import ParticleTable
from raydrgn.run.config import RunConfig
from raydrgn.shapes import Float

MOST_PARTICLES = 20_000
"""Particles of the map; of more, this number is taken evenly. Its error is then that of a single
image divided by more than a hundred."""


def consensus_map(table: ParticleTable, config: RunConfig) -> Float[np.ndarray, "d d d"]:
    """Return the map of training particles by back-projection, on the scale of prepared images."""
    rows = np.arange(len(table))
    if len(table) > MOST_PARTICLES:
        rows = np.linspace(0, len(table) - 1, MOST_PARTICLES).astype(np.int64)
    sums = [
        insert_partition(
            Partition.of(table, half, map_pixel_size_angstrom=config.pixel_size_angstrom),
            invert=config.data.invert,
            correction=ImageCorrection.of(config.data),
        )[1]
        for half in (rows[::2], rows[1::2])
    ]
    *_, correlation = half_maps(*sums)
    volume = full_map(*sums, correlation=correlation) / config.data.scale
    # Without a CTF, back-projection turns particles bright, and training takes them as they are.
    return volume if table.has_ctf else -volume
