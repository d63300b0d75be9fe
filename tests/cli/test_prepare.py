"""The commands of preparation, as a user types them."""

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.cryodrgn import read_indices
from raydrgn.io.mrc import read_header
from raydrgn.simulation.dataset import Simulation, simulate

COUNT, BOX = 60, 16


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small simulated data set."""
    folder = tmp_path_factory.mktemp("data")
    simulate(str(folder), Simulation(num_particles=COUNT, box=BOX, snr=1.0, seed=1))
    return folder


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_downsample_then_backproject(data, tmp_path):
    small = tmp_path / "small.star"
    assert "60 particles of 8 px" in run(
        "downsample", data / "particles.star", "-D", 8, "-o", small, "--chunk", 25
    )
    names = sorted(p.name for p in tmp_path.glob("*.mrcs"))
    assert names == ["small.0.mrcs", "small.1.mrcs", "small.2.mrcs"]
    said = run("backproject", small, "-o", tmp_path / "bp", "--first", 40)
    assert "40 particles" in said
    large, new = (
        read_header(str(place)).pixel_size_angstrom
        for place in (data / "particles.mrcs", tmp_path / "bp" / "map.mrc")
    )
    assert new == pytest.approx(large * BOX / 8, rel=1e-5)
    assert (tmp_path / "bp" / "backproject.png").stat().st_size > 10_000


def test_a_map_is_downsampled(data, tmp_path):
    out = tmp_path / "m.mrc"
    run("downsample", data / "truth" / "vol_000.mrc", "-D", 8, "-o", out, "--is-volume")
    assert read_header(str(out)).shape == (8, 8, 8)


def test_export_star_and_indices(data, tmp_path):
    (tmp_path / "ind.txt").write_text("7\n2\n2\n")
    out = tmp_path / "s.star"
    ind = tmp_path / "ind.txt"
    assert "3 particles" in run("export", "star", data / "particles.star", "--ind", ind, "-o", out)
    numbers = tmp_path / "n.pkl"
    run("export", "indices", out, "--of", data / "particles.star", "-o", numbers)
    np.testing.assert_array_equal(read_indices(str(numbers)), [7, 2, 2])
    run("export", "indices", data / "particles.star", "--ind", ind, "-o", numbers)
    np.testing.assert_array_equal(read_indices(str(numbers)), [7, 2, 2])


def test_export_cs_needs_a_cs_file(data, tmp_path):
    with pytest.raises(ConfigError, match="uids"):
        run("export", "cs", data / "particles.star", "-o", tmp_path / "o.cs")


def test_info_shows_a_table(data):
    said = run("info", data / "particles.star")
    assert "RELION" in said
    assert "optics groups" in said


def test_wrong_inputs_are_one_message(data, tmp_path):
    with pytest.raises(InputError, match="has no poses"):
        run("backproject", data / "particles.mrcs", "-o", tmp_path / "bp")
    with pytest.raises(ConfigError, match="larger than the images"):
        run("downsample", data / "particles.star", "-D", 32, "-o", tmp_path / "s.mrcs")


def test_help_imports_neither_torch_nor_ray():
    code = "import sys, raydrgn.cli.main; print({'torch', 'ray', 'matplotlib'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"
