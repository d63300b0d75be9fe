"""Clustering of occupancies: trees against SciPy's, groups of real maps, planted structure."""

import re

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from sklearn.metrics import adjusted_rand_score

from planted import planted_table
from raydrgn.errors import ConfigError, InputError
from raydrgn.occupancy import clustering
from raydrgn.occupancy.classes import find_classes
from raydrgn.occupancy.clustering import scaling, ward_tree, weighted_ward
from raydrgn.occupancy.options import ClassOptions
from raydrgn.occupancy.table import OccupancyTable

EXPECTED_GROUPS = [{"18", "115", "498"}, {"194", "442", "457"}, {"288", "293"}, {"383", "386"}]


@pytest.mark.parametrize("settings", [ClassOptions(), ClassOptions(classes=4, scale="column")])
def test_ten_ribosome_maps_fall_into_their_four_groups(real_maps, settings):
    table = OccupancyTable.read(str(real_maps[0].parent / "occupancies_expected.csv"))
    found = find_classes(table, settings)
    groups = [{table.volumes[i] for i in found.rows_of(c)} for c in range(1, 5)]
    assert found.classes.count == 4
    assert all(group in groups for group in EXPECTED_GROUPS)


def test_the_tree_of_groups_is_that_of_all_their_points():
    generator = np.random.default_rng(0)
    places, sizes = generator.normal(size=(40, 5)), generator.integers(1, 6, size=40)
    of_all = linkage(np.repeat(places, sizes, axis=0), method="ward")
    np.testing.assert_allclose(weighted_ward(places, sizes)[:, 2], of_all[-39:, 2], rtol=1e-9)
    ones = weighted_ward(places, np.ones(40, dtype=int))
    np.testing.assert_allclose(ones, linkage(places, method="ward"), rtol=1e-9)


def test_the_fuller_branch_is_that_of_the_larger_mean_of_its_points():
    # One full volume and nine half empty ones are less full than ten that lack two fifths.
    merges = np.array([[0.0, 1.0, 0.5, 2.0], [2.0, 3.0, 1.0, 3.0]])
    order = clustering._fuller_first(merges, np.array([0.9, 0.5, 0.6]), np.array([1, 9, 10]))
    assert order.tolist() == [2, 0, 1]


def test_planted_classes_and_blocks_come_back():
    table, classes, blocks = planted_table(600, noise=0.15)
    found = find_classes(table, ClassOptions(classes=6, blocks=5))
    assert adjusted_rand_score(classes, found.classes.labels) > 0.98
    assert adjusted_rand_score(blocks, found.blocks.labels) > 0.98


def test_a_state_of_two_per_cent_is_a_class_of_its_own():
    table, classes, _ = planted_table(500, noise=0.15, rare=0.02)
    labels = find_classes(table, ClassOptions()).classes.labels
    [own] = np.unique(labels[classes == 5])
    np.testing.assert_array_equal(labels == own, classes == 5)


def test_more_volumes_than_a_tree_can_hold_are_grouped_first(monkeypatch):
    table, classes, _ = planted_table(3000, noise=0.15, rare=0.01)
    exact = find_classes(table, ClassOptions(classes=6, blocks=5))
    monkeypatch.setattr(clustering, "EXACT_LIMIT", 500)
    monkeypatch.setattr(clustering, "GROUPS", 150)
    assert find_classes(table, ClassOptions()).classes.count == 6
    found = find_classes(table, ClassOptions(classes=6, blocks=5))
    assert len(found.classes.tree.sizes) == 150
    assert found.classes.tree.sizes.sum() == 3000
    assert adjusted_rand_score(classes, found.classes.labels) > 0.98
    # the upper part of the tree is that of all volumes
    for above in range(1, 6):
        ours, full = found.classes.tree.heights[-above], exact.classes.tree.heights[-above]
        assert ours == pytest.approx(full, rel=0.02)


def test_fuller_volumes_come_first_and_thresholds_count_as_scipy_counts():
    table, *_ = planted_table(200, noise=0.1)
    found = find_classes(table, ClassOptions(row_threshold=3.0))
    tree = found.classes.tree
    assert found.classes.count == 1 + (linkage(found.clipped, "ward")[:, 2] > 3.0).sum()
    in_order = found.clipped[tree.point_order].mean(axis=1)
    half = int((found.classes.labels[tree.point_order] == 1).sum())
    assert in_order[:half].mean() > in_order[half:].mean()
    assert (np.diff(found.classes.labels[tree.point_order]) >= 0).all()


def test_limits_are_percentiles_of_the_matrix_or_of_each_column():
    values = np.random.default_rng(1).gamma(2.0, size=(50, 3)) * [1, 5, 20]
    whole = scaling(values)
    np.testing.assert_allclose(whole.low, np.percentile(values, 10))
    each = scaling(values, (5, 95), per="column")
    np.testing.assert_allclose(each.high, np.percentile(values, 95, axis=0))
    # a subunit that is there in one volume of a hundred is not scaled away
    rare = np.zeros((100, 2))
    rare[0, 0], rare[:, 1] = 1, np.linspace(0, 1, 100)
    assert scaling(rare, per="column").apply(rare)[:, 0].tolist() == rare[:, 0].tolist()


def test_a_part_has_the_scale_of_the_whole_table():
    table, classes, _ = planted_table(200, noise=0.05)
    rows = np.flatnonzero(classes >= 3)  # where most subunits are absent
    options = ClassOptions(omit=("S3",))
    whole, part = (
        find_classes(table, options),
        find_classes(table.select(rows), options, whole=table),
    )
    np.testing.assert_array_equal(part.scaled, whole.scaled[rows])
    assert part.is_part


def test_a_subunit_most_of_whose_occupancies_are_clipped_is_named(caplog):
    table, *_ = planted_table(200, noise=0.05)
    values = table.values.copy()
    values[:, 7] = np.linspace(-3, 0.5, 200)  # negative in most volumes
    find_classes(table, ClassOptions())
    assert not caplog.text
    clipped = OccupancyTable(volumes=table.volumes, subunits=table.subunits, values=values)
    find_classes(clipped, ClassOptions())
    assert re.search(r"S7: 8\d % .* clipped to 0, .*--scale column", caplog.text)
    caplog.clear()
    find_classes(clipped, ClassOptions(scale="column"))
    assert not caplog.text


def test_without_structure_a_few_classes_are_enough():
    values = np.random.default_rng(0).normal(size=(300, 60))
    table = OccupancyTable(
        volumes=tuple(map(str, range(300))),
        subunits=tuple(f"S{i}" for i in range(60)),
        values=values,
    )
    found = find_classes(table, ClassOptions())
    assert found.classes.count <= 10
    assert found.blocks.count <= 10
    assert not found.pairs.called.any()


def test_one_volume_is_a_tree_too():
    assert ward_tree(np.ones((1, 3))).point_order.tolist() == [0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 31}, "--classes 31 is larger than the number of volumes"),
        ({"blocks": 30}, "--blocks 30 is larger than the number of subunits"),
        ({"classes": 3, "row_threshold": 1.0}, "--row-threshold or --classes, not both"),
        ({"row_threshold": 1e-6, "percentiles": (0, 100)}, "gives 41 clusters|more than 40"),
        ({"column_threshold": -1.0}, "--column-threshold must be greater than 0"),
        ({"percentiles": (90, 10)}, "must ascend"),
        ({"omit": ("zz",)}, "--omit zz: the table has no subunit"),
        ({"where": "S0 > 99"}, "no volume fulfils"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    count = 60 if "percentiles" in settings else 30
    table, *_ = planted_table(count, noise=0.1)
    with pytest.raises(ConfigError, match=message):
        find_classes(table, ClassOptions(**settings))


def test_values_that_cannot_be_clustered_are_named():
    table, *_ = planted_table(30, noise=0.1)

    def with_values(column, value):
        values = table.values.copy()
        values[:, column] = value
        return OccupancyTable(volumes=table.volumes, subunits=table.subunits, values=values)

    with pytest.raises(InputError, match=r"S4 in volume 0 is nan, one of 30 values"):
        find_classes(with_values(4, np.nan), ClassOptions())
    with pytest.raises(InputError, match=r"S4 has the occupancy 0\.5 in all .*--omit S4"):
        find_classes(with_values(4, 0.5), ClassOptions())
    found = find_classes(with_values(4, 0.5), ClassOptions(omit=("S4",)))
    assert "S4" not in found.table.labels
    with pytest.raises(InputError, match="at least two volumes and two subunits"):
        find_classes(table.select(np.array([0])), ClassOptions())
