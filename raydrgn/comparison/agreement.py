"""Cross-tabulation of two labelings of the same particles, and how far they agree."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score

from raydrgn.comparison.groups import LabelGroups, corresponding_groups
from raydrgn.comparison.labelings import SELECTION, Labeling
from raydrgn.errors import InputError
from raydrgn.shapes import Bool, Float, Int


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Two labelings, matched by the numbers of their particles."""

    first: Labeling
    second: Labeling
    numbers: Int[np.ndarray, " n"]
    """Particles that both have, ascending."""

    counts: Int[np.ndarray, "k m"]
    """Particles by their label in the first (row) and in the second (column)."""

    only_first: Int[np.ndarray, " k"]
    """Particles of each label of the first that the second does not have."""

    only_second: Int[np.ndarray, " m"]
    adjusted_rand: float
    """1 for the same partition, 0 as by chance (Hubert & Arabie 1985, J. Classif. 2:193)."""

    moved: Bool[np.ndarray, " n"]
    """Particles that are not where most particles of their label in the first are; of two
    selections, those that one keeps and the other drops."""

    agreed: Bool[np.ndarray, " n"]
    """Particles whose two labels are of one group."""

    groups: LabelGroups
    """Labels of the first that correspond to labels of the second."""

    def shares(self) -> Float[np.ndarray, "k m"]:
        """Return the share of each row's particles in each column; 0 in an empty row."""
        return self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)

    @property
    def stayed_together(self) -> float:
        """Share of the particles that are in the label of the second where most of theirs are."""
        return float(self.counts.max(axis=1).sum() / self.counts.sum())

    @property
    def came_together(self) -> float:
        """The same from the second to the first."""
        return float(self.counts.max(axis=0).sum() / self.counts.sum())

    def column_order(self) -> Int[np.ndarray, " m"]:
        """Return the order of columns that brings large counts to the diagonal.

        By the mean row of each column's particles; empty columns come last.
        """
        total = self.counts.sum(axis=0)
        rows = np.arange(len(self.counts))
        mean = np.where(total > 0, rows @ self.counts / np.maximum(total, 1), np.inf)
        return np.argsort(mean, kind="stable")


def compare(first: Labeling, second: Labeling) -> Agreement:
    """Return how two labelings agree on the particles that both have.

    Raises:
        InputError: If they have no particle in common.
    """
    numbers, rows, other_rows = np.intersect1d(
        first.known_numbers, second.known_numbers, assume_unique=True, return_indices=True
    )
    if not numbers.size:
        raise InputError(
            f"{first.name} and {second.name} have no particle in common: numbers from "
            f"{first.known_numbers.min():,} to {first.known_numbers.max():,}, and from "
            f"{second.known_numbers.min():,} to {second.known_numbers.max():,}."
        )
    a, b = first.codes[rows], second.codes[other_rows]
    shape = (len(first.names), len(second.names))
    counts = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
    groups = corresponding_groups(counts)
    moved = counts.argmax(axis=1)[a] != b
    if first.kind == second.kind == SELECTION:  # whose names mean the same in both
        moved = np.array(first.names)[a] != np.array(second.names)[b]
    return Agreement(
        first=first,
        second=second,
        numbers=numbers,
        counts=counts,
        only_first=np.bincount(first.codes, minlength=shape[0]) - counts.sum(axis=1),
        only_second=np.bincount(second.codes, minlength=shape[1]) - counts.sum(axis=0),
        adjusted_rand=float(adjusted_rand_score(a, b)),
        moved=moved,
        agreed=groups.is_shared()[a, b],
        groups=groups,
    )
