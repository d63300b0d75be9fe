"""``volumes``: files of chosen latents, cut about the centre, and their ChimeraX script."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from raydrgn.cli.main import app
from raydrgn.decoding.pool import LATENTS_PER_BATCH, DecoderPool
from raydrgn.decoding.volume_sets import VolumeSet, copy_maps
from raydrgn.errors import ConfigError
from raydrgn.fourier.resample import cropped
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.remote.fanout import Outcome
from raydrgn.reporting.latent_figures import series_colours

Z = np.array([[0.5, -1.0], [2.0, 0.25], [0, 0]])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("written") / "run", Z, box=12).root


def volumes(root, out, *options):
    words = ["volumes", root, "-o", str(out), "--particles", "0,2", *options]
    return CliRunner().invoke(app, words)


@pytest.mark.parametrize("options", [(), ("--box", "10"), ("--flip", "--low-pass", "9")])
def test_a_cropped_volume_lies_on_the_whole_one(root, tmp_path, options):
    assert volumes(root, tmp_path / "whole", *options).exit_code == 0
    assert volumes(root, tmp_path / "part", *options, "--crop", "6").exit_code == 0
    for name in ("vol_000.mrc", "vol_001.mrc"):
        whole, around = read_volume(str(tmp_path / "whole" / name))
        part, header = read_volume(str(tmp_path / "part" / name))
        assert part.shape == (6, 6, 6)
        assert header.pixel_size_angstrom == pytest.approx(around.pixel_size_angstrom, rel=1e-6)
        # the origin in the header is the place of the first voxel in the whole volume
        shift = np.subtract(header.origin_angstrom, around.origin_angstrom)
        x, y, z = first = np.rint(shift / header.pixel_size_angstrom).astype(int)
        np.testing.assert_allclose(shift, first * header.pixel_size_angstrom, atol=1e-4)
        np.testing.assert_array_equal(part, whole[z : z + 6, y : y + 6, x : x + 6])
        # the centre voxel stays the centre voxel
        assert part[3, 3, 3] == whole[(len(whole) // 2,) * 3]


def test_a_cube_as_large_as_the_box_is_the_whole_volume():
    volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    cube, start = cropped(volume, 8)
    assert start == 0
    np.testing.assert_array_equal(cube, volume)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--crop", "7"), "--crop must be even"),
        (("--crop", "14"), "--crop 14 is larger than the volumes, which have 12 px"),
        (("--box", "8", "--crop", "10"), "--crop 10 is larger than the volumes, which have 8 px"),
    ],
)
def test_cubes_that_cannot_be_cut_are_refused_before_anything_is_written(
    root, tmp_path, options, message
):
    with pytest.raises(Exception, match=message):
        raise volumes(root, tmp_path / "out", *options).exception
    assert not (tmp_path / "out").exists()


def test_the_script_opens_all_at_one_level_in_the_colours_of_figures(root, tmp_path):
    assert volumes(root, tmp_path).exit_code == 0
    script = (tmp_path / "open.cxc").read_text()
    peaks = [np.percentile(read_volume(str(p))[0], 99.99) for p in sorted(tmp_path.glob("*.mrc"))]
    level = float(re.search(r"level (\S+)", script)[1])
    assert level == pytest.approx(np.median(peaks) / 2, rel=1e-4)
    assert [line.split()[1] for line in script.splitlines() if line.startswith("open ")] == [
        "vol_000.mrc",
        "vol_001.mrc",
    ]
    assert all(colour in script for colour in series_colours(2))
    assert 'rename #2 "001 particle 2"' in script


def test_volumes_that_are_there_are_made_again(root, tmp_path):
    assert volumes(root, tmp_path).exit_code == 0
    first = (tmp_path / "vol_000.mrc").read_bytes()
    assert volumes(root, tmp_path, "--invert").exit_code == 0
    assert (tmp_path / "vol_000.mrc").read_bytes() != first


def test_volumes_of_an_earlier_command_do_not_stay_among_the_new_ones(root, tmp_path):
    assert (
        CliRunner()
        .invoke(app, ["volumes", root, "-o", str(tmp_path), "--particles", "0,1,2"])
        .exit_code
        == 0
    )
    with pytest.raises(ConfigError, match=r"2 volumes will be written, and .*vol_002\.mrc"):
        raise volumes(root, tmp_path).exception


def test_maps_that_are_copied_stay_where_they_lie(tmp_path):
    uris = [str(tmp_path / f"{name}.mrc") for name in "ab"]
    maps = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    for uri, values, start in zip(uris, maps, (-6.0, 3.0), strict=True):
        write_volume(uri, values, pixel_size_angstrom=1.5, origin_angstrom=(start, 2.0, 1.0))
    volumes = VolumeSet(name="a", folder=str(tmp_path / "out"), z=np.zeros((2, 2), np.float32),
                        colours=["#000000"] * 2, titles=["0", "1"])  # fmt: skip
    copy_maps(volumes, uris)
    for number, start in enumerate((-6.0, 3.0)):
        values, header = read_volume(str(tmp_path / "out" / f"vol_00{number}.mrc"))
        np.testing.assert_array_equal(values, maps[number])
        assert header.origin_angstrom == (start, 2.0, 1.0)
        assert header.pixel_size_angstrom == 1.5


def test_the_script_opens_only_volumes_that_were_made(root, tmp_path, monkeypatch):
    """Those of the first batch of eight are missing; the others keep colour, title and id."""
    run = DecoderPool.run

    def fails_at_first(self, work, requests):
        yield Outcome(requests[:LATENTS_PER_BATCH], error=ValueError("no"))
        yield from run(self, work, requests[LATENTS_PER_BATCH:])

    monkeypatch.setattr(DecoderPool, "run", fails_at_first)
    latents = tmp_path / "z.txt"
    np.savetxt(latents, np.linspace(-1, 1, 20).reshape(10, 2))
    words = ["volumes", root, "-o", str(tmp_path / "out"), "--z-file", str(latents)]
    assert CliRunner().invoke(app, words).exit_code == 1
    lines = (tmp_path / "out" / "open.cxc").read_text().splitlines()
    assert [line for line in lines if line.startswith(("open", "color", "rename"))] == [
        "open vol_008.mrc id 9",
        "open vol_009.mrc id 10",
        *(f"color #{number} {series_colours(10)[number - 1]}" for number in (9, 10)),
        'rename #9 "008"',
        'rename #10 "009"',
    ]
    assert "hide #10-10 models" in lines


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("ends", ["stopped", "failed"])
def test_no_volume_stays_beside_latents_that_it_is_not_of(root, tmp_path, monkeypatch, ends):
    assert volumes(root, tmp_path).exit_code == 0
    (tmp_path / "other.mrc").write_bytes(b"of somebody else")

    def ends_early(self, work, requests):
        if ends == "stopped":
            raise KeyboardInterrupt
        yield Outcome(requests, error=ValueError("no"))

    monkeypatch.setattr(DecoderPool, "run", ends_early)
    words = ["volumes", root, "-o", str(tmp_path), "--particles", "1,2"]
    assert CliRunner().invoke(app, words).exit_code == (130 if ends == "stopped" else 1)
    assert sorted(contents(tmp_path)) == ["other.mrc", "z_values.txt"]
    np.testing.assert_allclose(np.loadtxt(tmp_path / "z_values.txt"), Z[[1, 2]])


def test_volumes_are_deleted_before_the_latents_are_written(root, tmp_path, monkeypatch):
    assert volumes(root, tmp_path).exit_code == 0
    before = contents(tmp_path)

    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("raydrgn.decoding.volume_sets.write_latents", stops)
    assert volumes(root, tmp_path).exit_code == 130
    assert contents(tmp_path) == {"z_values.txt": before["z_values.txt"]}


@pytest.mark.parametrize("options", [("--crop", "7"), ("--box", "14"), ("--epoch", "5")])
def test_a_command_that_is_refused_deletes_nothing(root, tmp_path, options):
    assert volumes(root, tmp_path).exit_code == 0
    before = contents(tmp_path)
    assert volumes(root, tmp_path, *options).exit_code != 0
    assert contents(tmp_path) == before
