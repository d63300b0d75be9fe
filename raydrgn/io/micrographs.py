"""Micrographs of cryoSPARC's particles, in the columns of RELION.

Bayesian polishing and extraction anew in RELION need the micrograph of each particle, and where the
particle is in it. cryoSPARC has the place as a fraction of the micrograph; RELION counts pixels.
"""

import logging

import numpy as np

from raydrgn.errors import InputError, StorageError
from raydrgn.io.cryosparc import field_values
from raydrgn.io.originals import lost_original, original_of, original_rows, remedy_of_lost
from raydrgn.io.particles import ParticleTable
from raydrgn.io.passthrough import passthrough_of, read_joined
from raydrgn.io.relionwriter import decimals
from raydrgn.io.storage import Uri

log = logging.getLogger(__name__)

PATH, SHAPE = "location/micrograph_path", "location/micrograph_shape"
CENTERS = {"location/center_x_frac": 1, "location/center_y_frac": 0}
"""Fraction of the micrograph, and the axis of its shape (y, x) that it is a fraction of."""

NAME_FIELD, COORDINATE_FIELDS = "rlnMicrographName", ("rlnCoordinateX", "rlnCoordinateY")


def micrograph_cells(table: ParticleTable, particles: Uri) -> dict[str, list[str]]:
    """Return the micrograph of each particle and its coordinates there, by RELION's column.

    They are in the .cs file that the particles were read from, or in a passthrough file of its job.

    Args:
        table: Particles.
        particles: The file or run that they are of, for messages.

    Returns:
        Nothing where the particles are of no .cs file. Where that lacks them, a message says so.
    """
    lost = lost_original(table, ".cs")
    if lost is not None:
        log.warning(
            "%s, from which the particles were read, does not exist: the STAR file has no %s and "
            "no coordinates. %s",
            *(lost, NAME_FIELD, remedy_of_lost(particles)),
        )
    original = original_of(table, ".cs")
    if original is None:
        return {}
    try:
        original_rows(table, original)
        rows = _rows(table, original)
        return _names(rows, original) | _coordinates(rows, original)
    except (InputError, StorageError) as error:
        log.warning("the STAR file has no %s and no coordinates: %s", NAME_FIELD, error)
        return {}


def _rows(table: ParticleTable, original: Uri) -> np.ndarray:
    """Return the rows of the particles in their .cs file, with the micrographs that its job has."""
    rows, _ = read_joined(original, passthrough_of(table))
    if PATH not in (rows.dtype.names or ()):
        rows, _ = read_joined(original, needed=(PATH,))
    return rows[table.column("index")]


def _names(rows: np.ndarray, uri: Uri) -> dict[str, list[str]]:
    if PATH not in (rows.dtype.names or ()):
        log.info(
            "%s has no %s: the STAR file has no %s, which Bayesian polishing and extraction in "
            "RELION need",
            *(uri, PATH, NAME_FIELD),
        )
        return {}
    paths = field_values(rows, PATH, uri, kinds="SU")
    distinct, codes = np.unique(paths, return_inverse=True)
    names = [
        (path.decode(errors="surrogateescape") if isinstance(path, bytes) else path).lstrip(">")
        for path in distinct.tolist()  # cryoSPARC marks some with >
    ]
    empty = np.array([not name.strip() for name in names])[codes]
    if empty.any():
        raise InputError(
            f"{uri} has no {PATH} for {empty.sum():,} of {len(rows):,} particles, such as row "
            f"{np.flatnonzero(empty)[0]} of those written (from 0)."
        )
    return {NAME_FIELD: [names[code] for code in codes]}


def _coordinates(rows: np.ndarray, uri: Uri) -> dict[str, list[str]]:
    """Return the centre of each particle in its micrograph, in pixels of that."""
    if not {*CENTERS, SHAPE, PATH} <= set(rows.dtype.names or ()):
        return {}
    shape = field_values(rows, SHAPE, uri, width=2).astype(np.float64)
    cells = {}
    for column, (field, axis) in zip(COORDINATE_FIELDS, CENTERS.items(), strict=True):
        pixels = field_values(rows, field, uri).astype(np.float64) * shape[:, axis]
        if not np.isfinite(pixels).all():
            raise InputError(f"{uri}: {field} is not finite for some particles.")
        cells[column] = decimals(pixels)
    return cells
