"""Correlations between the occupancies of subunits, and which of them chance does not explain.

The null hypothesis is that all subunits are occupied independently of one another. It is simulated
by permuting each column by itself. A correlation is called at the family-wise error rate α if
fewer than α of the permutations have any pair with a correlation as large: the chance of one or
more false calls among all pairs is at most α, whatever the number of pairs.

References:
    Westfall & Young (1993), Resampling-Based Multiple Testing (maximum statistic, single step).
"""

from typing import NamedTuple

import numpy as np

from raydrgn.shapes import Bool, Float

PERMUTATIONS = 1_000
TESTED_ROWS = 5_000
"""Rows of the permutation test at most: a random sample of larger tables."""

ERROR_RATE = 0.05


class Cooperativity(NamedTuple):
    """Correlations of subunits: positive if they occur together, negative if they exclude."""

    r: Float[np.ndarray, "k k"]
    """Pearson correlations, over all rows."""

    p: Float[np.ndarray, "k k"]
    """P value of each pair, adjusted for all pairs."""

    rows: int
    """Number of rows of the permutation test."""

    @property
    def called(self) -> Bool[np.ndarray, "k k"]:
        """Pairs that chance does not explain, at the family-wise error rate of 5 %."""
        return (self.p <= ERROR_RATE) & ~np.eye(len(self.p), dtype=bool)


def cooperativity(
    values: Float[np.ndarray, "n k"], *, seed: int = 0, permutations: int = PERMUTATIONS
) -> Cooperativity:
    """Correlate columns, and test against permutations of each.

    A column that does not vary correlates with none. The adjusted p value of a pair is
    (1 + permutations in which any pair has as large a correlation)/(1 + permutations).
    """
    generator = np.random.default_rng(seed)
    rows = len(values)
    tested = values
    if rows > TESTED_ROWS:
        tested = values[generator.choice(rows, TESTED_ROWS, replace=False)]
    standard = _standardised(tested)
    found = np.abs(standard.T @ standard)
    largest = np.empty(permutations)
    for number in range(permutations):
        shuffled = generator.permuted(standard, axis=0)
        r = np.abs(shuffled.T @ shuffled)
        np.fill_diagonal(r, 0)
        largest[number] = r.max()
    beyond = permutations - np.searchsorted(np.sort(largest), found - 1e-12)
    p = (1 + beyond) / (1 + permutations)
    np.fill_diagonal(p, 0)
    whole = _standardised(values)
    return Cooperativity(np.clip(whole.T @ whole, -1, 1), p, len(tested))


def _standardised(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Return columns of mean 0 and length 1, whose products are correlations; 0 if constant."""
    centred = values - values.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300)
