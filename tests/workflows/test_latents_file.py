"""Commands that need latents only, on files of latents: they give what a run gives."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from latents import blobs
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import cryodrgn
from raydrgn.run.latents_file import LatentsFile, open_latents
from raydrgn.run.reader import RunReader

KINDS = ("z.3.pkl", "z.npy", "z.csv", "z.txt", "z.parquet", "variability.cs")
UIDS = np.random.default_rng(3).integers(2**63, 2**64 - 1, size=400, dtype=np.uint64)


@pytest.fixture(scope="module")
def z():
    return blobs([(0, 0), (1, 0), (0, 1.3), (2, 2)])[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory, z):
    """A run, analysed."""
    root = tmp_path_factory.mktemp("runs") / "run"
    make_run(root, z)
    invoke("analyze", root, "--ksample", "4", "--skip-volumes")
    return root


@pytest.fixture(scope="module")
def analysed(tmp_path_factory, z):
    """A file of latents, analysed."""
    path = write(tmp_path_factory.mktemp("file"), "variability.cs", z)
    invoke("analyze", path, "--ksample", "4")
    return path


def write(folder, name, z):
    """Write latents as the program does that makes such files."""
    path = folder / name
    if name.endswith(".pkl"):
        cryodrgn.write_latents(str(path), z, np.zeros_like(z))
    elif name.endswith(".npy"):
        np.save(path, z)
    elif name.endswith(".csv"):
        header = ",".join(f"z{i}" for i in range(z.shape[1]))
        np.savetxt(path, z, delimiter=",", header=header, comments="", fmt="%.9g")
    elif name.endswith(".txt"):
        np.savetxt(path, z)
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({f"z{i}": z[:, i] for i in range(z.shape[1])}), path)
    else:
        fields = [(f"components_mode_{i}/value", "<f4") for i in range(z.shape[1])]
        rows = np.zeros(len(z), dtype=[("uid", "<u8"), *fields])
        rows["uid"] = UIDS
        for i, (field, _) in enumerate(fields):
            rows[field] = z[:, i]
        with path.open("wb") as stream:
            np.save(stream, rows)
    return path


def invoke(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def table(path):
    return pq.read_table(path).to_pydict()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_has_the_latents_of_the_run(z, tmp_path, kind):
    found = open_latents(str(write(tmp_path, kind, z)))
    np.testing.assert_array_equal(found.finite_latents(None), z)
    np.testing.assert_array_equal(found.original_numbers(400), np.arange(400))


def test_the_embedding_and_the_clusters_are_those_of_the_run(run, analysed):
    found = table(analysed.parent / "variability.analyze" / "embedding.parquet")
    expected = table(run / "analyze.1" / "embedding.parquet")
    assert found.pop("uid") == UIDS.tolist()
    assert found == expected
    assert (analysed.parent / "variability.analyze" / "report.html").exists()
    assert not list(analysed.parent.rglob("*.mrc"))


def test_selections_are_those_of_the_run(run, analysed):
    folder = analysed.parent / "variability.filter"
    for words in (
        ("--keep-clusters", "1,2", "--ksample", "4"),
        ("--zscore", "1"),
        ("--gmm", "4", "--drop", "1"),
    ):
        invoke("filter", run, *words, "--skip-volumes", "--overwrite")
        output = invoke("filter", analysed, *words, "--overwrite")
        kept = cryodrgn.read_indices(str(folder / "kept.ind.pkl"))
        np.testing.assert_array_equal(
            kept, cryodrgn.read_indices(str(run / "filter" / "kept.ind.pkl"))
        )
        assert "has latents only" in output
    selection = table(folder / "selection.parquet")
    assert selection["uid"] == UIDS.tolist()


def test_regions_of_the_umap_of_a_file(analysed, tmp_path):
    [umap] = cryodrgn.read_pickles(str(analysed.parent / "variability.analyze" / "umap.pkl"))
    x = float(np.median(umap[:, 0])) + 1e-4
    corners = tmp_path / "corners.txt"
    np.savetxt(corners, [(x, -99), (99, -99), (99, 99), (x, 99)])
    invoke("filter", analysed, "--umap-polygon", corners, "-o", tmp_path / "out")
    kept = cryodrgn.read_indices(str(tmp_path / "out" / "kept.ind.pkl"))
    np.testing.assert_array_equal(kept, np.flatnonzero(umap[:, 0] > x))


@pytest.mark.parametrize(
    "words", [("pc", "--pc", "2"), ("direct", "--anchors", "0,399"), ("graph", "--centres", "0,3")]
)
def test_paths_are_those_of_the_run(run, analysed, words):
    if words[0] == "graph":
        words = (*words, "--max-neighbors", "200", "--avg-neighbors", "200")
    name = "pc2" if words[0] == "pc" else words[0]
    invoke("traverse", words[0], run, *words[1:], "--skip-volumes", "--overwrite")
    invoke("traverse", words[0], analysed, *words[1:])
    for file in ("points.csv", "z_values.txt"):
        mine = (analysed.parent / "variability.traverse" / name / file).read_text()
        assert mine == (run / "traverse.1" / name / file).read_text()


def test_numbers_of_a_table_are_those_of_its_column(z, tmp_path):
    numbers = np.arange(400)[::-1] * 3
    path = tmp_path / "z.parquet"
    pq.write_table(pa.table({"index": numbers, "z0": z[:, 0], "z1": z[:, 1]}), path)
    invoke("filter", path, "--zscore", "1", "-o", tmp_path / "out")
    kept = cryodrgn.read_indices(str(tmp_path / "out" / "kept.ind.pkl"))
    size = np.linalg.norm(z.astype(float), axis=1)
    np.testing.assert_array_equal(kept, numbers[size < size.mean() + size.std()])

    pq.write_table(pa.table({"index": numbers // 6, "z0": z[:, 0]}), path)
    with pytest.raises(InputError, match="column index should hold the number of each particle"):
        open_latents(str(path))


def test_latents_of_embed_have_the_numbers_of_the_table_beside_them(z, tmp_path):
    numbers = np.arange(400) * 2 + 100
    path = write(tmp_path, "z.pkl", z)
    columns = {"particle": np.arange(400), "original": numbers, "z0": z[:, 0], "z1": z[:, 1]}
    pq.write_table(pa.table(columns), tmp_path / "particles.parquet")
    assert open_latents(str(path)).original_numbers(400)[0] == 0  # nobody knows whose table it is
    (tmp_path / "settings.json").write_text('{"command": "embed"}')
    np.testing.assert_array_equal(open_latents(str(path)).original_numbers(400), numbers)
    invoke("filter", path, "--zscore", "1", "-o", tmp_path / "out")
    kept = cryodrgn.read_indices(str(tmp_path / "out" / "kept.ind.pkl"))
    assert set(kept) < set(numbers)
    other = write(tmp_path, "z.npy", z)
    assert open_latents(str(other)).original_numbers(400)[0] == 0

    few = {name: values[:300] for name, values in columns.items()}
    pq.write_table(pa.table(few), tmp_path / "particles.parquet")
    with pytest.raises(InputError, match=r"has 300 particles, but .*z\.pkl beside it has 400"):
        open_latents(str(path))
    (tmp_path / "particles.parquet").unlink()
    with pytest.raises(InputError, match=r"particles\.parquet is not there.*raydrgn embed"):
        open_latents(str(path))


def test_results_of_another_file_are_not_replaced(analysed, z, tmp_path):
    path = write(tmp_path, "other.npy", z[:200])
    out = str(analysed.parent / "variability.analyze")
    done = CliRunner().invoke(app, ["analyze", str(path), "--ksample", "4", "-o", out])
    assert "has results of other latents" in str(done.exception)


def test_fewer_particles_than_dimensions_have_as_many_components(tmp_path):
    few = str(tmp_path / "few.npy")
    np.save(few, np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32))
    invoke("filter", few, "--where", "pc4 > 0", "--skip-volumes")
    invoke("traverse", "pc", few, "--pc", "4", "--skip-volumes")
    invoke("plot", few, "--by", "pc5", "--pcs", "3,4", "-o", tmp_path / "few.png")
    for words, message in (
        (("filter", few, "--where", "pc7 > 0"), "no value 'pc7'; did you mean pc"),
        (("plot", few, "--by", "pc1", "--pcs", "4,6"), "--pcs 4,6: .* have 5 components"),
        (("analyze", few, "--pc", "6"), "--pc 6 is too many: the latents of 5 particles have 5"),
    ):
        with pytest.raises(ConfigError, match=message):
            raise CliRunner().invoke(app, [*words, "-o", str(tmp_path / "refused.png")]).exception


def test_one_particle_has_one_component(tmp_path):
    one = str(tmp_path / "one.npy")
    np.save(one, np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32))
    alone = ("--ksample", "1", "--skip-umap", "--skip-volumes")
    invoke("analyze", one, *alone)
    invoke("analyze", one, *alone, "--pc", "0", "-o", tmp_path / "of_none")
    invoke("traverse", "pc", one, "--skip-volumes")
    invoke("plot", one, "--by", "pc1", "-o", tmp_path / "one.png")
    columns = table(tmp_path / "one.analyze" / "embedding.parquet")
    assert [name for name in columns if name.startswith("pc")] == ["pc1"]
    shares = np.genfromtxt(tmp_path / "one.analyze" / "pca_explained.csv", delimiter=",")
    assert shares[1].tolist() == [1, 0]


def test_what_a_file_cannot_do_is_said(z, tmp_path, caplog):
    path = write(tmp_path, "z.npy", z)
    with pytest.raises(ConfigError, match=r"z.npy is a file of latents and has no epoch 3\."):
        open_latents(str(path)).epoch(3)
    np.save(tmp_path / "same.npy", np.ones((5, 2), "f4"))
    with pytest.raises(InputError, match="all 5 particles have the same latent"):
        open_latents(str(tmp_path / "same.npy")).finite_latents(None)
    with caplog.at_level(logging.WARNING):
        invoke("traverse", "pc", path, "--skip-volumes")
        assert not caplog.records
        invoke("traverse", "pc", path)
    assert [r.getMessage() for r in caplog.records] == [
        f"{path} has latents and no weights: no volumes are made"
    ]


def test_the_latents_of_a_run_are_its_file_only_where_the_file_is_named(run, tmp_path, caplog):
    assert isinstance(open_latents(str(run)), RunReader)
    found = open_latents(str(run / "z.1.pkl"))
    assert isinstance(found, LatentsFile)
    assert "numbered by their rows, from 0" in caplog.text
    named = tmp_path / "run.npy"
    named.symlink_to(run)
    assert isinstance(open_latents(str(named)), RunReader)
