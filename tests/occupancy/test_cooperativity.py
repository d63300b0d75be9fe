"""Correlations between subunits: planted ones are called, chance is not."""

import numpy as np
from scipy import stats

from raydrgn.occupancy.cooperativity import ERROR_RATE, cooperativity


def test_planted_correlations_of_either_sign_are_called():
    generator = np.random.default_rng(3)
    values = generator.normal(size=(400, 12))
    values[:, 1] = 0.6 * values[:, 0] + 0.8 * values[:, 1]
    values[:, 5] = -0.4 * values[:, 4] + 0.92 * values[:, 5]
    found = cooperativity(values)
    assert {tuple(pair) for pair in np.argwhere(np.triu(found.called)).tolist()} == {(0, 1), (4, 5)}
    np.testing.assert_allclose(found.r, np.corrcoef(values.T), atol=1e-12)
    assert found.r[0, 1] > 0.5
    assert found.r[4, 5] < -0.3
    assert found.p[0, 1] == found.p.min() + 1 / 1001  # the least possible; the diagonal has 0


def test_independent_subunits_are_called_no_oftener_than_stated():
    """Occupancies of real shape: there or not, at rates of 5 to 95 %."""
    generator = np.random.default_rng(4)
    trials, wrong = 200, 0
    for number in range(trials):
        there = generator.uniform(size=(80, 10)) < np.linspace(0.05, 0.95, 10)
        values = there + 0.1 * generator.normal(size=there.shape)
        wrong += cooperativity(values, seed=number, permutations=199).called.any()
    assert wrong <= stats.binom.ppf(0.999, trials, ERROR_RATE)


def test_of_many_volumes_a_sample_is_tested():
    values = np.random.default_rng(5).normal(size=(20_000, 3))
    values[:, 2] += values[:, 1]
    values[:, 0] = 1.0  # does not vary
    found = cooperativity(values, permutations=99)
    assert found.rows == 5_000
    assert found.called.tolist() == [
        [False, False, False],
        [False, False, True],
        [False, True, False],
    ]
    np.testing.assert_allclose(found.r[1, 2], np.corrcoef(values[:, 1:].T)[0, 1], atol=1e-12)
