"""A montage: images of particles in rows with their numbers, all on one grey scale."""

import numpy as np
from matplotlib.figure import Figure

from raydrgn.data.particle_images import LEAST_PIXELS, clear_images, read_images
from raydrgn.errors import ConfigError
from raydrgn.io.particles import ParticleTable
from raydrgn.reporting.figures import Tile, sheet

COLUMNS = 10

SHOWN_PERCENTILES = (0.5, 99.5)
"""Intensities of all pixels of the montage that are black and white."""


def draw_montage(
    table: ParticleTable,
    *,
    as_recorded: bool,
    bright: bool,
    resolution_angstrom: float | None = None,
) -> Figure:
    """Draw the images of a table in its order, each under its number in the original set.

    Args:
        table: The particles, all of one box.
        as_recorded: Whether images are shown as they are, rather than with the CTF's phases
            flipped, where it is known, and low-pass filtered.
        bright: Whether particles are bright on disk, at low resolution; filtered ones always are.
        resolution_angstrom: Of the filter; None takes 20 Å, and at least four pixels.

    Raises:
        RaydrgnError: If the images differ in size or cannot be read, or their pixel size is not
            known and a resolution is given.
    """
    table.single_box()
    images = read_images(table, np.arange(len(table)))
    if not as_recorded:
        if "pixel_size_angstrom" not in table.table.column_names:
            if resolution_angstrom is not None:
                raise ConfigError("--low-pass is in Å, but the pixel size is not known.")
            table = table.with_columns({"pixel_size_angstrom": np.ones(len(table))})
            resolution_angstrom = LEAST_PIXELS
        images = clear_images(images, table, bright=bright, resolution_angstrom=resolution_angstrom)
    low, high = np.percentile(images, SHOWN_PERCENTILES).tolist()
    numbers = table.column("index")
    rows = []
    for start in range(0, len(images), COLUMNS):
        part = slice(start, start + COLUMNS)
        tiles = [
            Tile(image=image, title=str(number), limits=(low, high))
            for image, number in zip(images[part], numbers[part], strict=True)
        ]
        rows.append(("", tiles))
    return sheet(rows)
