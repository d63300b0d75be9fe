"""Two maps correlated, with a mask; maps of the other hand and sign."""

import csv
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from phantoms import write_mrc
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError
from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.resample import cropped, low_pass
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.workflows import maps as workflow
from raydrgn.workflows.maps import FlipSettings, FscSettings, InvertSettings

BOX = 32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A map that others agree with to 12 Å, where noise takes over at once, within a sphere."""
    folder = tmp_path_factory.mktemp("maps")
    noise = torch.from_numpy(
        np.random.default_rng(0).normal(size=(3, BOX, BOX, BOX)).astype(np.float32)
    )
    signal = low_pass(noise[0], resolution_angstrom=12.0, pixel_size_angstrom=3.0)
    found = {}
    for number in (1, 2):
        beyond = noise[number] - low_pass(
            noise[number], resolution_angstrom=12.0, pixel_size_angstrom=3.0
        )
        volume = (signal + beyond).numpy()
        found[number] = write_mrc(folder / f"{number}.mrc", volume, pixel_size=3.0, volume=True)
    mask = soft_sphere(BOX, edge_px=6).astype(np.float32)
    found["mask"] = write_mrc(folder / "mask.mrc", mask, pixel_size=3.0, volume=True)
    return folder, found


def test_the_resolution_is_where_the_maps_stop_to_agree(files):
    _, found = files
    made = workflow.run_fsc(FscSettings(first=found[1], second=found[2]))
    assert made.correlation.resolution_angstrom("unmasked", 0.5) == pytest.approx(12, abs=1)
    assert made.lines()[0].startswith("without a mask: FSC 0.5: 1")


@pytest.mark.parametrize("changed", [(), ("hand",), ("sign",), ("hand", "sign")])
def test_maps_of_another_hand_or_sign_are_told(files, tmp_path, changed):
    _, found = files
    uri = found[2]
    if "hand" in changed:
        uri = workflow.run_flip(FlipSettings(map=uri, out=str(tmp_path / "hand.mrc"))).out
    if "sign" in changed:
        uri = workflow.run_invert(InvertSettings(map=uri, out=str(tmp_path / "sign.mrc"))).out
    made = workflow.run_fsc(FscSettings(first=found[1], second=uri))
    if not changed:
        assert made.relation is None
        return
    assert made.relation.startswith(f"The maps have the opposite {' and '.join(changed)}: ")
    assert made.lines()[-1] == made.relation


def test_what_the_mask_makes_is_taken_out(files, tmp_path):
    _, found = files
    settings = FscSettings(
        first=found[1], second=found[2], mask=found["mask"], out=str(tmp_path / "fsc")
    )
    curves = workflow.run_fsc(settings).correlation.curves
    beyond = slice(int(BOX * 3.0 / 12) + 4, None)
    assert abs(float(curves["corrected"][beyond].mean())) < 0.1
    with (tmp_path / "fsc" / "fsc.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == BOX // 2
    assert float(rows[8]["resolution_angstrom"]) == pytest.approx(12)
    assert float(rows[3]["fsc_masked"]) == pytest.approx(float(curves["masked"][3]), abs=1e-5)
    assert (tmp_path / "fsc" / "fsc.png").stat().st_size > 5000


def test_a_map_agrees_with_itself_up_to_nyquist(files):
    _, found = files
    made = workflow.run_fsc(FscSettings(first=found[1], second=found[1]))
    assert made.correlation.resolution_angstrom("unmasked", 0.143) is None
    assert "above it up to Nyquist, 6.00 Å" in made.lines()[0]


def test_flipped_and_inverted_twice_a_map_is_itself(files, tmp_path):
    _, found = files
    original, _ = read_volume(found[1])
    once, twice = str(tmp_path / "once.mrc"), str(tmp_path / "twice.mrc")
    for run, settings, changed in (
        (workflow.run_flip, FlipSettings, original[::-1]),
        (workflow.run_invert, InvertSettings, -original),
    ):
        made = run(settings(map=found[1], out=once))
        assert (made.box, made.pixel_size_angstrom) == (BOX, 3)
        np.testing.assert_array_equal(read_volume(once)[0], changed)
        run(settings(map=once, out=twice))
        np.testing.assert_array_equal(read_volume(twice)[0], original)


@pytest.mark.parametrize("command", ["flip", "invert"])
def test_where_a_changed_map_begins_is_written_as_it_was(files, tmp_path, command):
    """In voxels or in Å: with another pixel size it lies where the map itself does."""
    _, found = files
    place = tmp_path / "map.mrc"
    for start, origin in (((-16, 0, 3), (0, 0, 0)), ((0, 0, 0), (-16, 0, 3))):
        place.write_bytes(Path(found[1]).read_bytes())
        with mrcfile.open(place, "r+") as mrc:
            mrc.nstart, mrc.header.origin = start, origin
        out = str(tmp_path / "changed.mrc")
        assert CliRunner().invoke(app, [command, str(place), "-o", out]).exit_code == 0
        own, changed = read_header(str(place)), read_header(out)
        assert (changed.start_px, changed.stored_origin_angstrom) == (start, origin)
        assert changed.origin_angstrom == own.origin_angstrom
        assert changed.origin_at(1.5) == own.origin_at(1.5)


def test_a_cropped_map_is_compared_with_the_same_cube_of_the_whole_one(files, tmp_path):
    _, found = files
    volume, header = read_volume(found[1])
    cube, _ = cropped(volume, 20)
    pixel_size = header.pixel_size_angstrom
    part = write_mrc(tmp_path / "part.mrc", cube, pixel_size=pixel_size, volume=True)
    for first, second in ((part, found[1]), (found[1], part)):
        made = workflow.run_fsc(FscSettings(first=first, second=second))
        np.testing.assert_allclose(made.correlation.curves["unmasked"].numpy(), 1, atol=1e-5)


def test_a_map_of_another_box_of_the_same_width_is_named_with_the_command(files, tmp_path):
    _, found = files
    volume, header = read_volume(found[1])
    pixel_size = 2 * header.pixel_size_angstrom
    half = write_mrc(
        tmp_path / "half.mrc", volume[::2, ::2, ::2], pixel_size=pixel_size, volume=True
    )
    with pytest.raises(InputError, match=r"`raydrgn downsample .* --is-volume -D 16 -o OUT.mrc`"):
        workflow.run_fsc(FscSettings(first=half, second=found[1]))


def resized(found, name, folder, pixel_size):
    """Write a map or mask with another pixel size in its header; return the path."""
    path = folder / f"{name}_{pixel_size:g}.mrc"
    return write_mrc(path, read_volume(found[name])[0], pixel_size=pixel_size, volume=True)


@pytest.mark.parametrize(
    ("of_maps", "of_mask"), [((1.0, 1.0), 1.0), ((1.0, 1.0), 3.0), ((1.0, 3.0), 1.0), ((0, 0), 1.0)]
)
def test_a_mask_may_have_the_pixel_size_of_the_headers_or_that_which_is_given(
    files, tmp_path, of_maps, of_mask
):
    _, found = files
    right = FscSettings(first=found[1], second=found[2], mask=found["mask"])
    first, second = (
        resized(found, n, tmp_path, size) for n, size in zip((1, 2), of_maps, strict=True)
    )
    mask = resized(found, "mask", tmp_path, of_mask)
    given = FscSettings(first=first, second=second, mask=mask, pixel_size_angstrom=3.0)
    one, two = (workflow.run_fsc(settings).lines() for settings in (right, given))
    assert one == two


def test_a_mask_of_a_third_pixel_size_is_refused(files, tmp_path):
    _, found = files
    first, second = (resized(found, number, tmp_path, 1.0) for number in (1, 2))
    mask = resized(found, "mask", tmp_path, 2.0)
    for size, message in ((3.0, "pixels of 3 Å"), (None, "pixels of 1 Å")):
        given = FscSettings(first=first, second=second, mask=mask, pixel_size_angstrom=size)
        with pytest.raises(InputError, match=f"{message}, but the mask .* 2 Å"):
            workflow.run_fsc(given)


def test_mistakes_are_one_message(files, tmp_path):
    _, found = files
    small = write_mrc(tmp_path / "small.mrc", np.ones((8, 8, 8), np.float32), volume=True)
    flat = write_mrc(
        tmp_path / "flat.mrc", np.ones((BOX, BOX, BOX), np.float32), pixel_size=3.0, volume=True
    )
    nameless = write_mrc(
        tmp_path / "none.mrc", read_volume(found[1])[0], pixel_size=0.0, volume=True
    )
    for second, more, error, message in (
        (small, {}, InputError, "has 32 px of 3 Å, but .*small.mrc has 8 px of 1.5 Å"),
        (flat, {}, InputError, "flat.mrc is constant"),
        (found[2], {"mask": small}, InputError, "but the mask .* has"),
        (found[2], {"mask": found[1]}, InputError, "a mask is between 0 and 1"),
    ):
        with pytest.raises(error, match=message):
            workflow.run_fsc(FscSettings(first=found[1], second=second, **more))
    with pytest.raises(ConfigError, match="--pixel-size"):
        workflow.run_fsc(FscSettings(first=nameless, second=nameless))
    given = FscSettings(first=nameless, second=nameless, pixel_size_angstrom=2.0)
    assert "Nyquist, 4.00 Å" in workflow.run_fsc(given).lines()[0]
    with pytest.raises(ConfigError, match="would replace"):
        raise CliRunner().invoke(app, ["flip", found[1], "-o", found[1]]).exception
    for name in ("flip", "invert"):
        with pytest.raises(ConfigError, match=r"x.png should end in .mrc or .map"):
            raise CliRunner().invoke(app, [name, found[1], "-o", str(tmp_path / "x.png")]).exception
    assert not (tmp_path / "x.png").exists()
    said = CliRunner().invoke(app, ["invert", found[1], "-o", str(tmp_path / "i.mrc")])
    assert said.output == f"map of 32 px of 3 Å → {tmp_path}/i.mrc\n"
