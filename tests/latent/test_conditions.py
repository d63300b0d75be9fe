"""Conditions on values of particles, and the values."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from phantoms import table_of
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.explore.study import Study
from raydrgn.geometry.rotations import to_euler
from raydrgn.io import cryodrgn
from raydrgn.latent.conditions import (
    by_conditions,
    fulfilled,
    in_words,
    parse_conditions,
    read_conditions,
    to_json,
)
from raydrgn.latent.numeric_values import ConditionValues
from raydrgn.latent.own_labels import own_labels
from raydrgn.latent.values import ParticleValues, Values
from raydrgn.reporting.result_folder import ResultFolder

COUNT = 400
GRID = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
MISSING = np.where(np.arange(COUNT) % 7 < 2, np.nan, GRID[:, 0])


def values_of(name):
    columns = {
        "x": Values(GRID[:, 0]),
        "y": Values(GRID[:, 1]),
        "cluster": Values(np.arange(COUNT) % 4, is_category=True),
        "missing": Values(MISSING),
        "group": Values(np.arange(COUNT) % 2, ("one", "two"), is_category=True),
    }
    return columns[name]


def conditions(*entries):
    return parse_conditions({"conditions": [dict(entry) for entry in entries]})


def among(join, *values, column="cluster"):
    return {"join": join, "among": {"column": column, "values": list(values)}}


def between(join, column, low, high):
    return {"join": join, "range": {"column": column, "low": low, "high": high}}


def polygon(corners):
    return {"join": "and", "inside": {**SQUARE, "corners": corners}}


SQUARE = {"x": "x", "y": "y", "corners": [[2.5, 2.5], [9.5, 2.5], [9.5, 5.5], [2.5, 5.5]]}


def test_a_polygon_keeps_what_is_inside():
    kept = fulfilled(conditions({"join": "and", "inside": SQUARE}), values_of)
    expected = (GRID > [2.5, 2.5]).all(axis=1) & (GRID < [9.5, 5.5]).all(axis=1)
    np.testing.assert_array_equal(kept, expected)
    assert kept.sum() == 7 * 3


def test_conditions_are_joined_from_left_to_right():
    x, y = GRID.T
    c = np.arange(COUNT) % 4
    found = fulfilled(
        conditions(between("and", "x", 5, None), among("or", 1), between("and not", "y", None, 3)),
        values_of,
    )
    np.testing.assert_array_equal(found, ((x >= 5) | (c == 1)) & ~(y <= 3))
    found = fulfilled(
        conditions(among("and not", 2), among("or not", "two", column="group")), values_of
    )
    np.testing.assert_array_equal(found, (c != 2) | (np.arange(COUNT) % 2 == 0))


@pytest.mark.parametrize("join", ["and", "and not"])
def test_a_missing_value_fulfils_no_condition_and_no_negation(join):
    """As of --where."""
    known = np.isfinite(MISSING)
    whole = {"column": "missing", "values": [1, 2]}
    square = {"x": "missing", "y": "y", "corners": SQUARE["corners"]}
    for condition in (
        between(join, "missing", 0, 9),
        {"join": join, "among": whole},
        {"join": join, "inside": square},
    ):
        found = fulfilled(conditions(condition), values_of)
        assert not found[~known].any()
        assert found[known].any()
        either = fulfilled(conditions(condition, between("or", "y", 15, None)), values_of)
        np.testing.assert_array_equal(either, found | (GRID[:, 1] >= 15))


def test_words_have_brackets_where_the_order_matters():
    chosen = conditions(
        between("and not", "x", 5, None), among("or", 1, 3), between("and not", "y", 2, 3)
    )
    assert in_words(chosen) == "(not x ≥ 5 or cluster among 1, 3) and not 2 ≤ y ≤ 3"


def test_columns_are_described_in_words_and_kept_by_their_names():
    plane = {"x": "umap1", "y": "pc2", "corners": [[0, 0], [4, 0], [4, 5]]}
    chosen = conditions(
        {"join": "and", "inside": plane},
        between("and", "defocus_u_angstrom", 8000, None),
        among("and not", 2, column="kmeans4"),
        among("and not", 0, 1, column="kmeans20"),
        among("and", "C1", column="occupancy.class"),
    )
    assert in_words(chosen) == (
        "inside a polygon of UMAP 1 and PC 2 and defocus U (Å) ≥ 8000 "
        "and not in cluster 2 of k-means of 4 and not in clusters 0, 1 of k-means of 20 "
        "and occupancy class = C1"
    )
    assert b'"column": "kmeans4"' in to_json(chosen)


def test_a_file_is_read_as_it_was_written(tmp_path):
    chosen = conditions(
        {"join": "and", "inside": SQUARE},
        among("or", "one", column="group"),
        between("and", "x", 0.1, None),
    )
    (tmp_path / "c.json").write_bytes(to_json(chosen))
    assert read_conditions(str(tmp_path / "c.json")) == chosen


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "a list 'conditions' of 1 to 100"),
        ([between("and", "x", 0, 1)] * 101, "1 to 100"),
        (["x"], "Condition 1: A condition has a 'join'"),
        ([{"join": "and"}], "one of inside, range, among"),
        ([between("xor", "x", 0, 1)], "one of and, or, and not, or not"),
        ([between("and", "x", 0, 1), between("and", "x", 2, 1)], "Condition 2: .*2 to 1"),
        ([between("and", "x", None, None)], "a low or a high end"),
        ([between("and", "x", "1", None)], "finite number, got '1'"),
        ([between("and", 7, 1, None)], "name a column, got 7"),
        ([among("and")], "a list of cluster numbers"),
        ([among("and", 1.5)], "a list of cluster numbers"),
        ([polygon([[0, 0]] * 2)], "3 to 10000"),
        ([polygon([[0]] * 3)], r"\[x, y\]"),
        ([polygon("wide")], r"\[x, y\]"),
        ([polygon([[0, 1e999]] * 3)], "finite"),
        ([polygon([[0, 10**400]] * 3)], "corner should be a finite number, got 1000"),
        ([between("and", "x", 10**400, None)], "low should be a finite number, got 1000"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_conditions({"conditions": given})


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"[" * 100_000])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.json is not a file of conditions"):
        read_conditions(str(tmp_path / "c.json"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    z = np.random.default_rng(0).normal(size=(COUNT, 2))
    folder = tmp_path_factory.mktemp("conditions") / "run"
    table = table_of(COUNT, box=8, pixel_size=2.0)
    return make_run(folder, z, table=table)


def test_values_are_those_of_the_run_and_its_particles(run):
    z = run.latents(1)
    values = ParticleValues(run, 1, z)
    np.testing.assert_array_equal(values("z1").array, z[:, 1])
    np.testing.assert_allclose(values("z_norm").array, np.hypot(*z.T), rtol=1e-6)
    table = run.particles()
    np.testing.assert_allclose(values("tilt_deg").array, to_euler(table.rotations)[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(values("original").array, table.column("index"))
    assert values("stack").is_category
    assert values("stack").names[0] == table.stacks[0]
    with pytest.raises(ConfigError, match="no column 'umap3' of particles; there are: pc1, pc2,"):
        values("umap3")
    with pytest.raises(RunDirectoryError, match="has no UMAP of this epoch"):
        values("umap1")
    with pytest.raises(ConfigError, match="No particle has the value 'elsewhere'"):
        by_conditions(conditions(among("and", "elsewhere", column="stack")), values)


def test_results_of_the_epoch_are_values_and_those_of_another_are_not(run):
    arguments = ["--ksample", "3", "--skip-volumes", "--skip-umap"]
    assert CliRunner().invoke(app, ["analyze", run.root, *arguments]).exit_code == 0
    values = ParticleValues(run, 1, run.latents(1))
    [labels] = cryodrgn.read_pickles(f"{run.root}/analyze.1/kmeans3/labels.pkl")
    np.testing.assert_array_equal(values("kmeans3").array, labels)
    z = run.latents(1)
    cryodrgn.write_latents(run.files.latents(1), z[::-1].copy(), np.zeros_like(z))
    try:
        assert "kmeans3" not in ParticleValues(run, 1, z).columns
    finally:
        cryodrgn.write_latents(run.files.latents(1), z, np.zeros_like(z))


def test_tables_of_landscape_and_occupancy_are_values_by_particle(run):
    z = run.latents(1)
    order = np.random.default_rng(1).permutation(COUNT)
    for command, column in (("landscape", "component1"), ("occupancy", "uL1")):
        folder = ResultFolder(run.results(command, 1))
        folder.begin({"command": command}, made_from=run.identity(1), overwrite=False)
        values = np.linspace(0, 1, COUNT)
        rows = {"particle": order, column: values[order], "state": order % 3}
        folder.write_parquet("particles.parquet", rows)
        folder.write_parquet("centres.parquet", {"particle": order[:9], "few": order[:9]})
        folder.finish()
    found = ParticleValues(run, 1, z)
    np.testing.assert_array_equal(found("landscape.component1").array, values)
    np.testing.assert_array_equal(found("occupancy.uL1").array, values)
    assert not found("occupancy.uL1").is_category
    assert found("landscape.state").is_category
    np.testing.assert_array_equal(found("landscape.state").array, np.arange(COUNT) % 3)
    assert "landscape.few" not in found.columns


def test_what_a_table_leaves_empty_is_a_category_or_not_a_number(run):
    own = ResultFolder(run.results("occupancy_pca", 1))
    own.begin({"command": "occupancy_pca"}, made_from=run.identity(1), overwrite=False)
    texts = ["a", "b", None, "a"] * (COUNT // 4)
    table = pa.table(
        {
            "particle": np.arange(COUNT),
            "text": texts,
            "long": pa.array(texts, pa.large_string()),
            "coded": pa.array(texts).dictionary_encode(),
            "truth": [True, None, False, True] * (COUNT // 4),
            "whole": [1, 2, None, 1] * (COUNT // 4),
        }
    )
    pq.write_table(table, own.at("particles.parquet"))
    own.finish()
    study = Study(run, 1, None)
    for name in ("text", "long", "coded"):
        found = ConditionValues(study.values)[f"occupancy_pca.{name}"]
        assert found.tolist() == ["a", "b", "none", "a"] * (COUNT // 4)
    facts, _ = study.column("occupancy_pca.text")
    assert (facts["names"], facts["counts"]) == (["a", "b", "none"], [200, 100, 100])
    facts, _ = study.column("occupancy_pca.truth")
    assert (facts["names"], facts["counts"]) == (["no", "yes", "none"], [100, 200, 100])
    facts, values = study.column("occupancy_pca.whole")
    assert (facts["category"], facts["low"], facts["high"]) == (False, 1, 2)
    assert np.isnan(values[2])


def test_labels_are_of_each_particle_or_by_original_number(tmp_path):
    numbers = np.array([7, 2, 5])
    cryodrgn.write_pickles(str(tmp_path / "own.pkl"), np.array([1, 0, 1]))
    cryodrgn.write_pickles(str(tmp_path / "all.pkl"), np.arange(10))
    cryodrgn.write_pickles(str(tmp_path / "few.pkl"), np.arange(5))
    assert own_labels(str(tmp_path / "own.pkl"), 3, numbers).tolist() == [1, 0, 1]
    assert own_labels(str(tmp_path / "all.pkl"), 3, numbers).tolist() == [7, 2, 5]
    with pytest.raises(InputError, match=r"few\.pkl has 5 labels, but there are 3 particles"):
        own_labels(str(tmp_path / "few.pkl"), 3, numbers)


def test_rows_of_another_star_file_are_matched_by_image(tmp_path):
    """As of a classification, which has some of the particles in another order."""
    head = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n"

    def write(name, rows):
        lines = [f"{row + 1}@stack.mrcs {row % 3}" for row in rows]
        (tmp_path / name).write_text(head + "\n".join(lines) + "\n")
        return str(tmp_path / name)

    original, classes = write("all.star", range(12)), write("classes.star", [9, 7, 2, 5, 1])
    particles = table_of(12, box=8, pixel_size=2.0).with_metadata("source", original)
    numbers = np.array([7, 2, 5])
    found = own_labels(classes, 3, numbers, particles=particles)
    assert found.tolist() == [1, 2, 2]
    with pytest.raises(InputError, match="no label of particle 3"):
        own_labels(classes, 3, np.array([7, 2, 3]), particles=particles)
    other = write("other.star", range(5))
    Path(other).write_text(Path(other).read_text().replace("stack.mrcs", "another.mrcs"))
    with pytest.raises(InputError, match=r"labels of images that are not all in .*all\.star"):
        own_labels(other, 3, numbers, particles=particles)


def test_rows_of_another_cs_file_are_matched_by_uid(tmp_path):
    places = []
    for name, rows in (("all.cs", np.arange(12)), ("classes.cs", np.array([9, 7, 2, 5, 1]))):
        table = np.zeros(len(rows), [("uid", "u8"), ("alignments3D/class", "u4")])
        table["uid"], table["alignments3D/class"] = 100 - rows, rows % 3
        with (tmp_path / name).open("wb") as stream:
            np.save(stream, table)
        places.append(str(tmp_path / name))
    particles = table_of(12, box=8, pixel_size=2.0).with_metadata("source", places[0])
    found = own_labels(places[1], 3, np.array([7, 2, 5]), particles=particles)
    assert found.tolist() == [1, 2, 2]


def test_labels_of_a_table_are_found_by_their_original_numbers(tmp_path):
    numbers = np.array([7, 2, 5])
    table = tmp_path / "labels.csv"
    table.write_text("original,label,other\n2,0,9\n5,1,9\n7,4,8\n9,3,9\n")
    assert own_labels(str(table), 3, numbers).tolist() == [4, 0, 1]
    assert own_labels(f"{table}:other", 3, numbers).tolist() == [8, 9, 9]
    table.write_text("index,state\n5,1\n7,4\n2,0\n")
    assert own_labels(str(table), 3, numbers).tolist() == [4, 0, 1]
    table.write_text("particle,label\n2,7\n0,5\n1,6\n")  # rows of the run
    assert own_labels(str(table), 3, numbers).tolist() == [5, 6, 7]
    for rows, message in (
        ("original,label\n2,0\n5,1\n", "no label of particle 7 \\(1 such"),
        ("original,label\n2,0\n5,1\n7,1\n7,2\n", "particle 7 more than once"),
        ("original,label\n2,C1\n5,C2\n7,C1\n", "label 'C1'.* whole numbers"),
    ):
        table.write_text(rows)
        with pytest.raises(InputError, match=message):
            own_labels(str(table), 3, numbers)


def test_filter_takes_conditions(run, tmp_path):
    z = run.latents(1)
    cryodrgn.write_pickles(str(tmp_path / "labels.pkl"), np.arange(COUNT) % 3)
    chosen = [between("and", "z0", 0.0, None), among("and not", 2, column="label")]
    (tmp_path / "c.json").write_text(json.dumps({"conditions": chosen}))
    words = ["--conditions", str(tmp_path / "c.json"), "--labels", str(tmp_path / "labels.pkl")]
    said = CliRunner().invoke(
        app, ["filter", run.root, *words, "--skip-volumes", "-o", str(tmp_path / "f")]
    )
    assert said.exit_code == 0, said.output
    kept = cryodrgn.read_indices(str(tmp_path / "f" / "kept.ind.pkl"))
    np.testing.assert_array_equal(
        kept, np.flatnonzero((z[:, 0] >= 0) & (np.arange(COUNT) % 3 != 2))
    )
    assert "z0 ≥ 0 and not label = 2" in said.output


@pytest.mark.parametrize("names", [("1", "2"), ("2", "1")])
def test_a_number_means_the_name_and_not_its_position(names):
    groups = Values(np.array([0, 0, 1]), names, is_category=True)
    found = fulfilled(conditions(among("and", 1)), lambda _: groups)
    assert found.tolist() == [name == "1" for name in (names[0], names[0], names[1])]
    with pytest.raises(ConfigError, match="No particle has the value 0"):
        fulfilled(conditions(among("and", 0)), lambda _: groups)
