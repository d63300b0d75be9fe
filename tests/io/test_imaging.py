"""The user's value, else the file's, else zero for the phase shift, else an error."""

import logging

import numpy as np
import pytest

from raydrgn.errors import InputError
from raydrgn.io.imaging import OPTIONS, Imaging, compare_boxes, ctf_columns, fill
from raydrgn.io.particles import CTF_COLUMNS

FIELDS = {name: f"rln{i}" for i, name in enumerate(CTF_COLUMNS)}


def fill_one(name, found, **given):
    return fill(name, found, imaging=Imaging(**given), count=3, source="f.star", field="rlnX")


@pytest.mark.parametrize("name", OPTIONS)
def test_the_user_s_value_wins(name):
    assert fill_one(name, np.arange(3.0), **{name: 7}).tolist() == [7, 7, 7]
    assert fill_one(name, np.arange(3.0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("name", "option"), OPTIONS.items())
def test_what_nobody_says_is_an_error_that_names_the_option(name, option, caplog):
    if name == "phase_shift_deg":
        with caplog.at_level(logging.WARNING):
            assert fill_one(name, None).tolist() == [0, 0, 0]
        assert "f.star has no rlnX; the phase shift is taken as 0" in caplog.text
        assert option in caplog.text
    else:
        with pytest.raises(
            InputError,
            match=rf"f\.star has no rlnX; give it with `raydrgn parse f\.star {option} VALUE",
        ):
            fill_one(name, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named_with_their_row(bad):
    found = np.array([1.0, bad, bad])
    with pytest.raises(InputError, match=r"row 1 \(from 0\): rlnX is not a number \(2 such.*--kv"):
        fill_one("voltage_kv", found)
    assert fill_one("voltage_kv", found, voltage_kv=300).tolist() == [300] * 3


def ctf_of(found, **given):
    return ctf_columns(found, imaging=Imaging(**given), count=2, source="f", fields=FIELDS)


def test_without_defocus_there_is_no_ctf():
    assert ctf_of({"voltage_kv": np.full(2, 300.0)}) == {}


def test_defocus_alone_can_be_completed_by_the_user():
    found = {name: np.full(2, float(i)) for i, name in enumerate(CTF_COLUMNS[:3])}
    given = {
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.1,
        "phase_shift_deg": 90.0,
    }
    columns = ctf_of(found, **given)
    assert tuple(columns) == CTF_COLUMNS
    assert [columns[name][1] for name in CTF_COLUMNS] == [0, 1, 2, 300, 2.7, 0.1, 90]


def test_half_a_defocus_is_refused():
    found = {name: np.zeros(2) for name in CTF_COLUMNS if name != "defocus_v_angstrom"}
    with pytest.raises(InputError, match="f has rln0, but no rln1"):
        ctf_of(found)


@pytest.mark.parametrize(
    ("said", "box", "message"),
    [
        (np.array([8, 6]), None, "row 1 .*: rlnSize is 6, but the image has 8 px"),
        (None, 6, "row 0 .*: --box is 6, but the image has 8 px"),
        (np.array([8, 8]), 6, "--box is 6, but the image has"),
    ],
)
def test_other_boxes_than_said_are_refused(said, box, message):
    with pytest.raises(InputError, match=message):
        compare_boxes(np.array([8, 8]), said, imaging=Imaging(box=box), source="f", field="rlnSize")


@pytest.mark.parametrize(("said", "box"), [(None, None), (np.array([8, 8]), None), (None, 8)])
def test_boxes_that_agree_or_are_not_said_pass(said, box):
    compare_boxes(np.array([8, 8]), said, imaging=Imaging(box=box), source="f", field="rlnSize")
