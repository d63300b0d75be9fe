"""Labels that a user gives: one of each particle of a run, in a file of any kind."""

import re

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.indices import read_labels, rows_of_numbers
from raydrgn.io.labels import WITH_IMAGES, read_labels_file, split_column
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.run.same_particles import numbers_in_file
from raydrgn.shapes import Int

ARRAYS = (".pkl", ".npy")


def own_labels(
    uri: Uri,
    count: int,
    numbers: Int[np.ndarray, " n"],
    *,
    particles: ParticleTable | None = None,
) -> Int[np.ndarray, " n"]:
    """Read a label of each particle: in the order of the particles, or by their original numbers.

    Args:
        uri: ``FILE`` or, of a table, ``FILE:COLUMN``; a table may have the original numbers.
        count: Particles.
        numbers: Their numbers in the original set.
        particles: The particles, where they are known: rows of a STAR or .cs file are matched to
            them by their images.

    Raises:
        InputError: If there are too few, or some are no whole numbers.
    """
    place, column = split_column(uri)
    if column is None and suffix_of(place) in ARRAYS:
        labels = read_labels(place)
    else:
        found = read_labels_file(place, column)
        words = [name for name in found.names if not re.fullmatch(r"-?\d+", name)]
        if words:
            raise InputError(
                f"{uri} has the label {words[0]!r}, but labels are whole numbers here, as those of "
                "clusters."
            )
        labels = np.array([int(name) for name in found.names])[found.codes]
        known = found.numbers
        if known is None and particles is not None and suffix_of(place) in WITH_IMAGES:
            known = _numbers_by_image(place, particles)
        if known is not None:
            return _of_numbers(uri, labels, known, numbers)
    if len(labels) == count:
        return labels
    most = int(numbers.max())
    if len(labels) <= most:
        raise InputError(
            f"{uri} has {len(labels):,} labels, but there are {count:,} particles; give a label "
            f"for each, or for all {most + 1} or more of the set that they were selected from."
        )
    return labels[numbers]


def _numbers_by_image(uri: Uri, particles: ParticleTable) -> Int[np.ndarray, " m"] | None:
    try:
        return numbers_in_file(uri, particles)
    except InputError as error:
        raise InputError(
            f"{uri} has labels of images that are not all in {particles.metadata.get('source')}, "
            "or not once, so that it is not known which particles these are. Give a table with the "
            "columns original and label."
        ) from error


def _of_numbers(
    uri: Uri,
    labels: Int[np.ndarray, " m"],
    known: Int[np.ndarray, " m"],
    numbers: Int[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """Return the labels of some original numbers.

    Raises:
        InputError: If some have none, or several.
    """
    different, counts = np.unique(known, return_counts=True)
    if counts.max() > 1:
        raise InputError(f"{uri} has particle {different[counts.argmax()]} more than once.")
    rows = rows_of_numbers(known, numbers)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise InputError(
            f"{uri} has no label of particle {numbers[missing[0]]} ({missing.size:,} such "
            "particles). Numbers count from 0 in the original set."
        )
    return labels[rows]
