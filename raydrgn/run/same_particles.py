"""Which particles of one file are which of another: by their images, or by their numbers."""

import logging

import numpy as np

from raydrgn.errors import InputError, RaydrgnError
from raydrgn.io import storage
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.indices import rows_of_numbers
from raydrgn.io.matching import find_numbers
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.io.verification import quiet
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

OTHER_DEFOCUS_ANGSTROM = 1000.0
"""Median difference of defocus between two sets of particles, above which they are not the same.

A refinement of the CTF changes it by some hundred; micrographs of one session differ by thousands.
"""

OTHER_ANGLE_DEG = 20.0
"""The same of the angle between the orientations of successive particles.

Of orientations at random it is 33 degrees; of those that two refinements find, some degrees.
"""

DEFOCUS = "defocus_u_angstrom"


def numbers_in_file(uri: Uri, reference: ParticleTable) -> Int[np.ndarray, " n"] | None:
    """Return the numbers that the rows of a particle file have in the original set of others.

    In a file of the same kind as that of the others they are known by their images' names, or
    uids; in one of another kind as by ``numbers_in``.

    Args:
        uri: A STAR or .cs file, such as of a classification.
        reference: The others.

    Returns:
        None if the file lacks what is needed for that, with a warning.

    Raises:
        InputError: If it is not known which are the same.
    """
    original = reference.metadata.get("source", "")
    if suffix_of(uri) == suffix_of(original) and storage.is_at_hand(original):
        return find_numbers(uri, original)
    try:
        with quiet():
            table = read_metadata(uri, need_images=False)
    except RaydrgnError:
        log.warning(
            "the rows of %s are taken in order: it does not show which images they are", uri
        )
        return None
    return numbers_in(table, reference, name=uri, other=original)


def numbers_in(
    table: ParticleTable, reference: ParticleTable, *, name: str, other: str
) -> Int[np.ndarray, " n"]:
    """Return the numbers that particles have in the original set of other ones.

    These are their own where both tables come from one file. Else particles are the same if their
    images are: by cryoSPARC's uid, or by stack and slice. Those whose images the reference lacks
    have numbers above all of its own. Where no image is in both, as of images that were made
    smaller, numbers count alike if the particles are (``difference_of``).

    Args:
        table: Particles.
        reference: Others, of which each image is in one row.
        name: What messages call the particles.
        other: What they call the others.

    Raises:
        InputError: If it is not known which are the same.
    """
    own = table.column("index")
    source = table.metadata.get("source")
    if source is not None and source == reference.metadata.get("source"):
        return own
    keys, known = _images(table, reference)
    rows = rows_of_numbers(known, keys)
    is_there = rows >= 0
    if is_there.any():
        if len(np.unique(known)) < len(known):
            raise InputError(
                f"{name} and {other} come from different files, and {other} has an image in "
                "several rows: which particle is which is not known. Train both from one file."
            )
        numbers = reference.column("index")
        return np.where(is_there, numbers[rows], numbers.max() + 1 + own)
    _, rows, others = np.intersect1d(own, reference.column("index"), return_indices=True)
    differing: str | None = "no number is in both"
    if len(rows):
        differing = difference_of(table.select(rows), reference.select(others))
    if differing is not None:
        raise InputError(
            f"{name} and {other} come from different files, which have no image in common, and "
            f"{differing}: which particle is which is not known ({source} and "
            f"{reference.metadata.get('source')})."
        )
    return own


def difference_of(first: ParticleTable, second: ParticleTable) -> str | None:
    """Return by what particles differ, row by row, if they are not the same, for messages.

    Numbers and images of stacks are alike in any two sets. The defocus is that of micrographs;
    where it hardly varies, the angle between two particles' orientations shows more, which is the
    same in any frame and of either hand. Particles of which neither is known count as the same.
    """
    if first.has_ctf and second.has_ctf:
        mine, theirs = first.column(DEFOCUS), second.column(DEFOCUS)
        off = float(np.median(np.abs(mine - theirs)))
        if off > OTHER_DEFOCUS_ANGSTROM:
            return f"the defocus of particles of the same number differs by {off:.0f} Å (median)"
        if np.median(np.abs(theirs - np.median(theirs))) > OTHER_DEFOCUS_ANGSTROM:
            return None
    if first.has_poses and second.has_poses and len(first) > 1:
        angles = [_successive_angles(one.rotations) for one in (first, second)]
        off = float(np.median(np.abs(angles[0] - angles[1])))
        if off > OTHER_ANGLE_DEG:
            return (
                "the angle between successive particles of the same numbers differs by "
                f"{off:.0f}° (median)"
            )
    return None


def _successive_angles(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, " n-1"]:
    """Return the angle between the orientations of each particle and the next, degrees."""
    trace = np.einsum("nij,nij->n", rotations[1:], rotations[:-1])
    return np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def _images(
    table: ParticleTable, reference: ParticleTable
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Return a number for each image of either table, the same for the same image."""
    if all("uid" in one.table.column_names for one in (table, reference)):
        return table.column("uid"), reference.column("uid")
    codes = {uri: number for number, uri in enumerate(sorted({*table.stacks, *reference.stacks}))}
    depth = 1 + max(int(one.column("slice").max(initial=0)) for one in (table, reference))
    first, second = (
        np.array([codes[uri] for uri in one.stacks], dtype=np.int64)[one.stack_codes] * depth
        + one.column("slice")
        for one in (table, reference)
    )
    return first, second
