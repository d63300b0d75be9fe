"""RELION particle files of versions 3.0, 3.1 and 5.0, and what is refused about them."""

import logging
import os

import numpy as np
import pytest

from phantoms import (
    ANGLES_DEG,
    OPTICS,
    ROTATION,
    defocus_columns,
    images_of,
    loop,
    optics_columns,
    pose_columns,
    star_31,
    table_of,
    write_mrc,
)
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.half_sets import HALF, half_of_particles
from raydrgn.io.imaging import Imaging
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.relion import read_relion
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.star import read_star


def star_30(folder, count=3, **changes):
    """Write a stack and a RELION 3.0 file of it: one table, shifts in pixels."""
    write_mrc(folder / "stack.mrcs", images_of(count))
    columns = {
        "rlnImageName": [f"{i + 1}@stack.mrcs" for i in range(count)],
        **defocus_columns(count),
        "rlnVoltage": [300.0] * count,
        "rlnSphericalAberration": [2.7] * count,
        "rlnAmplitudeContrast": [0.07] * count,
        "rlnMagnification": [38168.0] * count,
        "rlnDetectorPixelSize": [5.0] * count,
        **pose_columns(count, unit=""),
    } | changes
    kept = {name: values for name, values in columns.items() if values is not None}
    (folder / "run_data.star").write_text("\n" + loop("", kept))
    return str(folder / "run_data.star")


def check_optics(table):
    for name in CTF_COLUMNS:
        np.testing.assert_allclose(table.column(name), np.float32(OPTICS[name]), rtol=1e-7)


@pytest.mark.parametrize("version", [30001, 50001])
def test_relion_3_1_and_5_join_the_optics_groups(tmp_path, version):
    uri, _ = star_31(tmp_path, version=version)
    table = read_relion(uri)
    assert len(table) == 4
    assert table.stacks == [str(tmp_path / "stack.mrcs")]
    assert table.column("slice").tolist() == [0, 1, 2, 3]
    assert table.single_box() == 8
    assert table.metadata["source"] == uri
    assert table.table.column("optics_group").to_pylist() == ["1"] * 4
    np.testing.assert_array_equal(table.column("pixel_size_angstrom"), 1.5)
    np.testing.assert_array_equal(table.column("shift_angstrom"), [[3, -1]] * 4)
    np.testing.assert_allclose(table.rotations, np.tile(ROTATION, (4, 1, 1)), atol=1e-6)
    check_optics(table)


def test_relion_3_0_has_one_table_and_shifts_in_pixels(tmp_path):
    table = read_relion(star_30(tmp_path))
    # 5 µm over a magnification of 38168: EMPIAR-10076's 1.310 Å (conventions.md, 2.2)
    pixel_size = 5e4 / 38168
    assert pixel_size == pytest.approx(1.310, abs=5e-4)
    np.testing.assert_allclose(table.column("pixel_size_angstrom"), pixel_size, rtol=1e-6)
    shifts = np.array([[3, -1]] * 3) * pixel_size
    np.testing.assert_allclose(table.column("shift_angstrom"), shifts, rtol=1e-6)
    np.testing.assert_allclose(table.rotations[0], ROTATION, atol=1e-6)
    check_optics(table)


def test_groups_are_joined_by_their_number_and_not_their_place(tmp_path):
    optics = {
        "rlnOpticsGroup": [7, 2],
        "rlnOpticsGroupName": ["a", "b"],
        "rlnImageSize": [8, 8],
        "rlnImagePixelSize": [1.0, 2.0],
        "rlnVoltage": [200.0, 300.0],
        "rlnSphericalAberration": [2.7, 2.7],
        "rlnAmplitudeContrast": [0.1, 0.1],
    }
    uri, _ = star_31(tmp_path, optics=optics, particles={"rlnOpticsGroup": [2, 7, 7, 2]})
    table = read_relion(uri)
    assert table.column("voltage_kv").tolist() == [300, 200, 200, 300]
    assert table.column("pixel_size_angstrom").tolist() == [2, 1, 1, 2]


@pytest.mark.parametrize("separator", ["\t", "   ", " \t "])
def test_white_space_is_any(tmp_path, separator):
    uri, _ = star_31(tmp_path)
    expected = read_relion(uri)
    text = (tmp_path / "particles.star").read_text()
    head, rows = text.split("data_particles")
    (tmp_path / "particles.star").write_text(head + "data_particles" + rows.replace(" ", separator))
    assert read_relion(uri).table.equals(expected.table)


def test_the_user_s_values_replace_the_file_s(tmp_path):
    uri, _ = star_31(tmp_path)
    given = {"pixel_size_angstrom": 2.0, "voltage_kv": 200.0, "phase_shift_deg": 90.0}
    table = read_relion(uri, imaging=Imaging(**given))
    for name, value in given.items():
        assert table.column(name).tolist() == [value] * 4


def test_an_absent_phase_shift_is_zero_and_said(tmp_path, caplog):
    uri, _ = star_31(tmp_path)
    with caplog.at_level(logging.WARNING):
        table = read_relion(uri)
    assert table.column("phase_shift_deg").tolist() == [0] * 4
    assert "rlnPhaseShift; the phase shift is taken as 0" in caplog.text


def test_absent_shifts_are_zero_and_said(tmp_path, caplog):
    absent = {"rlnOriginXAngst": None, "rlnOriginYAngst": None}
    uri, _ = star_31(tmp_path, particles=absent)
    with caplog.at_level(logging.WARNING):
        table = read_relion(uri)
    assert not table.column("shift_angstrom").any()
    assert "no rlnOrigin columns; shifts are taken as 0" in caplog.text


def test_a_file_before_refinement_has_no_poses(tmp_path):
    absent = dict.fromkeys(pose_columns(4))
    uri, _ = star_31(tmp_path, particles=absent)
    table = read_relion(uri)
    assert not table.has_poses
    assert table.has_ctf


def test_stacks_need_not_be_there_where_nobody_reads_them(tmp_path):
    uri, _ = star_31(tmp_path, stack="gone/other.mrcs")
    table = read_relion(uri, need_images=False)
    assert table.single_box() == 8
    with pytest.raises(InputError, match=r"gone/other\.mrcs, which is at none of"):
        read_relion(uri)


def test_a_file_elsewhere_with_stacks_beside_it(tmp_path):
    local, _ = star_31(tmp_path)
    for name in ("particles.star", "stack.mrcs"):
        content = storage.read_bytes(str(tmp_path / name))
        storage.write_bytes(f"memory://relion/{name}", content)
    table = read_relion("memory://relion/particles.star")
    assert table.stacks == ["memory://relion/stack.mrcs"]
    np.testing.assert_array_equal(table.rotations, read_relion(local).rotations)


# What is refused -----------------------------------------------------------------------------


def refuse(uri, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        read_relion(uri, **options)
    assert uri in str(caught.value)


@pytest.mark.parametrize(
    ("column", "option"),
    [
        ("rlnAmplitudeContrast", "--amplitude-contrast"),
        ("rlnVoltage", "--kv"),
        ("rlnSphericalAberration", "--cs"),
        ("rlnImagePixelSize", "--pixel-size"),
    ],
)
def test_an_absent_column_names_the_option(tmp_path, column, option):
    uri, _ = star_31(tmp_path, optics=optics_columns(**{column: None}))
    refuse(uri, f"{column}.*{option}")


def test_pixel_size_of_3_0_that_cannot_be_derived_names_the_option(tmp_path):
    refuse(star_30(tmp_path, rlnMagnification=None), "pixel.*--pixel-size")


@pytest.mark.parametrize(
    ("particles", "message"),
    [
        ({"rlnImageName": None}, r"no column rlnImageName in any block \(data_optics, data_part"),
        (
            {"rlnImageName": ["1@stack.mrcs", "stack.mrcs", "2@stack.mrcs", "3@stack.mrcs"]},
            "line 30: rlnImageName is 'stack.mrcs'; expected the form 000001@folder",
        ),
        (
            {"rlnImageName": ["1@stack.mrcs", "5@stack.mrcs", "9@stack.mrcs", "3@stack.mrcs"]},
            r"line 30: slice 5 of .*stack.mrcs, which has 4 slices \(2 such particles\)",
        ),
        ({"rlnImageName": ["0@stack.mrcs"] * 4}, "line 29: slice 0 of"),
        ({"rlnOpticsGroup": [1, 1, 2, 1]}, r"optics group 2, which .* not list \(it has 1\)"),
        ({"rlnOpticsGroup": None}, "its particles have no rlnOpticsGroup"),
        ({"rlnAngleTilt": None}, "no rlnAngleTilt, but the other angles"),
        ({"rlnAngleTilt": [0, 0, "x", 0]}, "line 31: _rlnAngleTilt is 'x'"),
        ({"rlnPhaseShift": [0, "nan", 0, 0]}, "line 31: rlnPhaseShift is not .*--phase-shift"),
    ],
    ids=[
        "no images", "no slice", "beyond the stack", "slice 0", "group", "no group", "angle gone",
        "no number", "nan",
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_the_row(tmp_path, particles, message):
    uri, _ = star_31(tmp_path, particles=particles)
    refuse(uri, message)


def test_values_that_are_not_finite_never_get_in(tmp_path):
    uri, _ = star_31(tmp_path, particles={"rlnAngleRot": [0, 0, "nan", 0]})
    with pytest.raises(InputError, match=r"line 31: column rotation is not finite"):
        read_relion(uri)
    uri, _ = star_31(tmp_path, particles={"rlnDefocusU": [1e4, "inf", 1e4, 1e4]})
    with pytest.raises(InputError, match=r"line 30: column defocus_u_angstrom is not finite"):
        read_relion(uri)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rlnVoltage", "nan", r"rlnVoltage is not a number .*--kv"),
        ("rlnVoltage", 0, r"voltage_kv is 0 .* should lie between 10 and 10000"),
        ("rlnAmplitudeContrast", "inf", r"rlnAmplitudeContrast is not a number"),
        ("rlnImagePixelSize", "nan", r"rlnImagePixelSize is not a number .*--pixel-size"),
        ("rlnBeamTiltX", "nan", r"rlnBeamTiltX is not a number"),
    ],
)
def test_a_value_of_an_optics_group_is_named_where_it_stands(tmp_path, column, value, message):
    uri, _ = star_31(tmp_path, optics=optics_columns(**{column: [value]}))
    lines = storage.read_bytes(uri).decode().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "opticsGroup1" in text)
    refuse(uri, rf"line {line} \(block data_optics\): .*{message}")


def test_shifts_larger_than_the_box_are_refused(tmp_path):
    uri, _ = star_31(tmp_path, particles={"rlnOriginXAngst": [0, 0, 12.5, 0]})
    message = r"line 31: the shift of \(12.5, -1.0\) Å is larger than the box of 12.0 Å .1 such"
    with pytest.raises(InputError, match=message):
        read_relion(uri)


def test_other_boxes_than_the_file_says_are_refused(tmp_path):
    uri, _ = star_31(tmp_path, optics=optics_columns(rlnImageSize=[16]))
    refuse(uri, "line 29: rlnImageSize is 16, but the image has 8 px")
    refuse(uri, "line 29: --box is 6, but", imaging=Imaging(box=6))


def test_tilt_series_are_refused(tmp_path):
    tilts = {"rlnTomoName": ["t"] * 4, "rlnTomoVisibleFrames": ["[1,1]"] * 4}
    uri, _ = star_31(tmp_path, particles=tilts)
    refuse(uri, "tilt series; single-particle images are needed")


def test_the_missing_stack_of_a_star_file_is_named_with_its_line(tmp_path):
    names = [f"{i}@stack.mrcs" for i in (1, 2, 3)] + ["1@other/gone.mrcs"]
    uri, _ = star_31(tmp_path, particles={"rlnImageName": names})
    lines = (tmp_path / "particles.star").read_text().splitlines()
    line = next(i for i, text in enumerate(lines, start=1) if "gone.mrcs" in text)
    refuse(uri, rf"particles\.star, line {line}, names the stack other/gone.mrcs.*--datadir")


# What is written -----------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    """A table of two groups that differ in voltage, written as RELION 3.1."""
    stacks = [write_mrc(tmp_path / f"{n}.mrcs", images_of(3)) for n in "ab"]
    voltage = np.repeat([300.0, 200.0], 3)
    changed = {"voltage_kv": voltage, "phase_shift_deg": 15.0 * np.arange(6)}
    table = table_of(6, stacks=stacks, optics_group=["1"] * 6, **changed)
    (tmp_path / "job").mkdir()
    uri = str(tmp_path / "job" / "out.star")
    write_relion(uri, table)
    return table, uri


def test_what_is_written_is_read_as_the_same_table(written):
    table, uri = written
    again = read_relion(uri)
    # six decimals of a degree are 1e-8; the matrices are single precision
    np.testing.assert_allclose(again.rotations, table.rotations, atol=1e-6)
    for name in ("slice", "box", "shift_angstrom", "pixel_size_angstrom", *CTF_COLUMNS):
        np.testing.assert_array_equal(again.column(name), table.column(name))
    assert [os.path.normpath(again.stacks[c]) for c in again.stack_codes] == [
        table.stacks[c] for c in table.stack_codes
    ]


def test_optics_groups_are_split_where_they_do_not_share_their_optics(written):
    optics, particles = read_star(written[1])
    assert (optics.name, particles.name) == ("optics", "particles")
    assert optics.text("rlnVoltage") == ["300.0", "200.0"]
    groups = particles.text("rlnOpticsGroup")
    assert groups[:3] == [optics.text("rlnOpticsGroup")[0]] * 3
    assert groups[3:] == [optics.text("rlnOpticsGroup")[1]] * 3
    assert len(set(groups)) == 2


def test_written_stacks_are_relative_to_the_file(written):
    _, particles = read_star(written[1])
    assert particles.text("rlnImageName")[:1] == ["000001@../a.mrcs"]


def test_euler_angles_of_the_test_vector_come_back(tmp_path):
    stack = write_mrc(tmp_path / "a.mrcs", images_of(1))
    table = table_of(1, stacks=(stack,), rotation=ROTATION.reshape(1, 9))
    write_relion(str(tmp_path / "a.star"), table)
    _, particles = read_star(str(tmp_path / "a.star"))
    found = [particles.numbers(f"rlnAngle{n}")[0] for n in ("Rot", "Tilt", "Psi")]
    np.testing.assert_allclose(found, ANGLES_DEG, atol=1e-4)  # the matrix has eight digits


def test_a_table_without_poses_is_written_without_them(tmp_path):
    stack = write_mrc(tmp_path / "a.mrcs", images_of(2))
    table = table_of(2, stacks=(stack,), rotation=None, shift_angstrom=None)
    write_relion(str(tmp_path / "a.star"), table)
    again = read_relion(str(tmp_path / "a.star"))
    assert not again.has_poses
    assert again.has_ctf


def test_the_field_s_own_file(empiar):
    table = read_relion(str(empiar / "empiar_10076_7.star"))
    assert len(table) == 7
    assert table.single_box() == 320
    assert table.column("pixel_size_angstrom")[0] == pytest.approx(1.310, abs=5e-4)
    assert table.column("defocus_u_angstrom")[4] == np.float32(15366.8)
    check_optics(table.slice_rows(0, 1))
    assert not table.has_poses


@pytest.mark.parametrize("column", ["rlnOriginXAngst", "rlnOriginYAngst"])
def test_a_shift_along_one_axis_only_is_refused_and_not_taken_as_zero(tmp_path, column):
    place, _ = star_31(tmp_path, particles={column: None})
    with pytest.raises(InputError, match=r"has rlnOrigin.Angst, but not the shift along the other"):
        read_relion(place)


@pytest.mark.parametrize(
    ("written", "expected"), [("True", True), ("TRUE", True), ("1", True), ("False", None)]
)
def test_truth_values_of_data_frames_are_read_as_relions(tmp_path, written, expected):
    optics = optics_columns(rlnCtfDataAreCtfPremultiplied=[written])
    table = read_relion(star_31(tmp_path, optics=optics)[0])
    if expected:
        assert table.column("ctf_premultiplied").tolist() == [True] * 4
    else:
        assert "ctf_premultiplied" not in table.table.column_names


def test_stacks_of_tilts_are_named_as_such_and_not_as_broken_image_names(tmp_path):
    names = {"rlnTomoName": ["TS_1"] * 4, "rlnImageName": ["job1/TS_1/1_stack2d.mrcs"] * 4}
    place, _ = star_31(tmp_path, particles=names, version=50001)
    with pytest.raises(InputError, match="particles of tilt series"):
        read_relion(place, need_images=False)


@pytest.mark.parametrize(("defocus", "is_warned"), [(1.53, True), (15_300.0, False)])
def test_a_defocus_in_micrometres_is_warned_of(tmp_path, caplog, defocus, is_warned):
    columns = {"rlnDefocusU": [defocus] * 4, "rlnDefocusV": [defocus] * 4}
    read_relion(star_31(tmp_path, particles=columns)[0])
    assert ("multiply the defocus by 10,000" in caplog.text) == is_warned


def test_halves_of_a_refinement_are_kept_and_written(tmp_path):
    table = read_relion(star_30(tmp_path, rlnRandomSubset=[2, 1, 2]))
    np.testing.assert_array_equal(half_of_particles(table), [1, 0, 1])
    write_relion(str(tmp_path / "out.star"), table)
    [_, particles] = read_star(str(tmp_path / "out.star"))
    assert particles.text("rlnRandomSubset") == ["2", "1", "2"]


@pytest.mark.parametrize("subset", [[1, 1, 1], [0, 1, 2], [1, 2, 3]])
def test_what_is_not_two_halves_is_no_column(tmp_path, subset):
    table = read_relion(star_30(tmp_path, rlnRandomSubset=subset))
    assert HALF not in table.table.column_names
    np.testing.assert_array_equal(half_of_particles(table), [0, 1, 0])


def test_images_in_turn_where_a_half_is_gone_or_an_image_is_in_both(tmp_path):
    table = read_relion(star_30(tmp_path, rlnRandomSubset=[2, 1, 2]))
    np.testing.assert_array_equal(half_of_particles(table.select(np.array([0, 2]))), [0, 1])
    both = table.with_columns({"slice": [0, 0, 1]})
    np.testing.assert_array_equal(half_of_particles(both), [0, 0, 1])
