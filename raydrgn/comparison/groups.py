"""Groups of labels that correspond: where two labelings agree, however finely each divides.

Two sets of k-means clusters rarely have the same borders, even where both are of the same states.
What they share are groups of clusters: particles of some clusters of the one are in some clusters
of the other.
"""

from dataclasses import dataclass

import numpy as np

from raydrgn.shapes import Bool, Int

LEAST_GAIN = 1e-9
"""Share of the particles by which a union must raise agreement; less is rounding."""


@dataclass(frozen=True, slots=True)
class LabelGroups:
    """The group of each label of two labelings; groups are numbered along the first one's labels.

    Particles agree where both of their labels are of one group.
    """

    first: Int[np.ndarray, " k"]
    second: Int[np.ndarray, " m"]

    def is_shared(self) -> Bool[np.ndarray, "k m"]:
        """Return which pairs of labels are of one group."""
        return self.first[:, None] == self.second

    def labels(self) -> list[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
        """Return the labels of each group that has some in both labelings, in order."""
        both = np.intersect1d(self.first, self.second)
        return [
            (np.flatnonzero(self.first == group), np.flatnonzero(self.second == group))
            for group in both
        ]

    def agreement(self, counts: Int[np.ndarray, "k m"]) -> tuple[float, float]:
        """Return the share of the particles that agree, and what it would be by chance."""
        total, shared = counts.sum(), self.is_shared()
        by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total**2
        return float(counts[shared].sum() / total), float(by_chance[shared].sum())


def corresponding_groups(counts: Int[np.ndarray, "k m"]) -> LabelGroups:
    """Return the groups of labels by which two labelings agree most, beyond chance.

    Each label begins as a group of its own. Those two groups are united that raise the share of
    the particles that agree most above what chance would raise it by, until none does: the greedy
    search for the highest modularity, of a network of two kinds of nodes.

    Args:
        counts: Particles by their label in the first labeling and in the second.

    References:
        Barber (2007), Physical Review E 76, 066102; Clauset, Newman & Moore (2004), Physical
        Review E 70, 066111.
    """
    rows, columns = counts.shape
    shares = counts / counts.sum()
    excess = shares - np.outer(shares.sum(axis=1), shares.sum(axis=0))
    gain = np.zeros((rows + columns, rows + columns))
    gain[:rows, rows:] = excess
    gain[rows:, :rows] = excess.T
    group = np.arange(rows + columns)
    while True:
        kept, gone = sorted(np.unravel_index(gain.argmax(), gain.shape))
        if gain[kept, gone] <= LEAST_GAIN:
            break
        gain[kept] += gain[gone]
        gain[:, kept] += gain[:, gone]
        gain[gone] = gain[:, gone] = gain[kept, kept] = 0
        group[group == gone] = kept
    numbers = np.unique(group, return_inverse=True)[1]
    return LabelGroups(numbers[:rows], numbers[rows:])
