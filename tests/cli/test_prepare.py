"""The commands of preparation, as a user types them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from phantoms import cs_rows, optics_columns, star_31, write_cs
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.cryodrgn import read_indices, write_ctf
from raydrgn.io.mrc import read_header, write_volume
from raydrgn.io.relion import read_relion
from raydrgn.io.sources import to_ctf
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
    out, plain = tmp_path / "m.mrc", tmp_path / "plain.mrc"
    run("downsample", data / "truth" / "vol_000.mrc", "-D", 8, "-o", out, "--is-volume")
    assert read_header(str(out)).shape == (8, 8, 8)
    write_volume(str(plain), np.ones((12, 12, 12), "f4"), pixel_size_angstrom=0.0)
    assert "unknown" in run("downsample", plain, "-D", 8, "-o", out, "--is-volume")
    assert read_header(str(out)).pixel_size_angstrom == 0


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


def two_groups(folder, other):
    """Write a STAR file of two optics groups, of 3 Å and of another pixel size."""
    optics = optics_columns(
        rlnOpticsGroup=[1, 2],
        rlnOpticsGroupName=["a", "b"],
        rlnImageSize=[8, 8],
        rlnImagePixelSize=[3.0, other],
        rlnVoltage=[300, 300],
        rlnSphericalAberration=[2.7, 2.7],
        rlnAmplitudeContrast=[0.1, 0.1],
    )
    return star_31(folder, 6, optics=optics, particles={"rlnOpticsGroup": [1, 2, 1, 2, 1, 1]})[0]


def test_particles_of_two_pixel_sizes_are_back_projected_in_one_frame(tmp_path, caplog):
    with pytest.raises(InputError, match=r"group 1 has 3 Å \(4 particles\).*group 2 has 3.7 Å"):
        run("backproject", two_groups(tmp_path, 3.7), "-o", tmp_path / "bp")
    assert not (tmp_path / "bp").exists()
    with caplog.at_level("INFO"):
        run("backproject", two_groups(tmp_path, 3.4), "-o", tmp_path / "bp")
    assert "group 1 has 3 Å (4 particles); optics group 2 has 3.4 Å" in caplog.text
    made = read_header(str(next((tmp_path / "bp").glob("*.mrc"))))
    assert made.pixel_size_angstrom == pytest.approx(3.0)


@pytest.mark.parametrize("second", [3.4, 3.7])
def test_pickles_of_several_pixel_sizes_are_written_with_a_warning(tmp_path, caplog, second):
    run("parse", two_groups(tmp_path, second), "--ctf", tmp_path / "ctf.pkl")
    (warning,) = (r.getMessage() for r in caplog.records if "pixel sizes" in r.getMessage())
    assert f"group 2 has {second} Å (2 particles)" in warning
    assert warning.endswith("cryoDRGN takes that of the first particle for all.")
    assert (tmp_path / "ctf.pkl").exists()


def test_a_file_without_particles_is_one_message(tmp_path):
    none = str(tmp_path / "none.star")
    text = Path(star_31(tmp_path, 1)[0]).read_text()
    Path(none).write_text("".join(s for s in text.splitlines(True) if "@stack.mrcs" not in s))
    write_cs(tmp_path, cs_rows(0), name="none.cs")
    for words in (
        ["downsample", none, "-D", "4", "-o", tmp_path / "s.mrcs"],
        ["backproject", none, "-o", tmp_path / "bp"],
        ["parse", none, "--poses", tmp_path / "p.pkl"],
        ["parse", tmp_path / "none.cs", "--poses", tmp_path / "p.pkl"],
        ["export", "star", none, "-o", tmp_path / "o.star"],
        ["export", "cs", tmp_path / "none.cs", "-o", tmp_path / "o.cs"],
        ["export", "indices", none, "-o", tmp_path / "n.pkl"],
    ):
        with pytest.raises(InputError, match="lists no particles"):
            run(*words)
    made = {p.name for p in tmp_path.iterdir()}
    assert made == {"none.star", "none.cs", "stack.mrcs", "particles.star"}


def test_a_small_input_starts_no_ray(data, tmp_path):
    star = str(data / "particles.star")
    commands = [
        ["downsample", star, "-D", "8", "-o", str(tmp_path / "s.mrcs")],
        ["backproject", star, "-o", str(tmp_path / "bp")],
        ["info", star],
    ]
    code = (
        "import sys; from raydrgn.cli.main import app; "
        f"[app(words, standalone_mode=False) for words in {commands}]; "
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_ctf_given_for_a_star_file_is_in_the_smaller_one(data, tmp_path):
    table = read_relion(str(data / "particles.star"))
    ctf = to_ctf(table)
    ctf[:, 2] += 1000
    write_ctf(str(tmp_path / "ctf.pkl"), ctf)
    out = tmp_path / "small.star"
    run("downsample", data / "particles.star", "--ctf", tmp_path / "ctf.pkl", "-D", 8, "-o", out)
    found = read_relion(str(out)).column("defocus_u_angstrom")
    np.testing.assert_allclose(found, table.column("defocus_u_angstrom") + 1000, rtol=1e-6)


def test_names_with_brackets_are_printed_as_they_are(data, tmp_path):
    folder = tmp_path / "[run7]"
    assert "[run7]/s.mrcs" in run(
        "downsample", data / "particles.star", "-D", 8, "-o", folder / "s.mrcs"
    ).replace("\n", "")
    assert "[run7]/s.mrcs" in run("info", folder / "s.mrcs").replace("\n", "")
    stray = tmp_path / "[" / "x]"
    stray.mkdir(parents=True)
    (stray / "p.npy").write_bytes((data / "truth" / "labels.npy").read_bytes())
    assert "[/x]" in run("info", stray / "p.npy").replace("\n", "")


def test_a_command_offers_the_options_that_its_help_lists(data):
    for command, options in {
        "parse": ("--pixel-size", "--kv", "--cs", "--amplitude-contrast", "--phase-shift"),
        "downsample": ("--half-size-shifts", "--drop-bad", "--is-volume", "--float16", "--ind"),
        "backproject": ("--half-size-shifts", "--uninvert-data", "--flip", "--first", "--poses"),
        "simulate": ("--particles", "--snr", "--phantom", "--junk", "--maps", "--angle-error"),
    }.items():
        said = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        assert all(option in said for option in options), command


def test_workers_that_hold_a_decoder_are_not_called_tasks():
    for command, text in {
        ("volumes",): "Worker processes",
        ("occupancy", "score"): "Worker processes",
        ("downsample",): "Tasks at a time",
    }.items():
        said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
        assert text in said, command


def test_help_imports_neither_torch_nor_ray():
    code = "import sys, raydrgn.cli.main; print({'torch', 'ray', 'matplotlib'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"
