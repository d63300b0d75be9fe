"""Correlations between the occupancies of subunits, and which of them chance does not explain.

The null hypothesis is that all subunits are occupied independently of one another. It is simulated
by permuting each column by itself. A correlation is called at the family-wise error rate α if
fewer than α of the permutations have any pair with a correlation as large: the chance of one or
more false calls among all pairs is at most α, whatever the number of pairs.

A subunit that is present in all volumes, or in none, is not tested: its occupancy follows the scale
of the map, which differs between volumes, and is thus correlated with all that is large.

References:
    Westfall & Young (1993), Resampling-Based Multiple Testing (maximum statistic, single step).
"""

from typing import NamedTuple

import numpy as np

from raydrgn.occupancy.options import Scale
from raydrgn.shapes import Bool, Float

PERMUTATIONS = 1_000
TESTED_ROWS = 5_000
"""Rows of the permutation test at most: a random sample of larger tables."""

ERROR_RATE = 0.05

USUAL = (1.0, 99.0)
"""Percentiles of the volumes between which a subunit varies or does not: a few volumes that failed
do not count, and a subunit of a rare state does."""

VARIATION = 1 / 3
"""Share of the scale by which the occupancy of a subunit differs at least if it varies. Of a
subunit that is in all volumes of a simulated run it differs by 0.1."""


class Cooperativity(NamedTuple):
    """Correlations of subunits: positive if they occur together, negative if they exclude."""

    r: Float[np.ndarray, "k k"]
    """Pearson correlations, over all rows; NaN if either subunit is not tested."""

    p: Float[np.ndarray, "k k"]
    """P value of each pair, adjusted for all pairs; NaN if either subunit is not tested."""

    rows: int
    """Number of rows of the permutation test."""

    tested: Bool[np.ndarray, " k"]
    """Subunits that vary."""

    @property
    def called(self) -> Bool[np.ndarray, "k k"]:
        """Pairs that chance does not explain, at the family-wise error rate of 5 %."""
        return (self.p <= ERROR_RATE) & ~np.eye(len(self.p), dtype=bool)


def varies(
    values: Float[np.ndarray, "n k"], whole: Float[np.ndarray, "m k"], *, per: Scale
) -> Bool[np.ndarray, " k"]:
    """Return which subunits are present in some volumes and absent in others.

    Args:
        values: Occupancies, not scaled.
        whole: All occupancies of the table, of which the others may be a part.
        per: ``matrix`` where subunits have one scale: the range of all occupancies. Where each has
            its own (``column``), it reaches from solvent, 0, to the largest values of the subunit.
    """
    low, high = np.percentile(values, USUAL, axis=0)
    if per == "matrix":
        scale = np.full(values.shape[1], np.ptp(np.percentile(whole, USUAL)))
    else:
        scale = np.abs(np.percentile(whole, USUAL, axis=0)).max(axis=0)
    return (high - low >= VARIATION * scale) & (high > low)


def cooperativity(
    values: Float[np.ndarray, "n k"],
    *,
    tested: Bool[np.ndarray, " k"] | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Cooperativity:
    """Correlate columns, and test against permutations of each.

    A column that does not vary correlates with none. The adjusted p value of a pair is
    (1 + permutations in which any pair has as large a correlation)/(1 + permutations).

    Args:
        values: Occupancies.
        tested: Subunits that are correlated; all by default.
        seed: Of the permutations.
        permutations: How many.
    """
    width = values.shape[1]
    if tested is not None and not tested.all():
        r, p = np.full((width, width), np.nan), np.full((width, width), np.nan)
        chosen = np.ix_(tested, tested)
        if tested.sum() < 2:
            return Cooperativity(r, p, min(len(values), TESTED_ROWS), tested)
        found = cooperativity(values[:, tested], seed=seed, permutations=permutations)
        r[chosen], p[chosen] = found.r, found.p
        return Cooperativity(r, p, found.rows, tested)
    generator = np.random.default_rng(seed)
    rows = len(values)
    sample = values
    if rows > TESTED_ROWS:
        sample = values[generator.choice(rows, TESTED_ROWS, replace=False)]
    standard = _standardised(sample)
    size = np.abs(standard.T @ standard)
    largest = np.empty(permutations)
    for number in range(permutations):
        shuffled = generator.permuted(standard, axis=0)
        r = np.abs(shuffled.T @ shuffled)
        np.fill_diagonal(r, 0)
        largest[number] = r.max()
    beyond = permutations - np.searchsorted(np.sort(largest), size - 1e-12)
    p = (1 + beyond) / (1 + permutations)
    np.fill_diagonal(p, 0)
    whole = _standardised(values)
    is_tested = np.ones(width, dtype=bool)
    return Cooperativity(np.clip(whole.T @ whole, -1, 1), p, len(sample), is_tested)


def _standardised(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Return columns of mean 0 and length 1, whose products are correlations; 0 if constant."""
    centred = values - values.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300)
