"""Exports read again before they are put in place, and compared with what was to be written."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.imaging import Imaging
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.passthrough import read_rows
from raydrgn.io.relion import read_relion
from raydrgn.io.starrows import TextStar, read_text_star
from raydrgn.io.storage import Uri

UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part$")
"""What ``storage.atomic_write`` adds to the name of a file that is not in its place yet."""

SAME_ROTATION = 1e-5
SAME_SHIFT_ANGSTROM = 1e-3
SAME_CTF = 1e-5  # relative


def same_poses(table: ParticleTable, other: ParticleTable) -> bool:
    """Return whether two tables agree in their poses, or the first has none."""
    if not table.has_poses:
        return True
    if not other.has_poses:
        return False
    turned = np.abs(table.rotations - other.rotations).max(initial=0)
    moved = np.abs(table.column("shift_angstrom") - other.column("shift_angstrom")).max(initial=0)
    return bool(turned < SAME_ROTATION and moved < SAME_SHIFT_ANGSTROM)


def same_ctf(table: ParticleTable, other: ParticleTable) -> bool:
    """Return whether two tables agree in their CTF, or the first has none."""
    if not table.has_ctf:
        return True
    if not other.has_ctf:
        return False
    return all(
        np.allclose(table.column(name), other.column(name), rtol=SAME_CTF, atol=SAME_CTF)
        for name in CTF_COLUMNS
    )


def check_star(uri: Uri, *, star: TextStar | None = None, table: ParticleTable | None) -> None:
    """Check that a STAR file reads as what was to be written.

    Args:
        uri: The file that was written.
        star: Its lines, where it was made of those of another file.
        table: The particles it should hold, as far as the original can be read as a table.

    Raises:
        InputError: If rows, images, poses or CTF are others.
    """
    if star is not None:
        again = read_text_star(uri)
        for block in star.blocks:
            other = again.block(block.name)
            if other is None or (other.columns, other.rows) != (block.columns, block.rows):
                raise _mismatch(uri, f"block data_{block.name}")
    if table is None:
        return
    with quiet():
        imaging = Imaging(box=int(table.column("box")[0])) if _has_one_box(table) else None
        found = read_relion(uri, imaging=imaging, need_images=False)
    if len(found) != len(table):
        raise _mismatch(uri, f"the number of particles ({len(found)}, not {len(table)})")
    if not np.array_equal(found.column("slice"), table.column("slice")):
        raise _mismatch(uri, "the numbers of the images")
    if not _same_stacks(found, table):
        raise _mismatch(uri, "the stacks of the images")
    if not same_poses(table, found):
        raise _mismatch(uri, "the poses")
    if not same_ctf(table, found):
        raise _mismatch(uri, "the CTF")


def check_cs(uri: Uri, rows: np.ndarray) -> None:
    """Check that a .cs file reads as the rows that were to be written.

    Raises:
        InputError: If fields or values are others.
    """
    found = read_rows(uri)
    if found.dtype != rows.dtype or found.tobytes() != rows.tobytes():
        raise _mismatch(uri, "the rows")


def _mismatch(uri: Uri, what: str) -> InputError:
    return InputError(
        f"{UNFINISHED.sub('', uri)} does not read as it should: {what} would be others. Nothing "
        "was put in place. Please report this with the files."
    )


def _has_one_box(table: ParticleTable) -> bool:
    return len(np.unique(table.column("box"))) == 1


def _same_stacks(table: ParticleTable, other: ParticleTable) -> bool:
    """Return whether rows are of the same stacks, as files where these are there."""
    pairs = np.unique(np.stack([table.stack_codes, other.stack_codes]), axis=1).T.tolist()
    one_to_one = all(len(set(codes)) == len(pairs) for codes in zip(*pairs, strict=True))
    places = [(table.stacks[code], other.stacks[second]) for code, second in pairs]
    return one_to_one and all(
        os.path.samefile(*place) for place in places if all(map(_is_there, place))
    )


def _is_there(stack: Uri) -> bool:
    return storage.is_local(stack) and os.path.isabs(stack) and os.path.exists(stack)


@contextmanager
def quiet(package: str = "raydrgn.io") -> Iterator[None]:
    """Do a second time without warnings what has had them the first time.

    Args:
        package: Whose warnings are left out, with those of its modules.
    """
    logger = logging.getLogger(package)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
