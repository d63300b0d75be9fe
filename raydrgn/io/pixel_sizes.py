"""One pixel size for all particles: one map and one latent space cannot have two."""

import logging

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable

log = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Relative difference up to which pixel sizes are taken for one."""

GROUPS_NAMED = 12


def single_pixel_size(table: ParticleTable) -> float:
    """Return the pixel size of all images in Å; the median where they differ a little.

    Raises:
        InputError: If pixel sizes differ by more than 1 %; lists the optics groups.
    """
    sizes = table.column("pixel_size_angstrom")
    low, high, middle = float(sizes.min()), float(sizes.max()), float(np.median(sizes))
    if high > low * (1 + TOLERANCE):
        raise InputError(
            f"The particles have pixel sizes from {low:.4g} to {high:.4g} Å, but one map has one "
            f"pixel size: {_listed_groups(table)}. Extract the particles again with one pixel "
            "size, or with boxes for which box × pixel size agrees and `raydrgn downsample` each "
            "group to one box; or train on one group at a time."
        )
    if high > low:
        log.warning(
            "the particles have pixel sizes from %.5g to %.5g Å; all are taken as %.5g Å",
            low,
            high,
            middle,
        )
    return middle


def _listed_groups(table: ParticleTable) -> str:
    """Return each optics group, or each pixel size without them, with its number of particles."""
    sizes = table.column("pixel_size_angstrom")
    if "optics_group" in table.table.column_names:
        names = table.column("optics_group").astype(str)
    else:
        names = np.full(len(sizes), "")
    pairs, counts = np.unique(
        np.array(
            list(zip(names, np.round(sizes, 4), strict=True)), dtype=[("g", "U64"), ("s", "f4")]
        ),
        return_counts=True,
    )
    parts = [
        f"{'optics group ' + pair['g'] + ' has ' if pair['g'] else ''}{pair['s']:.4g} Å "
        f"({count:,} particles)"
        for pair, count in zip(pairs[:GROUPS_NAMED], counts, strict=False)
    ]
    more = len(pairs) - GROUPS_NAMED
    return "; ".join(parts) + (f"; and {more} more groups" if more > 0 else "")
