"""Tables of occupancies with known classes, blocks and correlations."""

import numpy as np

from raydrgn.occupancy.table import OccupancyTable

STATES = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 1, 1],
    ]
)
"""Blocks there are in each class; the last is a dead end."""


def planted_table(count, *, noise, rare=None, seed=0):
    """Return a table of 24 subunits in 5 blocks, classes of volumes, blocks of subunits.

    Args:
        count: Volumes.
        noise: Deviation of each occupancy.
        rare: Share of the last class; as large as the others if not given.
        seed: Of noise and shares.
    """
    generator = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(5), [6, 5, 5, 4, 4])
    last = round(count * (1 / 6 if rare is None else rare))
    classes = generator.permutation([*(np.arange(count - last) % 5), *[5] * last])
    values = STATES[classes][:, blocks] * generator.uniform(0.85, 1.15, size=len(blocks))
    values = values + noise * generator.normal(size=values.shape)
    table = OccupancyTable(
        volumes=tuple(map(str, range(count))),
        subunits=tuple(f"S{i}" for i in range(len(blocks))),
        values=values,
    )
    return table, classes, blocks
