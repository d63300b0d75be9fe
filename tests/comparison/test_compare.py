"""Labels of the same particles: matched by original number, counted, and what is refused."""

import csv
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from phantoms import table_of
from raydrgn.cli.main import app
from raydrgn.comparison.agreement import compare
from raydrgn.comparison.labelings import Labeling, with_numbers
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.labels import read_labels_file, read_values_file, to_labels
from raydrgn.workflows import compare as workflow
from raydrgn.workflows.compare import CompareSettings


def labeling(values, numbers=None, name="some"):
    found = to_labels(values, name)
    numbers = np.arange(len(found.codes)) if numbers is None else np.asarray(numbers)
    return Labeling(name=name, kind="labels", names=found.names, codes=found.codes, numbers=numbers)


def compare_files(*labels, **more):
    return workflow.run(CompareSettings(labels=tuple(map(str, labels)), **more))


def rows_of(path):
    with path.open() as stream:
        return list(csv.reader(stream))


def test_the_same_partition_under_other_names_agrees_wholly():
    first = np.random.default_rng(0).integers(0, 5, 400)
    names = np.array(["e", "d", "c", "b", "a"])
    found = compare(labeling(first), labeling(names[first]))
    assert found.adjusted_rand == pytest.approx(1)
    assert not found.moved.any()
    np.testing.assert_array_equal(found.counts, np.fliplr(np.diag(np.bincount(first))))
    np.testing.assert_array_equal(found.column_order(), [4, 3, 2, 1, 0])


def test_numbers_that_seem_to_count_from_1_are_named(caplog):
    from_zero, values = labeling(range(5)), [0, 1, 2, 3, 4]
    with_numbers([from_zero, labeling(values, [1, 2, 3, 4, 5], name="published")])
    [record] = caplog.records
    assert record.getMessage().startswith("published has the particles 1 to 5, and others 0 to 4:")
    caplog.clear()
    with_numbers([from_zero, labeling([0, 1], [1, 3])])
    assert not caplog.records


def test_partitions_by_chance_agree_by_chance():
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, 4, (2, 20_000))
    found = compare(labeling(first), labeling(second))
    assert abs(found.adjusted_rand) < 0.002
    assert found.moved.mean() == pytest.approx(0.75, abs=0.02)


def test_particles_that_moved_are_those_that_were_moved():
    first = np.repeat([0, 1, 2], [50, 30, 20])
    second = first.copy()
    second[[3, 4, 55]] = [1, 2, 0]
    found = compare(labeling(first), labeling(second))
    np.testing.assert_array_equal(found.numbers[found.moved], [3, 4, 55])
    assert found.stayed_together == pytest.approx(0.97)


def test_a_split_cluster_moves_its_smaller_part():
    first = np.zeros(10, dtype=int)
    second = np.repeat([0, 1], [6, 4])
    found = compare(labeling(first), labeling(second))
    np.testing.assert_array_equal(np.flatnonzero(found.moved), [6, 7, 8, 9])
    assert (found.stayed_together, found.came_together) == (0.6, 1)


def test_particles_are_matched_by_number_and_counted_where_one_lacks_them():
    first = labeling([0, 0, 1, 1, 2], numbers=[9, 5, 3, 7, 1])
    second = labeling(["b", "a", "a"], numbers=[3, 5, 100])
    found = compare(first, second)
    np.testing.assert_array_equal(found.numbers, [3, 5])
    np.testing.assert_array_equal(found.counts, [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(found.only_first, [1, 1, 1])
    np.testing.assert_array_equal(found.only_second, [1, 0])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 2, -1], ("-1", "2", "10")),
        (["C10", "C2", "C2"], ("C2", "C10")),
        (np.array(["B", "A1"], dtype=object), ("A1", "B")),
        ([2.0, 1.0], ("1", "2")),
        ([True, False], ("False", "True")),
        (np.array(["état".encode(), b"\xe9tat"]), ("état", "\ufffdtat")),
    ],
)
def test_labels_are_numbers_or_words_in_their_order(values, names):
    assert to_labels(values, "file").names == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], r"row 0 \(from 0\) is 0.5"),
        (np.arange(201), "201 different values"),
        (["a", "", "b"], r"row 1 \(from 0\) is empty"),
        (np.zeros((3, 2)), r"shape \(3, 2\)"),
        ([[1], [1, 2]], "a label for each particle"),
        ({"a": 1}, "found dict"),
    ],
)
def test_what_is_no_label_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        to_labels(values, "file")


@pytest.mark.parametrize("suffix", ["csv", "star"])
def test_subclasses_stay_the_names_that_they_are(tmp_path, suffix):
    names = ["1_11", "11_1", "2_0", "20"]  # Python reads the first two as 111
    head = {"csv": "cluster", "star": "data_particles\n\nloop_\n_cluster #1"}[suffix]
    (tmp_path / f"a.{suffix}").write_text("\n".join([head, *names, ""]))
    found = read_labels_file(str(tmp_path / f"a.{suffix}"), "cluster")
    assert [found.names[code] for code in found.codes] == names


def test_files_of_every_kind_hold_the_same_labels(tmp_path):
    labels = np.array([2, 0, 1, 1, 0])
    cryodrgn.write_pickles(str(tmp_path / "a.pkl"), labels)
    np.save(tmp_path / "a.npy", labels)
    (tmp_path / "a.txt").write_text("2\n0\n1\n1\n0\n")
    (tmp_path / "a.csv").write_text("index,class\n0,2\n1,0\n2,1\n3,1\n4,0\n")
    pq.write_table(pa.table({"original": range(5), "z": range(5), "cluster": labels}),
                   tmp_path / "a.parquet")  # fmt: skip
    rows = "".join(f"{i + 1}@s.mrcs {label}\n" for i, label in enumerate(labels))
    (tmp_path / "a.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n1\n\n"
        f"data_particles\n\nloop_\n_rlnImageName\n_rlnClassNumber\n{rows}"
    )
    for suffix in ("pkl", "npy", "txt", "csv", "parquet", "star"):
        found = read_labels_file(str(tmp_path / f"a.{suffix}"))
        np.testing.assert_array_equal(np.array(found.names)[found.codes].astype(int), labels)
        assert (found.numbers is not None) == (suffix in ("csv", "parquet"))
    found = read_labels_file(str(tmp_path / "a.parquet"), "z")
    assert len(found.names) == 5


@pytest.mark.parametrize("name", ["index", "Index", "Original", "NUMBER"])
def test_numbers_are_found_by_their_column_whatever_its_capitals(tmp_path, name):
    (tmp_path / "a.csv").write_text(f"{name},Label\n2,7\n0,5\n1,6\n")
    found = read_labels_file(str(tmp_path / "a.csv"))
    assert found.numbers is not None
    assert found.numbers.tolist() == [2, 0, 1]
    assert [found.names[code] for code in found.codes] == ["7", "5", "6"]
    assert read_values_file(str(tmp_path / "a.csv")).numbers.tolist() == [2, 0, 1]


def test_a_column_of_particles_orders_the_rows_or_is_refused(tmp_path):
    """A spreadsheet that was sorted by label; numbers from 1, and those of the original set."""
    path = tmp_path / "a.csv"
    order, labels = [0, 3, 1, 4, 2, 5], [7, 8, 9, 7, 8, 9]

    def write(start):
        path.write_text("particle,label\n" + "".join(f"{i + start},{labels[i]}\n" for i in order))

    write(0)
    found = read_labels_file(str(path))
    assert [int(found.names[code]) for code in found.codes] == labels
    assert read_values_file(str(path)).values.tolist() == labels
    for start in (1, 10):
        write(start)
        for read in (read_labels_file, read_values_file):
            with pytest.raises(InputError, match=rf"particle has numbers from {start} .*original"):
                read(str(path))


def test_a_blank_line_in_a_column_of_a_spreadsheet_is_an_empty_cell(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("cluster\n1\n\n3\n# as published\n4\n5\n\n")
    with pytest.raises(InputError, match=r"row 1 \(from 0\) is nan"):
        read_labels_file(str(path))
    np.testing.assert_array_equal(read_values_file(str(path)).values, [1, np.nan, 3, 4, 5])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1\n3,\n4,2", r"a.csv, column class .* row 1 \(from 0\) is nan"),
        ("0,a\n3,\n4,b", r"a.csv, column class .* row 1 \(from 0\) is empty"),
        ("0,1\n-3,2\n4,2", r"column index should hold .* row 1 \(from 0\) is -3 \(1 such rows\)"),
        ("0,1\n,2\n4,2", r"column index should hold .* row 1 \(from 0\) is nan"),
        ("0,1\nx,2\n4,2", r"column index should hold .* row 1 \(from 0\) is x"),
    ],
)
def test_an_empty_or_wrong_cell_is_named_by_its_row(rows, message, tmp_path):
    (tmp_path / "a.csv").write_text(f"index,class\n{rows}\n")
    with pytest.raises(InputError, match=message):
        read_labels_file(str(tmp_path / "a.csv"))


def test_an_empty_cell_is_an_unknown_value(tmp_path):
    (tmp_path / "a.tsv").write_text("index\tvalue\n0\t1.5\n1\t\n2\t3\n")
    found = read_values_file(str(tmp_path / "a.tsv"))
    np.testing.assert_array_equal(found.values, [1.5, np.nan, 3])


def test_an_empty_cell_among_words_is_named_by_its_row(tmp_path):
    (tmp_path / "a.csv").write_text("index,label\n0,apo\n1,\n2,holo\n")
    with pytest.raises(InputError, match=r"row 1 \(from 0\) is empty"):
        read_values_file(str(tmp_path / "a.csv"))


def test_a_run_has_as_many_clusters_as_it_was_given(tmp_path):
    """More than the different values that a column of labels may have."""
    z = np.random.default_rng(0).normal(size=(420, 2))
    root = make_run(tmp_path / "run", z).files.root
    options = ["--ksample", "210", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, ["analyze", root, *options]).exit_code == 0
    [found] = compare_files(root, f"{root}/analyze.1").pairs
    assert found.adjusted_rand == pytest.approx(1)


def test_two_epochs_of_a_run_and_published_labels(tmp_path):
    """The run has a selection; published labels are of the original set."""
    states = np.arange(60) % 3
    chosen = np.arange(0, 60, 2)
    offsets = np.array([[0, 0], [9, 0], [0, 9]])[states[chosen]]
    z = np.random.default_rng(0).normal(size=(30, 2)) + offsets
    table = table_of(60, box=8, pixel_size=2.0).select(chosen)
    root = make_run(tmp_path / "run", z, table=table).files.root
    arguments = ["analyze", root, "--ksample", "3", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    cryodrgn.write_pickles(str(tmp_path / "states.pkl"), states)
    cryodrgn.write_pickles(str(tmp_path / "mine.pkl"), states[chosen])
    places = [f"{root}:1", f"{root}/analyze.1", f"{root}/analyze.1/kmeans3"]
    for place in (root, *places):
        for name in ("states.pkl", "mine.pkl"):
            [found] = compare_files(place, tmp_path / name).pairs
            np.testing.assert_array_equal(found.numbers, chosen)
            assert found.adjusted_rand == pytest.approx(1)
    out = tmp_path / "out"
    made = compare_files(root, tmp_path / "states.pkl", out=str(out))
    assert made.lines()[0].endswith(
        f"30 are in {tmp_path}/states.pkl only. 0 (0.0 %) have moved. 3 groups of their labels "
        "correspond: in these 100.0 % of the particles agree, where 33.3 % would by chance."
    )
    counts = rows_of(out / "1-2" / "counts.csv")
    assert counts[0] == ["label", "0", "1", "2", "not_in_second"]
    assert sum(int(cell) for row in counts[1:-1] for cell in row[1:]) == 30
    assert counts[-1] == ["not_in_first", "10", "10", "10", "0"]
    particles = pq.read_table(out / "particles.parquet")
    assert particles.num_rows == 60
    assert particles.column(1).null_count == 30
    assert cryodrgn.read_pickles(str(out / "1-2" / "moved.ind.pkl"))[0].size == 0
    assert f"raydrgn explore {root}" in (out / "report.html").read_text()
    assert (out / "1-2" / "shares.png").stat().st_size > 5000
    assert "adjusted Rand index 1.000" in (out / "report.html").read_text()

    with pytest.raises(RunDirectoryError, match=r"no k-means clusters .* K = 7"):
        compare_files(root, tmp_path / "states.pkl", ksample=7)
    with pytest.raises(InputError, match="has k-means with K = 3, not 7"):
        compare_files(f"{root}/analyze.1", tmp_path / "states.pkl", ksample=7)
    with pytest.raises(RunDirectoryError, match="has no epoch 4"):
        compare_files(f"{root}:4", tmp_path / "states.pkl")


def test_what_moves_between_two_selections_is_what_one_keeps_and_the_other_drops(tmp_path):
    for name, kept in (("a", [1, 0, 0, 0, 0]), ("b", [1, 1, 1, 1, 0])):
        (tmp_path / name).mkdir()
        table = {"particle": range(5), "original": range(5), "kept": np.array(kept, dtype=bool)}
        pq.write_table(pa.table(table), tmp_path / name / "selection.parquet")
    [found] = compare_files(tmp_path / "a", tmp_path / "b").pairs
    np.testing.assert_array_equal(found.moved, [False, True, True, True, False])


def test_selections_and_occupancy_classes(tmp_path):
    for number, particles in ((1, [4, 2]), (2, [1]), (10, [0, 3])):
        folder = tmp_path / "classes" / f"C{number}"
        folder.mkdir(parents=True)
        cryodrgn.write_indices(str(folder / "ind.pkl"), np.array(particles))
    (tmp_path / "filter").mkdir()
    pq.write_table(
        pa.table({"particle": range(5), "original": range(5), "kept": [True] * 3 + [False] * 2}),
        tmp_path / "filter" / "selection.parquet",
    )
    [found] = compare_files(tmp_path / "classes", tmp_path / "filter").pairs
    assert found.first.names == ("C1", "C2", "C10")
    assert found.second.names == ("dropped", "kept")
    np.testing.assert_array_equal(found.counts, [[1, 1], [0, 1], [1, 1]])


def test_states_of_a_landscape(tmp_path):
    (tmp_path / "landscape").mkdir()
    states = np.array([2, 0, 0, 1, 2])
    pq.write_table(
        pa.table({"particle": range(5), "original": range(5), "state": states}),
        tmp_path / "landscape" / "landscape.parquet",
    )
    cryodrgn.write_pickles(str(tmp_path / "states.pkl"), states)
    [found] = compare_files(tmp_path / "landscape", tmp_path / "states.pkl").pairs
    assert found.first.kind == "states of the landscape"
    assert found.adjusted_rand == 1


def test_three_are_compared_in_pairs(tmp_path):
    for name, labels in (("a", [0, 0, 1, 1]), ("b", [0, 1, 1, 1]), ("c", ["x,y", "x,y", "z", "z"])):
        cryodrgn.write_pickles(str(tmp_path / f"{name}.pkl"), np.array(labels))
    made = compare_files(*(tmp_path / f"{name}.pkl" for name in "abc"), out=str(tmp_path / "out"))
    assert [pair.adjusted_rand == 1 for pair in made.pairs] == [False, True, False]
    for name in ("1-2", "1-3", "2-3"):
        assert (tmp_path / "out" / name / "counts.csv").exists()
    assert rows_of(tmp_path / "out" / "1-3" / "counts.csv")[0][1] == "x,y"
    report = (tmp_path / "out" / "report.html").read_text()
    assert "c.pkl (adjusted Rand index 1.000) agree most" in report
    assert (tmp_path / "out" / "rand.png").exists()


def test_labels_of_unknown_particles_are_refused(tmp_path):
    (tmp_path / "some.csv").write_text("original,label\n3,1\n9,2\n")
    cryodrgn.write_pickles(str(tmp_path / "three.pkl"), np.arange(3))
    with pytest.raises(InputError, match="without the numbers of their particles"):
        compare_files(tmp_path / "some.csv", tmp_path / "three.pkl")


def test_mistakes_are_one_message(tmp_path):
    for name, numbers in (("a", "0,1"), ("b", "5,6"), ("twice", "3,3")):
        rows = "".join(f"{number},{i}\n" for i, number in enumerate(numbers.split(",")))
        (tmp_path / f"{name}.csv").write_text(f"original,label\n{rows}")
    (tmp_path / "many.csv").write_text("x,y\n1,2\n")
    (tmp_path / "empty").mkdir()
    for words, message in (
        (("a.csv", "b.csv"), "have no particle in common: numbers from 0 to 1, and from 5 to 6"),
        (("a.csv", "twice.csv"), r"twice.csv has particle 3 2 times"),
        (("a.csv", "many.csv"), r"columns x, y; .* many.csv:COLUMN"),
        (("a.csv", "many.csv:z"), r"no column 'z'; there are x, y"),
        (("a.csv", "nothing.csv"), "does not exist"),
        (("a.csv", "empty"), "has no labels of particles"),
    ):
        pattern = re.sub(r"(\w+\.csv)", rf"{re.escape(str(tmp_path))}/\1", message)
        with pytest.raises(InputError, match=pattern if ".csv" in message else message):
            compare_files(*(tmp_path / word for word in words))
    with pytest.raises(ConfigError, match="two or more"):
        CompareSettings(labels=("a",))
    with pytest.raises(ConfigError, match="given twice"):
        CompareSettings(labels=("a", "a"))
    settings = {"out": str(tmp_path / "out")}
    files = [tmp_path / f"{name}.csv" for name in "ab"]
    (tmp_path / "b.csv").write_text("original,label\n0,1\n1,1\n")
    compare_files(*files, **settings)
    (tmp_path / "b.csv").write_text("original,label\n0,1\n1,2\n")
    with pytest.raises(RunDirectoryError, match="--overwrite"):
        compare_files(*files, **settings)
