"""``raydrgn traverse`` on a small run."""

import numpy as np
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("traversed"))


@pytest.fixture(scope="module")
def z(root):
    return cryodrgn.read_latents(str(root / "z.2.pkl"))[0]


def traverse(kind, root, *arguments):
    return CliRunner().invoke(app, ["traverse", kind, str(root), *arguments])


def test_a_graph_path_is_written_with_its_particles(root, z):
    wide = ("--max-neighbors", "60", "--avg-neighbors", "59")
    said = traverse("graph", root, "--anchors", "3,150,7", *wide)
    assert said.exit_code == 0, said.output
    folder = root / "traverse.2" / "graph"
    rows = np.loadtxt(folder / "path_ind.txt", dtype=int)
    assert (rows[0], rows[-1]) == (3, 7)
    assert 150 in rows
    np.testing.assert_allclose(np.loadtxt(folder / "z_values.txt"), z[rows], rtol=1e-5)
    assert len(list(folder.glob("vol_*.mrc"))) == len(rows)
    assert read_volume(str(folder / "vol_000.mrc"))[0].shape == (16, 16, 16)
    lines = (folder / "points.csv").read_text().splitlines()
    assert lines[0] == "point,particle,original,particles_around"
    assert len(lines) == len(rows) + 1
    for name in ("path.png", "slices.png", "surfaces.png", "movie.gif", "open.cxc"):
        assert (folder / name).stat().st_size > 200


def test_a_straight_path_through_particles_of_a_file(root, z, tmp_path):
    cryodrgn.write_indices(str(tmp_path / "a.txt"), np.array([0, 9]))
    arguments = ["--anchors", str(tmp_path / "a.txt"), "-n", "3", "--skip-volumes"]
    said = traverse("direct", root, *arguments, "-o", str(tmp_path / "out"))
    assert said.exit_code == 0, said.output
    expected = [z[0], (z[0] + z[9]) / 2, z[9]]
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out" / "z_values.txt"), expected, rtol=1e-5)
    assert not list((tmp_path / "out").glob("*.mrc"))


def test_centres_of_an_analysis_are_anchors(root, z):
    with pytest.raises(RunDirectoryError, match="raydrgn analyze"):
        raise traverse("direct", root, "--centres", "0,1").exception
    arguments = ["--ksample", "4", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, ["analyze", str(root), *arguments]).exit_code == 0
    assert traverse("direct", root, "--centres", "0,3", "--skip-volumes").exit_code == 0
    rows = np.loadtxt(root / "analyze.2" / "kmeans4" / "centers_ind.txt", dtype=int)
    line = np.loadtxt(root / "traverse.2" / "direct" / "z_values.txt")
    np.testing.assert_allclose(line[[0, -1]], z[rows[[0, 3]]], rtol=1e-5)


def test_along_a_component(root, z):
    said = traverse("pc", root, "--pc", "2", "-n", "4", "--skip-volumes")
    assert said.exit_code == 0, said.output
    line = np.loadtxt(root / "traverse.2" / "pc2" / "z_values.txt")
    assert line.shape == (4, 2)
    np.testing.assert_allclose(np.diff(line, 2, axis=0), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("graph", ["--anchors", "3,999"], "no particle 999; there are 0 to 202"),
        ("graph", ["--anchors", "3"], "at least two anchors"),
        ("graph", [], "one of --anchors and --centres"),
        ("direct", ["--anchors", "1,2", "--centres", "1,2"], "one of --anchors and --centres"),
        ("direct", ["--centres", "a"], "--centres takes clusters"),
        ("pc", ["--pc", "3"], "--pc 3 is more than the number of components, 2"),
    ],
)
def test_mistakes_are_one_message(root, kind, arguments, message):
    with pytest.raises(ConfigError, match=message):
        raise traverse(kind, root, *arguments).exception
