"""The file that particles were read from, whose own rows are written back.

A table keeps the name of the STAR or .cs file that it was made of, so that an export has every
column of that file. The file may be gone since: a run is copied to another machine without it.
"""

import logging
import shlex
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.imaging import ORIGINAL_BOX, SAME_PIXEL_SIZE, calibration, imaging_of
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particles import ParticleTable
from raydrgn.io.passthrough import passthrough_of
from raydrgn.io.storage import Uri
from raydrgn.io.verification import quiet

log = logging.getLogger(__name__)

UNKNOWN_BOX = 1 << 20
"""Stands for the box of a file that gives none: no image is as large, nor a shift."""


def original_of(table: ParticleTable, suffix: str) -> Uri | None:
    """Return the file that a table was read from, if it is of a kind and still there."""
    source = _source(table, suffix)
    return source if source is not None and storage.is_at_hand(source) else None


def lost_original(table: ParticleTable, suffix: str) -> Uri | None:
    """Return the file of a kind that a table was read from, if it does not exist any more."""
    source = _source(table, suffix)
    return None if source is None or storage.is_at_hand(source) else source


def _source(table: ParticleTable, suffix: str) -> Uri | None:
    """Return the file that a table was read from, there or not, if it is of a kind."""
    source = table.metadata.get("source", "")
    return source if PurePosixPath(source).suffix.lower() == suffix else None


def remedy_of_lost(particles: Uri) -> str:
    """Return in a sentence what to do where the original file of a table or a run is gone."""
    if suffix_of(particles) == ".parquet":
        return "Put it back, or make the table again with `raydrgn parse --table`."
    return (
        f"If it has moved, run: raydrgn relocate {shlex.quote(storage.absolute(particles))} "
        "--particles FILE"
    )


def warn_of_lost_original(table: ParticleTable, suffix: str, particles: Uri) -> None:
    """Warn that columns of the original file are not written, since it is gone."""
    lost = lost_original(table, suffix)
    if lost is not None:
        log.warning(
            "%s, from which the particles were read, does not exist: the file is made anew, "
            "without its other columns, such as rlnMicrographName. %s",
            *(lost, remedy_of_lost(particles)),
        )


def original_rows(table: ParticleTable, uri: Uri) -> ParticleTable:
    """Read the rows of a table's particles from the original file; images are not needed.

    Images that have been written anew, as by ``downsample``, are in other stacks; of the others the
    file must list the same. Box and pixel size are those of the original images; the latter as it
    follows from the table's, which may be a calibration.

    Raises:
        InputError: If the file has changed since: rows are gone, or of other images.
    """
    box = int(table.metadata.get(ORIGINAL_BOX, UNKNOWN_BOX))
    imaging = replace(imaging_of(table), default_box=box)
    with quiet():
        found = read_metadata(
            uri, imaging=imaging, need_images=False, passthrough=passthrough_of(table)
        )
    rows = table.column("index")
    same = bool(rows.max(initial=-1) < len(found))
    if same:
        found = found.select(rows)
        names: dict[str, int] = {}
        first, second = (
            np.array([names.setdefault(PurePosixPath(uri).name, len(names)) for uri in one.stacks])
            for one in (found, table)
        )
        is_original = first[found.stack_codes] == second[table.stack_codes]
        same = np.array_equal(
            found.column("slice")[is_original], table.column("slice")[is_original]
        )
    if not same:
        raise InputError(
            f"{uri} lists other images than when the particle table was made of it. Make the table "
            "again with `raydrgn parse --table`, or put the earlier file back; if it is moved "
            "away, the table is exported by itself."
        )
    return _calibrated(_with_own_boxes(found, table), table)


def _with_own_boxes(found: ParticleTable, table: ParticleTable) -> ParticleTable:
    """Return rows of a file that gives no box with that of its images, as far as a table has it.

    Images at another place may have been made smaller, and have the same edge in Å then.
    """
    boxes = found.column("box")
    unknown = boxes == UNKNOWN_BOX
    if not unknown.any():
        return found
    first, second = (np.array(one.stacks)[one.stack_codes] for one in (found, table))
    known = table.column("box")
    before = known.copy()
    if all("pixel_size_angstrom" in one.table.column_names for one in (found, table)):
        old, new = (one.column("pixel_size_angstrom").astype(float) for one in (found, table))
        before = np.where(first == second, known, np.rint(known * new / old))
    return found.with_columns({"box": np.where(unknown, before, boxes).astype(np.int32)})


def _calibrated(found: ParticleTable, table: ParticleTable) -> ParticleTable:
    """Return rows of a file with the pixel size that a table has of them, and shifts by it."""
    if "pixel_size_angstrom" not in table.table.column_names:
        return found
    sizes = table.column("pixel_size_angstrom").astype(np.float64)
    columns = {"pixel_size_angstrom": sizes * table.column("box") / found.column("box")}
    if "pixel_size_angstrom" in found.table.column_names:
        known = found.column("pixel_size_angstrom")
        factor = calibration(columns["pixel_size_angstrom"], known)
        if np.abs(factor - 1).max(initial=0) < SAME_PIXEL_SIZE:
            return found
        if found.has_poses:
            columns["shift_angstrom"] = found.column("shift_angstrom") * factor[:, None]
    return found.with_columns(columns)
