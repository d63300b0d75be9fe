"""Particles with smaller images, given back by the rows of the file they come from."""

from pathlib import Path

import numpy as np
import pytest

from phantoms import (
    cs_rows,
    defocus_columns,
    images_of,
    loop,
    optics_columns,
    pose_columns,
    star_31,
    write_cs,
    write_mrc,
)
from raydrgn.errors import InputError
from raydrgn.io.imaging import ORIGINAL_BOX
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.io.starrows import read_text_star
from raydrgn.workflows import downsample, export, parse
from raydrgn.workflows.downsample import DownsampleSettings
from raydrgn.workflows.parse import ParseSettings

BOX, SMALL = 64, 16
COUNT = 4


def stack(folder, pixel_size=1.0):
    write_mrc(folder / "stack.mrcs", images_of(COUNT, box=BOX), pixel_size=pixel_size)


def star(folder, shift, unit="Angst", pixel_size=1.0, **changes):
    optics = {"rlnImageSize": [BOX], "rlnImagePixelSize": [pixel_size]} | changes
    shifts = {f"rlnOrigin{axis}Angst": None for axis in "XY"}
    shifts |= {f"rlnOrigin{axis}{unit}": [shift] * COUNT for axis in "XY"}
    columns = optics_columns(**optics)
    uri = star_31(folder, COUNT, optics=columns, particles=pose_columns(COUNT) | shifts)[0]
    stack(folder, pixel_size)
    return uri


def star_30(folder, shift, **more):
    """Write a file of RELION 3.0, which gives no box; shifts in pixels of 1 Å."""
    stack(folder)
    columns = {
        "rlnImageName": [f"{i + 1}@stack.mrcs" for i in range(COUNT)],
        "rlnDetectorPixelSize": [5.0] * COUNT,
        "rlnMagnification": [50_000.0] * COUNT,
        **pose_columns(COUNT, unit=""),
        **{f"rlnOrigin{axis}": [shift] * COUNT for axis in "XY"},
        **more,
    }
    kept = {name: values for name, values in columns.items() if values}
    (folder / "particles.star").write_text(loop("", kept))
    return str(folder / "particles.star")


def cs(folder, shift):
    stack(folder)
    fields = {"blob/psize_A": np.ones(COUNT, "f4")}
    fields["alignments3D/shift"] = np.full((COUNT, 2), shift, "f4")
    return write_cs(folder, cs_rows(COUNT, box=BOX, fields=fields))


def made_smaller(particles, out, box=SMALL):
    settings = DownsampleSettings(source=ParticleSource(particles=particles), out=str(out), box=box)
    return downsample.run(settings).particles


def given_back(particles, out):
    settings = {"source": ParticleSource(particles=str(particles)), "out": str(out)}
    if str(out).endswith(".cs"):
        export.run_cs(export.ExportCsSettings(**settings))
    else:
        export.run_star(export.ExportStarSettings(**settings))
    return open_particles(ParticleSource(particles=str(out)))


@pytest.mark.parametrize("write", [star, star_30, cs])
@pytest.mark.parametrize("is_older", [False, True], ids=["", "older"])
def test_shifts_larger_than_a_small_box_of_old_pixels_go_out(write, is_older, tmp_path):
    """20 px of 1 Å: more than 16 px, and less than the 64 px of the original."""
    original = write(tmp_path, 20.0)
    small = made_smaller(original, tmp_path / "small.parquet")
    np.testing.assert_allclose(small.column("pixel_size_angstrom"), 4.0)
    if is_older:  # a table of a version that did not keep the box
        small.with_metadata(ORIGINAL_BOX, None).write(str(tmp_path / "small.parquet"))
    again = given_back(tmp_path / "small.parquet", tmp_path / f"out{Path(original).suffix}")
    np.testing.assert_allclose(again.column("shift_angstrom"), 20.0, rtol=1e-6)
    assert again.single_box() == BOX


# A calibrated pixel size ----------------------------------------------------------------------


def calibrated(particles, folder, size=1.5):
    """Write a table of particles under another pixel size than that of their file."""
    table = str(folder / "given.parquet")
    parse.run(ParseSettings(particles=particles, table=table, pixel_size_angstrom=size))
    return table


def check_shifts_in_pixels(table, shift, size):
    np.testing.assert_allclose(table.column("pixel_size_angstrom"), size, rtol=1e-6)
    in_pixels = table.column("shift_angstrom") / table.column("pixel_size_angstrom")[:, None]
    np.testing.assert_allclose(in_pixels, shift, rtol=1e-6)


WRITERS = {
    "angstrom": lambda folder: star(folder, 2 * 1.3, pixel_size=1.3),
    "pixels": lambda folder: star(folder, 2.0, unit="", pixel_size=1.3),
    "no pixel size": lambda folder: star(folder, 2.0, unit="", rlnImagePixelSize=None),
    "magnification": lambda folder: star_30(folder, 2.0),
    "no detector": lambda folder: star_30(folder, 2.0, rlnDetectorPixelSize=None),
    "cryoSPARC": lambda folder: cs(folder, 2.0),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("box", [None, 32], ids=["", "smaller"])
def test_a_calibrated_pixel_size_goes_out_and_shifts_stay_in_pixels(write, box, tmp_path):
    original = write(tmp_path)
    table = calibrated(original, tmp_path)
    if box:
        check_shifts_in_pixels(made_smaller(table, tmp_path / "small.parquet", box), 1.0, 3.0)
        table = tmp_path / "small.parquet"
    again = given_back(table, tmp_path / f"out{Path(original).suffix}")
    check_shifts_in_pixels(again, 2.0, 1.5)


@pytest.mark.parametrize("write", list(WRITERS.values())[:-1], ids=list(WRITERS)[:-1])
def test_a_star_file_of_smaller_images_has_the_calibrated_pixel_size(write, tmp_path):
    made_smaller(calibrated(write(tmp_path), tmp_path), tmp_path / "out.star", 32)
    check_shifts_in_pixels(
        open_particles(ParticleSource(particles=str(tmp_path / "out.star"))), 1, 3
    )


def test_the_pixel_size_of_a_ctf_pickle_goes_out(tmp_path):
    original = star(tmp_path, 2 * 1.3, pixel_size=1.3)
    ctf = str(tmp_path / "ctf.pkl")
    parse.run(ParseSettings(particles=original, ctf=ctf, pixel_size_angstrom=1.5))
    source = ParticleSource(particles=original, ctf=ctf)
    settings = export.ExportStarSettings(source=source, out=str(tmp_path / "out.star"))
    export.run_star(settings)
    check_shifts_in_pixels(open_particles(ParticleSource(particles=settings.out)), 2.0, 1.5)


def test_pixels_of_aligned_images_are_calibrated_with_the_others(tmp_path):
    cs(tmp_path, 2.0)
    fields = {
        "blob/psize_A": np.full(COUNT, 1.3, "f4"),
        "alignments3D/psize_A": np.full(COUNT, 2.6, "f4"),
        "alignments3D/shift": np.ones((COUNT, 2), "f4"),
    }
    original = write_cs(tmp_path, cs_rows(COUNT, box=BOX, fields=fields))
    again = given_back(calibrated(original, tmp_path), tmp_path / "out.cs")
    check_shifts_in_pixels(again, 2.0, 1.5)
    rows = np.load(tmp_path / "out.cs")
    np.testing.assert_array_equal(rows["alignments3D/shift"], 1)
    np.testing.assert_allclose(rows["alignments3D/psize_A"], 3.0)


def test_two_pixel_sizes_for_one_optics_group_are_refused(tmp_path):
    original = star(tmp_path, 2.0)
    table = open_particles(ParticleSource(particles=original))
    sizes = {"pixel_size_angstrom": np.array([1.5, 1.5, 1.4, 1.5])}
    table.with_columns(sizes).write(str(tmp_path / "t.parquet"))
    with pytest.raises(InputError, match=r"optics group 1 were given several pixel sizes.*1\.4"):
        given_back(tmp_path / "t.parquet", tmp_path / "out.star")


def test_a_pixel_size_that_stays_leaves_the_text_as_it_is(tmp_path):
    original = star(tmp_path, 2.6, rlnImagePixelSize=["1.31000"])
    given_back(calibrated(original, tmp_path, 1.31), tmp_path / "out.star")
    before, after = (read_text_star(uri) for uri in (original, str(tmp_path / "out.star")))
    assert after.block("optics").rows == before.block("optics").rows
    assert after.particles().rows == before.particles().rows


# Values that the file lacks or has otherwise --------------------------------------------------

GIVEN = {
    "voltage_kv": 200.0,
    "spherical_aberration_mm": 2.0,
    "amplitude_contrast": 0.125,
    "phase_shift_deg": 90.0,
}


def cs_without_contrast(folder):
    stack(folder)
    return write_cs(folder, cs_rows(COUNT, box=BOX, fields={"ctf/amp_contrast": None}))


def star_30_without_contrast(folder):
    defocus = defocus_columns(COUNT)
    return star_30(folder, 2.0, **defocus, rlnSphericalAberration=[2.7] * COUNT)


LACKING = {
    "RELION": lambda folder: star(folder, 2.0, rlnAmplitudeContrast=None, rlnVoltage=None),
    "RELION 3.0": star_30_without_contrast,
    "cryoSPARC": cs_without_contrast,
}


@pytest.mark.parametrize("write", LACKING.values(), ids=LACKING)
@pytest.mark.parametrize("box", [None, 32], ids=["", "smaller"])
def test_values_that_were_given_go_out(write, box, tmp_path):
    original, table = write(tmp_path), str(tmp_path / "t.parquet")
    parse.run(ParseSettings(particles=original, table=table, **GIVEN))
    if box:
        made_smaller(table, table.replace("t.p", "small.p"), box)
        table = table.replace("t.p", "small.p")
    again = given_back(table, tmp_path / f"out{Path(original).suffix}")
    for name, value in GIVEN.items():
        np.testing.assert_allclose(again.column(name), value, rtol=1e-6)
    assert again.single_box() == BOX


def test_fields_that_a_cs_file_lacks_are_added_in_single_precision_as_cryosparc_has_them(tmp_path):
    table, out = str(tmp_path / "t.parquet"), tmp_path / "out.cs"
    parse.run(ParseSettings(particles=LACKING["cryoSPARC"](tmp_path), table=table, **GIVEN))
    given_back(table, out)
    assert np.load(out).dtype["ctf/amp_contrast"] == np.float32


def test_a_star_file_of_smaller_images_has_the_values_that_were_given(tmp_path):
    table = str(tmp_path / "t.parquet")
    parse.run(ParseSettings(particles=LACKING["RELION"](tmp_path), table=table, **GIVEN))
    made_smaller(table, tmp_path / "out.star", 32)
    again = open_particles(ParticleSource(particles=str(tmp_path / "out.star")))
    for name, value in GIVEN.items():
        np.testing.assert_allclose(again.column(name), value, rtol=1e-6)


def test_a_file_that_has_the_values_that_were_given_keeps_its_text(tmp_path):
    original = star(tmp_path, 2.0, rlnVoltage=["300.00"])
    table = str(tmp_path / "t.parquet")
    parse.run(ParseSettings(particles=original, table=table, voltage_kv=300.0))
    given_back(table, tmp_path / "out.star")
    before, after = (read_text_star(uri) for uri in (original, str(tmp_path / "out.star")))
    assert after.block("optics").rows == before.block("optics").rows


def test_a_changed_original_is_refused_before_images_are_made_smaller(tmp_path):
    original, table = star(tmp_path, 2.0), str(tmp_path / "t.parquet")
    parse.run(ParseSettings(particles=original, table=table))
    names = [f"{COUNT - i}@stack.mrcs" for i in range(COUNT)]
    star_31(tmp_path, COUNT, particles={"rlnImageName": names})
    stack(tmp_path)
    with pytest.raises(InputError, match="lists other images"):
        made_smaller(table, tmp_path / "out.star")
    assert not list(tmp_path.glob("out*"))
