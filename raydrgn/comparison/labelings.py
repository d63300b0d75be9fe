"""The label of each particle of a set, known by its number in the original set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.indices import rows_of_numbers
from raydrgn.shapes import Int

log = logging.getLogger(__name__)

SELECTION = "selection"
"""Kind of the labels kept and dropped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labeling:
    """A label for each of some particles."""

    name: str
    """As the user gave it."""

    kind: str
    """What the labels are, in words: ``k-means of 20``."""

    names: tuple[str, ...]
    codes: Int[np.ndarray, " n"]
    """Position of each particle's label in ``names``."""

    numbers: Int[np.ndarray, " n"] | None
    """Number of each particle in the original set; None if the file lacks it."""

    run: str | None = None
    """Run of the particles, where it is known."""

    images: str | None = None
    """Particle file of RELION or cryoSPARC that the labels are of, where they are."""

    column: str | None = None
    """Column of the table that they are from, where they are from one."""

    @property
    def known_numbers(self) -> Int[np.ndarray, " n"]:
        """The numbers, after ``with_numbers``."""
        if self.numbers is None:
            raise ValueError(f"{self.name} has no numbers yet")
        return self.numbers


def largest_file(labelings: Sequence[Labeling]) -> str | None:
    """Return the particle file of most labels, whose rows are the numbers where there is no run."""
    files = [labeling for labeling in labelings if labeling.images]
    return max(files, key=lambda labeling: len(labeling.codes)).images if files else None


def with_numbers(labelings: Sequence[Labeling]) -> list[Labeling]:
    """Return labelings whose particles all have numbers.

    Labels without numbers, as in a pickle of published ones, are of the original set if there are
    more of them than the highest number of any other labeling; else of the particles of the
    labeling that has as many.

    Raises:
        InputError: If a particle is listed twice, or it is not known whose labels a file has.
    """
    known = [labeling for labeling in labelings if labeling.numbers is not None]
    highest = max((int(labeling.known_numbers.max()) for labeling in known), default=-1)
    if not known:  # of files alone
        highest = max(len(labeling.codes) for labeling in labelings) - 1
    found = [
        labeling if labeling.numbers is not None else _numbered(labeling, known, highest)
        for labeling in labelings
    ]
    for labeling in found:
        numbers, counts = np.unique(labeling.known_numbers, return_counts=True)
        if counts.max() > 1:
            raise InputError(
                f"{labeling.name} has particle {numbers[counts.argmax()]} {counts.max()} times "
                f"({int((counts > 1).sum())} such particles); each must be there once to be "
                "matched."
            )
    _warn_of_counts_from_one(found)
    return found


def _warn_of_counts_from_one(labelings: Sequence[Labeling]) -> None:
    """Warn of numbers that seem to count from 1 beside others that count from 0."""
    numbers = [found.known_numbers for found in labelings]
    ranges = [(int(of_one.min()), int(of_one.max())) for of_one in numbers]
    for labeling, (least, most) in zip(labelings, ranges, strict=True):
        if least == 1 and any(other == (0, most - 1) for other in ranges):
            log.warning(
                "%s has the particles 1 to %s, and others 0 to %s: numbers count from 0; if these "
                "count from 1, subtract 1 from each, or other particles are compared",
                *(labeling.name, f"{most:,}", f"{most - 1:,}"),
            )


def matching_rows(first: Labeling, second: Labeling) -> Int[np.ndarray, " n"]:
    """Return for each particle of the first its row in the second; −1 where it is not there."""
    return rows_of_numbers(second.known_numbers, first.known_numbers)


def _numbered(labeling: Labeling, known: Sequence[Labeling], highest: int) -> Labeling:
    count = len(labeling.codes)
    if count > highest:
        return replace(labeling, numbers=np.arange(count))
    same = [other for other in known if len(other.codes) == count]
    distinct = {other.known_numbers.tobytes(): other.known_numbers for other in same}
    if len(distinct) == 1:
        return replace(labeling, numbers=next(iter(distinct.values())))
    others = "; ".join(
        f"{other.name}: {len(other.codes):,} particles, numbers up to "
        f"{int(other.known_numbers.max()):,}"
        for other in known
    )
    listed = others or f"another file has {highest + 1:,}"
    raise InputError(
        f"{labeling.name} has {count:,} labels without the numbers of their particles, and it is "
        f"not known which particles these are ({listed}). Give a table with the columns original "
        "and label."
    )
