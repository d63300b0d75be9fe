"""Particles kept out of training, so that a run can be scored with images it has not seen."""

import numpy as np

from raydrgn.errors import ConfigError
from raydrgn.io.particles import ParticleTable

SEED = 20_260_713
"""Of the draw: the same particles are held out of every run on a data set, whatever its seed."""


def without_held_out(
    table: ParticleTable, fraction: float
) -> tuple[ParticleTable, ParticleTable | None]:
    """Return the particles to train on, and those held out; None if none are to be.

    Both are in the order of the table.

    Raises:
        ConfigError: If the fraction is less than one particle.
    """
    if not fraction:
        return table, None
    count = round(fraction * len(table))
    if not count:
        raise ConfigError(
            f"train.held_out_fraction is {fraction:g}, which of {len(table):,} particles is less "
            "than one; increase it."
        )
    order = np.random.default_rng(SEED).permutation(len(table))
    is_held_out = np.zeros(len(table), dtype=bool)
    is_held_out[order[:count]] = True
    return table.select(~is_held_out), table.select(is_held_out)
