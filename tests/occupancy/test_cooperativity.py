"""Correlations between subunits: planted ones are called, chance is not."""

import numpy as np
from scipy import stats

from raydrgn.occupancy.class_report import ReportContent, write_class_report
from raydrgn.occupancy.classes import find_classes, pair_rows
from raydrgn.occupancy.clustering import scaling
from raydrgn.occupancy.cooperativity import ERROR_RATE, cooperativity, varies
from raydrgn.occupancy.options import ClassOptions
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.reporting.result_folder import ResultFolder


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


def occupancies_with_a_core(count=800):
    """Return occupancies of a core in all volumes, of two subunits in some, and one in none.

    The scale of a volume is larger where less is in it.
    """
    generator = np.random.default_rng(6)
    there = (generator.uniform(size=(count, 4)) < [1, 0.5, 0.3, 0]).astype(float)
    scale = 1 - 0.04 * there.sum(axis=1, keepdims=True)
    return scale * there + 0.01 * generator.normal(size=there.shape)


def test_subunits_in_all_or_no_volumes_are_not_tested():
    values = occupancies_with_a_core()
    clipped = scaling(values).apply(values).clip(0, 1)
    assert cooperativity(clipped, permutations=99).r[0, 1] < -0.5  # of the scale alone
    tested = varies(values, values, per="matrix")
    assert tested.tolist() == [False, True, True, False]
    found = cooperativity(clipped, tested=tested, permutations=99)
    assert not found.called.any()
    assert np.isnan(found.r[0]).all()
    assert np.isnan(found.p[:, 3]).all()
    np.testing.assert_allclose(found.r[1, 2], np.corrcoef(clipped[:, 1:3].T)[0, 1], atol=1e-12)
    none = cooperativity(clipped, tested=np.arange(4) == 1, permutations=99)
    assert np.isnan(none.r).all()
    assert not none.called.any()


def test_where_each_subunit_has_its_own_scale_solvent_counts_as_zero():
    values = occupancies_with_a_core() * [0.2, 5, 0.1, 1]
    assert varies(values, values, per="column").tolist()[:3] == [False, True, True]


def test_a_subunit_of_a_rare_state_is_tested():
    values = np.random.default_rng(7).normal(scale=0.02, size=(1000, 2))
    values[:20, 0] += 1
    values[500:, 1] += 1
    assert varies(values, values, per="matrix").all()


def test_the_report_names_subunits_that_are_not_tested(tmp_path):
    values = occupancies_with_a_core(60)
    table = OccupancyTable(
        volumes=tuple(map(str, range(60))), subunits=("core", "arm", "lid", "tail"), values=values
    )
    found = find_classes(table, ClassOptions())
    assert [row[:2] for row in pair_rows(found)] == [("arm", "lid")]
    write_class_report(ReportContent(title="t", found=found), ResultFolder(str(tmp_path)))
    assert "not tested: core, tail." in (tmp_path / "report.html").read_text()
