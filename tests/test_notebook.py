"""Runs as notebooks use them: mistakes are one message."""

import subprocess
import sys

import numpy as np
import pytest

import raydrgn
from finished_run import make_run
from latents import blobs
from phantoms import table_of
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io.cryodrgn import read_indices
from raydrgn.io.mrc import write_volume
from stack_files import write_stack


@pytest.fixture
def run(tmp_path):
    z = blobs([(0, 0), (3, 3)], size=5)[0]
    index = np.arange(10) * 3 + 7  # trained on a selection
    make_run(tmp_path / "run", z, table=table_of(10, pixel_size=2.0, index=index))
    return raydrgn.open_run(str(tmp_path / "run"))


def test_what_a_run_is(run):
    assert (run.zdim, run.box, run.pixel_size_angstrom, run.epochs()) == (2, 8, 2.0, [1])
    assert repr(run) == f"Run({run.path!r}: zdim 2, box 8 px, 1 epoch, the last is 1)"
    assert run.latents().shape == (10, 2)
    assert len(run) == 10
    np.testing.assert_array_equal(run.latents(), run.latents(1))
    assert all(isinstance(array, np.ndarray) for array in run.weights().values())
    assert {name: len(values) for name, values in run.losses().items()} == {
        "epoch": 0, "total": 0, "reconstruction": 0, "kl": 0,
    }  # fmt: skip


def test_one_latent_is_one_volume(run):
    z = run.latents()
    several = run.decode(z[:2])
    assert several.shape == (2, 8, 8, 8)
    np.testing.assert_allclose(run.decode(z[0]), several[0], atol=1e-6)
    small = run.decode(z[:2], options=raydrgn.VolumeOptions(box=4))
    assert small.shape == (2, 4, 4, 4)
    for wrong in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 2, 2))):
        with pytest.raises(ConfigError, match="z should have 2 numbers per latent"):
            run.decode(wrong)


WRONG = """
import sys
import numpy as np
import raydrgn
from raydrgn.errors import ConfigError
from raydrgn.io.mrc import write_volume
run = raydrgn.open_run(sys.argv[1])
assert (run.latents(np.float64(1)) == run.latents(1)).all()
assert run.weights(1.0).keys() == run.weights(1).keys()
for ask, message in [
    (lambda: run.latents("1"), "epoch takes a whole number, got '1'"),
    (lambda: run.weights(1.5), "epoch takes a whole number, got 1.5"),
    (lambda: run.umap(True), "epoch takes a whole number, got True"),
    (lambda: run.clusters(2, [1]), "epoch takes a whole number, got [1]"),
    (lambda: run.clusters("2"), "ksample takes a whole number, got '2'"),
    (lambda: run.decode([np.nan, 0]), "z has values that are not finite"),
    (lambda: run.decode([1j, 0]), "z takes numbers, got an array of complex128"),
    (lambda: run.decode(None), "z takes numbers, got an array of object"),
    (lambda: raydrgn.open_run(None), "path takes text or a path, got None"),
    (lambda: raydrgn.open_run(""), "path is empty: got ''"),
    (lambda: raydrgn.open_particles(" "), "PARTICLES is empty: got ' '"),
    (lambda: run.write_selection(np.ones(len(run), bool), ""), "path is empty: got ''"),
    (lambda: write_volume("", np.zeros((4, 4, 4)), pixel_size_angstrom=1), "uri is empty"),
]:
    try:
        ask()
    except ConfigError as error:
        assert message in str(error), str(error)
    else:
        raise SystemExit(message)
"""


def test_values_of_wrong_types_are_named_without_type_checks_of_tests(run):
    python = [sys.executable, "-c", WRONG, run.path]
    done = subprocess.run(python, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_paths_are_taken_as_text(run, tmp_path):
    assert raydrgn.open_run(tmp_path / "run").path == run.path
    chosen = np.arange(10) < 3
    assert run.write_selection(chosen, tmp_path / "ind.pkl") == 3
    assert read_indices(str(tmp_path / "ind.pkl")).tolist() == [7, 10, 13]
    write_volume(tmp_path / "a.mrc", np.zeros((4, 4, 4), np.float32), pixel_size_angstrom=1.0)
    assert (tmp_path / "a.mrc").is_file()


def test_particles_are_selected_by_rows_or_by_a_mask(run):
    particles = run.particles()
    assert particles.select([2, 0]).column("index").tolist() == [13, 7]
    for wrong, message in [
        (np.ones(3, dtype=bool), "one boolean for each of the 10 particles"),
        ([-1], "rows from 0 to 9; got -1"),
        ([10], "rows from 0 to 9; got 10"),
        ([0.5], "Rows are whole numbers in one list"),
    ]:
        with pytest.raises(ConfigError, match=message):
            particles.select(wrong)


def test_images_are_chosen_by_rows_or_by_a_mask(tmp_path):
    images = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    stack = write_stack(tmp_path / "a.mrcs", images)
    table = table_of(5, box=8, pixel_size=2.0, stacks=(stack,))
    make_run(tmp_path / "run", np.arange(10.0).reshape(5, 2), table=table)
    run = raydrgn.open_run(str(tmp_path / "run"))
    np.testing.assert_array_equal(run.images([3, 1, 3]), images[[3, 1, 3]])
    mask = np.array([False, True, False, False, True])
    np.testing.assert_array_equal(run.images(mask), images[mask])
    for none in ([], ~np.ones(5, dtype=bool)):
        assert run.images(none).shape == (0, 8, 8)
    for wrong, message in [
        (mask[:4], "one boolean for each of the 5 particles; got one of shape \\(4,\\)"),
        ([0, 5], "5 particles, with rows from 0 to 4; got 5"),
        (np.array([-1]), "rows from 0 to 4; got -1"),
        (np.array([1.0]), "whole numbers in one list.*got float64"),
        (2, r"got int64 of shape \(\)"),
    ]:
        with pytest.raises(ConfigError, match=message):
            run.images(wrong)


def test_a_selection_has_the_numbers_of_the_original_set(run, tmp_path):
    chosen = run.latents()[:, 0] > 1.5
    assert run.write_selection(chosen, str(tmp_path / "ind.pkl")) == 5
    np.testing.assert_array_equal(read_indices(str(tmp_path / "ind.pkl")), [22, 25, 28, 31, 34])
    run.write_selection(chosen, tmp_path / "ind.npy")
    run.write_selection(chosen, tmp_path / "ind.txt")
    assert np.load(tmp_path / "ind.npy").tolist() == [22, 25, 28, 31, 34]
    assert (tmp_path / "ind.txt").read_text().split() == ["22", "25", "28", "31", "34"]
    with pytest.raises(ConfigError, match=r"ind\.star should end in \.pkl, \.npy or \.txt"):
        run.write_selection(chosen, tmp_path / "ind.star")
    for wrong, message in [
        (np.flatnonzero(chosen), "one boolean for each of the 10 particles; got int64"),
        (chosen[:4], "shape \\(4,\\)"),
        (np.zeros(10, dtype=bool), "has no particle"),
    ]:
        with pytest.raises(ConfigError, match=message):
            run.write_selection(wrong, str(tmp_path / "wrong.pkl"))
    assert not (tmp_path / "wrong.pkl").exists()


def test_a_selection_of_a_run_on_a_table_of_a_selection_says_which_file_it_fits(tmp_path):
    table = table_of(10, box=8, pixel_size=2.0, index=np.arange(10) + 5)
    table.write(str(tmp_path / "sub.parquet"))
    source = raydrgn.ParticleSource(particles=str(tmp_path / "sub.parquet"))
    z = blobs([(0, 0), (3, 3)], size=5)[0]
    make_run(tmp_path / "run", z, table=table, source=source)
    run = raydrgn.open_run(str(tmp_path / "run"))
    chosen = np.arange(10) < 6  # numbers 5 to 10, of which 5 to 9 are rows of the table, too
    path = str(tmp_path / "ind.pkl")
    with pytest.raises(ConfigError, match=r"sub\.parquet, a table of a selection.*rows_of_table="):
        run.write_selection(chosen, path)
    assert run.write_selection(chosen, path, rows_of_table=True) == 6
    same = raydrgn.open_particles(source.particles, ind=path, need_images=False)
    np.testing.assert_array_equal(same.column("index"), run.original_numbers()[chosen])
    run.write_selection(chosen, path, rows_of_table=False)
    np.testing.assert_array_equal(read_indices(path), run.original_numbers()[chosen])

    (tmp_path / "sub.parquet").unlink()
    with pytest.raises(ConfigError, match=r"sub\.parquet.*rows_of_table=False"):
        run.write_selection(chosen, path)


def test_a_table_with_all_particles_needs_no_choice(tmp_path):
    table = table_of(10, box=8, pixel_size=2.0)
    table.write(str(tmp_path / "all.parquet"))
    source = raydrgn.ParticleSource(particles=str(tmp_path / "all.parquet"))
    make_run(tmp_path / "run", np.arange(20.0).reshape(10, 2), table=table, source=source)
    run = raydrgn.open_run(str(tmp_path / "run"))
    run.write_selection(np.arange(10) > 3, str(tmp_path / "ind.pkl"))
    np.testing.assert_array_equal(read_indices(str(tmp_path / "ind.pkl")), np.arange(4, 10))


def test_what_analyze_has_not_made_is_said_with_the_command(run):
    with pytest.raises(RunDirectoryError, match=r"no UMAP embedding of epoch 1\. Make it: raydrgn"):
        run.umap()
    with pytest.raises(RunDirectoryError, match="raydrgn analyze"):
        run.clusters(4)
    with pytest.raises(RunDirectoryError, match="no k-means clusters of this epoch"):
        run.clusters()
    with pytest.raises(RunDirectoryError, match="has no epoch 9"):
        run.latents(9)


def test_particles_are_opened_by_path_or_source(tmp_path):
    path = str(tmp_path / "p.parquet")
    table_of(4).write(path)
    assert len(raydrgn.open_particles(path, need_images=False)) == 4
    source = raydrgn.ParticleSource(particles=path)
    assert len(raydrgn.open_particles(source, need_images=False)) == 4
    with pytest.raises(ConfigError, match="ind: set this in the ParticleSource"):
        raydrgn.open_particles(source, ind="i.pkl")
