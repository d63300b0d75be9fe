"""Groups of labels that correspond, where two labelings divide the same states differently."""

import csv

import numpy as np
import pytest

from raydrgn.comparison.agreement import compare
from raydrgn.comparison.groups import corresponding_groups
from raydrgn.comparison.labelings import Labeling
from raydrgn.io import cryodrgn
from raydrgn.io.labels import to_labels
from raydrgn.workflows import compare as workflow
from raydrgn.workflows.compare import CompareSettings


def compared(first, second):
    labelings = []
    for values in (first, second):
        found = to_labels(values, "some")
        numbers = np.arange(len(values))
        labelings.append(
            Labeling(
                name="some", kind="labels", names=found.names, codes=found.codes, numbers=numbers
            )
        )
    return compare(*labelings)


def divided(states, parts, generator):
    """Return each state cut into some parts at random, as k-means of many clusters would."""
    return states * parts + generator.integers(0, parts, len(states))


def test_states_are_found_however_each_labeling_divides_them():
    generator = np.random.default_rng(0)
    states = generator.integers(0, 4, 4000)
    found = compared(divided(states, 3, generator), divided(3 - states, 5, generator))
    assert found.adjusted_rand < 0.35
    assert found.moved.mean() > 0.7
    groups = found.groups.labels()
    assert [rows.tolist() for rows, _ in groups] == [
        [3 * s, 3 * s + 1, 3 * s + 2] for s in range(4)
    ]
    assert [columns.tolist() for _, columns in groups] == [
        list(range(5 * s, 5 * s + 5)) for s in (3, 2, 1, 0)
    ]
    share, by_chance = found.groups.agreement(found.counts)
    assert share == 1
    assert by_chance == pytest.approx(0.25, abs=0.01)


def test_particles_that_do_not_agree_are_those_that_were_exchanged():
    generator = np.random.default_rng(1)
    states = generator.integers(0, 3, 3000)
    other = states.copy()
    exchanged = generator.choice(3000, 150, replace=False)
    other[exchanged] = (other[exchanged] + 1) % 3
    found = compared(divided(states, 4, generator), divided(other, 2, generator))
    np.testing.assert_array_equal(np.flatnonzero(~found.agreed), np.sort(exchanged))
    assert found.groups.agreement(found.counts)[0] == pytest.approx(0.95)


def test_by_chance_labels_agree_hardly_more_than_by_chance():
    first, second = np.random.default_rng(2).integers(0, 8, (2, 20_000))
    found = compared(first, second)
    share, by_chance = found.groups.agreement(found.counts)
    assert share - by_chance < 0.02


def test_labels_without_particles_are_of_no_group():
    groups = corresponding_groups(np.array([[5, 0, 0], [0, 0, 0], [0, 0, 7]]))
    assert [(a.tolist(), b.tolist()) for a, b in groups.labels()] == [([0], [0]), ([2], [2])]


def test_one_label_for_all_corresponds_to_nothing():
    found = compared(np.zeros(20, dtype=int), np.arange(20) % 2)
    assert len(found.groups.labels()) < 2
    assert found.groups.agreement(found.counts)[0] == found.groups.agreement(found.counts)[1]


def test_groups_are_printed_and_written(tmp_path):
    states = np.arange(120) % 2
    fine = states + 2 * (np.arange(120) % 3)  # 0, 2 and 4 are of the first state
    for name, labels in (("coarse", states), ("fine", fine)):
        cryodrgn.write_pickles(str(tmp_path / f"{name}.pkl"), labels)
    words = tuple(str(tmp_path / f"{name}.pkl") for name in ("coarse", "fine"))
    found = workflow.run(CompareSettings(labels=words, out=str(tmp_path / "out")))
    sentence, _, head, first, second, *_ = found.lines()
    assert sentence.endswith(
        "2 groups of their labels correspond: in these 100.0 % of the particles agree, where "
        "50.0 % would by chance."
    )
    assert head.split("  ")[0] == "labels of the first"
    assert first.split() == ["0", "0,", "2,", "4", "60", "100", "%", "100", "%"]
    assert second.split() == ["1", "1,", "3,", "5", "60", "100", "%", "100", "%"]
    numbers = (tmp_path / "out" / "agreement.csv").read_text().splitlines()[1]
    assert numbers.endswith(",2,1,0.5")
    with (tmp_path / "out" / "1-2" / "groups.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["group", "labeling", "label", "particles"]
    assert rows[1:5] == [["0", "first", "0", "60"]] + [
        ["0", "second", label, "20"] for label in ("0", "2", "4")
    ]
    [agreed] = cryodrgn.read_pickles(str(tmp_path / "out" / "1-2" / "agreed.ind.pkl"))
    np.testing.assert_array_equal(agreed, np.arange(120))
