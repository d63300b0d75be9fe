"""Columns that say more of the images than is modelled: refused, warned of, or silent."""

import logging

import numpy as np
import pytest

from phantoms import cs_rows, images_of, optics_columns, star_31, table_of, write_cs, write_mrc
from raydrgn.errors import InputError
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particles import ParticleTable
from raydrgn.io.relion import read_relion, write_relion
from raydrgn.io.unmodelled import refuse_unmodelled, unmodelled, warn_of_unmodelled


def star(folder, optics=None, particles=None):
    columns = {
        name: values if len(values) > 1 else values * 2 for name, values in optics_columns().items()
    }
    columns |= {"rlnOpticsGroup": [1, 2]} | (optics or {})
    groups = {"rlnOpticsGroup": [1, 2, 1, 2]}
    return read_metadata(star_31(folder, optics=columns, particles=groups | (particles or {}))[0])


REFUSED = {
    "rlnCtfDataAreCtfPremultiplied": (1, "multiplied by their CTF"),
    "rlnCtfDataArePhaseFlipped": (1, "phases .* are flipped"),
    "rlnImageDimensionality": (3, "subtomograms"),
}
WARNED = {
    "rlnBeamTiltX": 0.3,
    "rlnBeamTiltY": -0.3,
    "rlnOddZernike": "[0,0,0.2,0,0,0]",
    "rlnEvenZernike": "[0.1,0,0]",
    "rlnMagMat00": 1.01,
    "rlnMagMat01": 0.002,
    "rlnCtfBfactor": 50,
    "rlnCtfScalefactor": 0.9,
}


@pytest.mark.parametrize("column", REFUSED)
def test_images_that_are_not_raw_are_refused_by_column_and_group(tmp_path, column):
    value, what = REFUSED[column]
    neutral = 2 if column == "rlnImageDimensionality" else 0
    table = star(tmp_path, {column: [neutral, value]})
    with pytest.raises(InputError, match=rf"{column} of optics group 2: .*{what}"):
        refuse_unmodelled(table)
    refuse_unmodelled(table.select(np.array([0, 2])))  # the other group is as it should be
    refuse_unmodelled(star(tmp_path, {column: [neutral, neutral]}))


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


def test_a_reader_of_metadata_warns_of_what_a_training_refuses(tmp_path, caplog):
    warn_of_unmodelled(star(tmp_path, {"rlnCtfDataArePhaseFlipped": [1, 0]}))
    assert "rlnCtfDataArePhaseFlipped of optics group 1" in caplog.text
    assert "Extract them again" in caplog.text


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


def test_what_a_file_says_stays_with_its_table(tmp_path):
    table = star(tmp_path, {"rlnCtfDataAreCtfPremultiplied": [0, 1]})
    table.write(str(tmp_path / "p.parquet"))
    again = ParticleTable.read(str(tmp_path / "p.parquet"))
    assert unmodelled(again) == unmodelled(table)
    write_relion(str(tmp_path / "new.star"), again)  # the columns of a file that is made anew
    with pytest.raises(InputError, match="rlnCtfDataAreCtfPremultiplied of optics group 2"):
        refuse_unmodelled(read_relion(str(tmp_path / "new.star")))


@pytest.mark.parametrize(
    ("field", "value", "neutral"),
    [
        ("ctf/tilt_A", [[0.1, 0]] * 4, np.zeros((4, 2))),
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


def test_two_pixel_sizes_are_refused_with_every_group():
    table = table_of(
        5, pixel_size_angstrom=[3.0] * 3 + [3.4] * 2, optics_group=["1"] * 3 + ["2"] * 2
    )
    message = r"optics group 1: 3 of 3 Å, optics group 2: 2 of 3\.4 Å.* box × pixel size agrees"
    with pytest.raises(InputError, match=message):
        refuse_unmodelled(table)
    refuse_unmodelled(table_of(5, pixel_size_angstrom=[3.0] * 3 + [3.02] * 2))
    refuse_unmodelled(table.select(np.arange(3)))
