"""Columns that say more of the images than is modelled: refused, warned of, or silent."""

import logging

import numpy as np
import pytest

from phantoms import cs_rows, images_of, optics_columns, star_31, write_cs, write_mrc
from raydrgn.errors import InputError
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particles import ParticleTable
from raydrgn.io.relion import read_relion
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.unmodelled import refuse_unmodelled, unmodelled, warn_of_unmodelled


def star(folder, optics=None, particles=None):
    columns = {
        name: values if len(values) > 1 else values * 2 for name, values in optics_columns().items()
    }
    columns |= {"rlnOpticsGroup": [1, 2]} | (optics or {})
    groups = {"rlnOpticsGroup": [1, 2, 1, 2]}
    return read_metadata(star_31(folder, optics=columns, particles=groups | (particles or {}))[0])


MODELLED = {
    "rlnCtfDataAreCtfPremultiplied": (1, "ctf_premultiplied"),
    "rlnCtfDataArePhaseFlipped": (1, "phase_flipped"),
    "rlnBeamTiltX": (0.3, "beam_tilt_x_mrad"),
    "rlnBeamTiltY": (-0.3, "beam_tilt_y_mrad"),
}
WARNED = {
    "rlnOddZernike": "[0,0,0.2,0,0,0]",
    "rlnEvenZernike": "[0.1,0,0]",
    "rlnMagMat00": 1.01,
    "rlnMagMat01": 0.002,
    "rlnCtfBfactor": 50,
    "rlnCtfScalefactor": 0.9,
}


@pytest.mark.parametrize("where", ["optics", "particles"])
@pytest.mark.parametrize("field", MODELLED)
def test_what_is_undone_in_the_images_is_a_column_of_the_table(tmp_path, field, where, caplog):
    value, column = MODELLED[field]
    values = [0, value] if where == "optics" else [0, value, 0, value]
    table = star(tmp_path, **{where: {field: values}})
    np.testing.assert_allclose(table.column(column), [0, value, 0, value], rtol=1e-6)
    if "tilt" in column:
        assert {"beam_tilt_x_mrad", "beam_tilt_y_mrad"} <= set(table.table.column_names)
    caplog.clear()
    refuse_unmodelled(table)
    assert not caplog.text
    write_relion(str(tmp_path / "new.star"), table)
    again = read_relion(str(tmp_path / "new.star"))
    np.testing.assert_array_equal(again.column(column), table.column(column))
    assert column not in star(tmp_path, {field: [0, "0.000000"]}).table.column_names


def test_a_tilt_that_is_no_number_is_named_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"line \d+: rlnBeamTiltX is not a number"):
        star(tmp_path, particles={"rlnBeamTiltX": [0.1, "nan", 0.1, 0.1]})


def test_subtomograms_are_refused_by_column_and_group(tmp_path):
    table = star(tmp_path, {"rlnImageDimensionality": [2, 3]})
    with pytest.raises(InputError, match=r"rlnImageDimensionality of optics group 2: .*subtomogr"):
        refuse_unmodelled(table)
    refuse_unmodelled(table.select(np.array([0, 2])))  # the other group is as it should be


@pytest.mark.parametrize("where", ["optics", "particles"])
@pytest.mark.parametrize("column", WARNED)
def test_aberrations_are_one_warning(tmp_path, column, where, caplog):
    value = WARNED[column]
    table = star(tmp_path, **{where: {column: [value] * (2 if where == "optics" else 4)}})
    refuse_unmodelled(table)
    assert [record.levelname for record in caplog.records if "not modelled" in record.message] == [
        "WARNING"
    ]
    assert column in caplog.text


def test_values_that_change_nothing_are_silent(tmp_path, caplog):
    neutral = dict.fromkeys(WARNED, 0) | {
        "rlnMagMat00": 1.0, "rlnMagMat11": "1.000000", "rlnMagMat10": 0,
        "rlnOddZernike": "[0,0,0]", "rlnEvenZernike": "[]", "rlnCtfScalefactor": 1.0,
        "rlnCtfDataArePhaseFlipped": "0.000000", "rlnCtfDataAreCtfPremultiplied": 0,
    }  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="raydrgn.io.unmodelled"):
        table = star(tmp_path, {name: [value] * 2 for name, value in neutral.items()})
        refuse_unmodelled(table)
        warn_of_unmodelled(table)
    assert unmodelled(table) == []
    assert "unmodelled" not in caplog.text


def test_a_reader_of_metadata_warns_of_what_pickles_do_not_hold(tmp_path, caplog):
    warn_of_unmodelled(star(tmp_path, {"rlnCtfDataArePhaseFlipped": [1, 0]}))
    assert "rlnCtfDataArePhaseFlipped of optics group 1" in caplog.text
    assert "poses.pkl and ctf.pkl do not hold it" in caplog.text


@pytest.mark.parametrize(
    "particles",
    [
        {"rlnTomoName": ["t"] * 4},
        {"rlnTomoParticleName": ["t/1"] * 4},
        {"rlnGroupName": ["a", "a", "b", "b"], "rlnCtfScalefactor": [1, 0.9, 1, 0.9]},
    ],
    ids=["RELION 4", "RELION 5", "Warp and M"],
)
def test_tilt_series_of_every_dialect_are_refused(tmp_path, particles):
    with pytest.raises(InputError, match="images are of tilt series"):
        refuse_unmodelled(star(tmp_path, particles=particles))


def test_groups_of_micrographs_are_no_tilt_series(tmp_path):
    groups = {"rlnGroupName": ["a", "a", "b", "b"], "rlnCtfScalefactor": [1.0] * 4}
    refuse_unmodelled(star(tmp_path, particles=groups))


def test_scales_that_were_fitted_to_single_particles_are_no_tilt_series(tmp_path, caplog):
    """RELION's CTF refinement writes a B-factor and a scale for each particle or micrograph."""
    fitted = {
        "rlnGroupName": ["a", "a", "b", "b"],
        "rlnCtfScalefactor": [0.93, 1.04, 0.99, 0.87],
        "rlnCtfBfactor": [12.0, 30.5, 0.0, 8.1],
    }
    optics = {"rlnCtfBfactor": [0.0, 0.0], "rlnCtfScalefactor": [1.0, 1.0]}  # RELION passes over
    refuse_unmodelled(star(tmp_path, optics, particles=fitted))
    assert "the CTF has a B-factor; the CTF has a scale factor. These are not" in caplog.text


def test_what_a_file_says_stays_with_its_table(tmp_path):
    table = star(tmp_path, {"rlnMagMat00": [1.0, 1.01], "rlnCtfDataAreCtfPremultiplied": [0, 1]})
    table.write(str(tmp_path / "p.parquet"))
    again = ParticleTable.read(str(tmp_path / "p.parquet"))
    assert [item.column for item in unmodelled(again)] == ["rlnMagMat00"]
    assert again.column("ctf_premultiplied").tolist() == [False, True, False, True]
    assert unmodelled(again.select(np.array([0, 2]))) == []


@pytest.mark.parametrize(
    ("field", "value", "neutral"),
    [
        ("ctf/trefoil_A", [[0, 5.0]] * 4, np.zeros((4, 2))),
        ("ctf/tetra_A", [[0, 0, 0, 1.0]] * 4, np.zeros((4, 4))),
        ("ctf/anisomag", [[1.01, 0, 0, 1]] * 4, np.tile([1.0, 0, 0, 1], (4, 1))),
        ("ctf/anisomag", [[0.01, 0, 0, 0]] * 4, np.zeros((4, 4))),
        ("ctf/bfactor", [30.0] * 4, np.zeros(4)),
        ("ctf/scale", [0.5] * 4, np.ones(4)),
    ],
)
def test_aberrations_of_cryosparc(tmp_path, field, value, neutral):
    write_mrc(tmp_path / "stack.mrcs", images_of(4))
    for values, expected in ((value, [field]), (neutral, [])):
        rows = cs_rows(fields={field: np.asarray(values, dtype="f4")})
        found = unmodelled(read_metadata(write_cs(tmp_path, rows)))
        assert [item.column for item in found] == expected
        assert all(item.group == "23" for item in found)


def test_images_of_both_contrasts_are_refused(tmp_path):
    write_mrc(tmp_path / "stack.mrcs", images_of(4))
    rows = cs_rows(fields={"blob/sign": np.float32([1, 1, -1, 1])})
    with pytest.raises(InputError, match=r"blob/sign .* bright on dark"):
        refuse_unmodelled(read_metadata(write_cs(tmp_path, rows)))


def test_the_beam_tilt_of_cryosparc_is_an_angle(tmp_path):
    write_mrc(tmp_path / "stack.mrcs", images_of(4))
    # Cs of 2.7 mm and 0.5 mrad: 2.7e7 Å × sin 5e-4
    tilt = np.tile(np.float32([13_500.0, -2_700.0]), (4, 1))
    table = read_metadata(write_cs(tmp_path, cs_rows(fields={"ctf/tilt_A": tilt})))
    np.testing.assert_allclose(table.column("beam_tilt_x_mrad"), 0.5, rtol=1e-5)
    np.testing.assert_allclose(table.column("beam_tilt_y_mrad"), -0.1, rtol=1e-5)
    tilt[:2] = 0  # and a corrected microscope, with Cs of 0
    corrected = cs_rows(fields={"ctf/tilt_A": tilt})
    corrected["ctf/cs_mm"][:2] = 0
    table = read_metadata(write_cs(tmp_path, corrected))
    np.testing.assert_allclose(table.column("beam_tilt_x_mrad"), [0, 0, 0.5, 0.5], rtol=1e-5)
    straight = cs_rows(fields={"ctf/tilt_A": np.zeros((4, 2), "f4")})
    table = read_metadata(write_cs(tmp_path, straight))
    assert "beam_tilt_x_mrad" not in table.table.column_names
