"""Particles of several pixel sizes in one frame: one map and one latent space have one pixel size.

A point at s (1/Å) lies at k = s·p cycles per pixel in an image of pixel size p, and at s·p₀ in a
volume of pixel size p₀, the reference. So a point k of image i, at pose R, lies in the volume at

    (p₀ / pᵢ) · k @ R.

The reference is the pixel size of most particles of the file that they come from, so that a
selection, such as a class with most of its particles in another optics group, has the frame of all.
The extent of that frame in Å is noted in tables with several pixel sizes; unlike the pixel size it
stays as it is when images are downsampled.

Of particles with smaller pixels, points reach beyond the volume's Nyquist frequency, at most by as
much as pixel sizes may differ: back-projection leaves these out, and training fits them to the
decoder, which is a continuous function of k, beyond the ball that volumes are made of. Shifts are
in Å, and the CTF takes each particle's own pixel size.

The intensities of the groups are taken as they are. RELION and cryoSPARC normalise images to noise
of one SD, so that of an equal dose per area the particles in images of pixel size p have a
strength in proportion to 1/p in Fourier space; differences of dose and detector are as large.
"""

import logging

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 0.2
"""Relative difference up to which pixel sizes are brought to one frame."""

SAME = 1e-4
"""Relative difference up to which pixel sizes are the same, and rounded differently."""

FRAME = "map_field_angstrom"
"""Metadata of a particle table: box × pixel size, in Å, of the frame of all particles."""

DECIMALS = 4  # of pixel sizes in Å that are counted as one
GROUPS_NAMED = 12

_LOGGED: list[frozenset[tuple[str, float]]] = []
"""Optics groups and their factors that this process has logged: commands have several steps."""


def with_frame(table: ParticleTable, sizes: Float[np.ndarray, " m"] | None = None) -> ParticleTable:
    """Return the table with the frame of several pixel sizes noted, for selections of it.

    Args:
        table: Particles; as they are if their boxes, or pixel sizes, differ too much for one map.
        sizes: Pixel sizes in Å of all particles of the file; by default those of the table, unless
            it is a selection already, whose frame is noted.
    """
    if sizes is None:
        if "pixel_size_angstrom" not in table.table.column_names or FRAME in table.metadata:
            return table
        sizes = table.column("pixel_size_angstrom")
    boxes = table.column("box")
    frame = None
    several = SAME < sizes.max() / sizes.min() - 1 <= LARGEST_DIFFERENCE
    if several and (boxes == boxes[0]).all():
        frame = repr(float(_most_frequent(sizes) * boxes[0]))
    return table if frame == table.metadata.get(FRAME) else table.with_metadata(FRAME, frame)


def reference_pixel_size(table: ParticleTable) -> float:
    """Return the pixel size, in Å, of a map of the particles.

    That of most particles of the file that they come from; of two as frequent, the smaller.

    Raises:
        InputError: If pixel sizes differ by more than 20 %; lists the optics groups.
    """
    sizes = table.column("pixel_size_angstrom")
    low, high = float(sizes.min()), float(sizes.max())
    most = 1 + LARGEST_DIFFERENCE
    if high > low * most:
        raise InputError(
            f"The particles have pixel sizes from {low:.4g} to {high:.4g} Å, too different for one "
            f"map: {_listed_groups(table)}. `raydrgn downsample` brings them to one box and field "
            "of view, and so to one pixel size."
        )
    noted = _noted_size(table)
    if noted is not None and high / (1 + LARGEST_DIFFERENCE) <= noted <= low * (
        1 + LARGEST_DIFFERENCE
    ):
        return noted
    return _most_frequent(sizes)


def _noted_size(table: ParticleTable) -> float | None:
    """Return the pixel size of the frame that is noted in a table; None if there is none."""
    try:
        return float(table.metadata[FRAME]) / table.single_box()
    except (KeyError, ValueError):
        return None


def _most_frequent(sizes: Float[np.ndarray, " n"]) -> float:
    rounded = sizes.round(DECIMALS)
    values, counts = np.unique(rounded, return_counts=True)
    return float(np.median(sizes[rounded == values[counts.argmax()]]))


def pixel_size_factors(table: ParticleTable, reference_angstrom: float) -> Float[np.ndarray, " n"]:
    """Return the factor p₀ / pᵢ of each particle's points; exactly 1 for the same pixel size.

    Args:
        table: Particles.
        reference_angstrom: Pixel size p₀ of the volumes.
    """
    factors = reference_angstrom / table.column("pixel_size_angstrom").astype(np.float64)
    return np.where(np.abs(factors - 1) < SAME, 1.0, factors).astype(np.float32)


def several_pixel_sizes(table: ParticleTable) -> str | None:
    """Return a sentence on particles of several pixel sizes; None if they have one."""
    reference = reference_pixel_size(table)
    if (pixel_size_factors(table, reference) == 1).all():
        return None
    return (
        f"The particles have several pixel sizes: {_listed_groups(table)}. All are brought to the "
        f"frame of a map of {reference:.4g} Å."
    )


def log_pixel_sizes(table: ParticleTable) -> None:
    """Log it if particles have several pixel sizes, once of a data set and selections of it."""
    sentence = several_pixel_sizes(table)
    if sentence is None:
        return
    groups = frozenset(zip(_groups(table), _frame_factors(table), strict=True))
    if not any(groups <= known for known in _LOGGED):
        _LOGGED.append(groups)
        log.info("%s", sentence)


def _frame_factors(table: ParticleTable) -> list[float]:
    factors = pixel_size_factors(table, reference_pixel_size(table))
    return factors.round(DECIMALS).tolist()


def _groups(table: ParticleTable) -> list[str]:
    if "optics_group" in table.table.column_names:
        return table.column("optics_group").astype(str).tolist()
    return [""] * len(table)


def _listed_groups(table: ParticleTable) -> str:
    """Return each optics group, or each pixel size without them, with its number of particles."""
    sizes = table.column("pixel_size_angstrom")
    pairs, counts = np.unique(
        np.array(
            list(zip(_groups(table), np.round(sizes, 4), strict=True)),
            dtype=[("g", "U64"), ("s", "f4")],
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
