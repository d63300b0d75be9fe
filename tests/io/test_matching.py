"""Numbers of another program's selection: images found by name or uid, copies told apart."""

import numpy as np
import pytest

from phantoms import cs_rows, loop, write_cs
from raydrgn.errors import InputError
from raydrgn.io.matching import find_numbers
from raydrgn.io.starrows import TextBlock

IMAGES, COPIES = 6, 3


def columns(**changes):
    """Each of six images three times, with poses 120° apart, as symmetry expansion makes them."""
    count = IMAGES * COPIES
    images = np.repeat(np.arange(1, IMAGES + 1), COPIES)
    return {
        "rlnImageName": [f"{i:06d}@stack.mrcs" for i in images],
        "rlnMicrographName": [f"m{i}.mrc" for i in images],
        "rlnAngleRot": [f"{a:.6f}" for a in np.tile([0.0, 120.0, -120.0], IMAGES) + images],
        "rlnAngleTilt": ["30.000000"] * count,
        "rlnOriginXAngst": ["1.5"] * count,
        "rlnClassNumber": ["1"] * count,
    } | changes


def write(folder, name, table, rows=None):
    kept = range(IMAGES * COPIES) if rows is None else rows
    chosen = {name: [values[row] for row in kept] for name, values in table.items()}
    (folder / name).write_text(loop("particles", chosen))
    return str(folder / name)


def test_copies_of_an_image_are_told_apart_by_their_angles(tmp_path):
    original = write(tmp_path, "expanded.star", columns())
    selected = write(tmp_path, "selected.star", columns(), [1, 5, 9, 16])
    assert find_numbers(selected, original).tolist() == [1, 5, 9, 16]


def test_other_decimals_classes_and_turns_of_360_are_the_same_copy(tmp_path):
    original = write(tmp_path, "expanded.star", columns())
    table = columns()
    table["rlnAngleRot"] = [f"{float(angle) + 360:.3f}" for angle in table["rlnAngleRot"]]
    table |= {"rlnClassNumber": ["2"] * len(table["rlnAngleRot"]), "rlnNew": ["x"] * 18}
    del table["rlnMicrographName"]
    selected = write(tmp_path, "selected.star", table, [16, 5])
    assert find_numbers(selected, original).tolist() == [16, 5]


def test_rows_that_are_the_same_in_every_column_are_taken_one_after_the_other(tmp_path):
    table = columns(rlnAngleRot=["0.0"] * 18)
    original = write(tmp_path, "expanded.star", table)
    selected = write(tmp_path, "selected.star", table, [4, 5, 3])
    assert find_numbers(selected, original).tolist() == [3, 4, 5]


def test_the_work_of_equal_rows_grows_with_their_number_and_not_its_square(tmp_path, monkeypatch):
    """Each row twice, matched to the file itself: columns are read once, whatever their length."""
    reads = []
    cells = TextBlock.cells
    monkeypatch.setattr(
        TextBlock, "cells", lambda block, name: reads.append(1) or cells(block, name)
    )
    counts = []
    for count in (10, 100):
        images = np.arange(count) // 2 + 1
        table = {"rlnImageName": [f"{i}@a.mrcs" for i in images], "rlnAngleRot": [0.5] * count}
        (tmp_path / "twice.star").write_text(loop("particles", table))
        reads.clear()
        found = find_numbers(str(tmp_path / "twice.star"), str(tmp_path / "twice.star"))
        assert found.tolist() == list(range(count))
        counts.append(len(reads))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("rows", "copies"), [(range(18), 3), ([3, 4], 2)])
def test_copies_that_cannot_be_told_apart_are_refused_with_what_differs(tmp_path, rows, copies):
    table = columns(rlnAngleRot=["0.0"] * 18, rlnClassNumber=[str(i) for i in range(18)])
    original = write(tmp_path, "expanded.star", table, rows)
    selected = write(tmp_path, "selected.star", {"rlnImageName": table["rlnImageName"]}, [4])
    message = rf"line 5: 000002@stack\.mrcs is in {copies} rows of .*{copies} of them .*rlnClassN"
    with pytest.raises(InputError, match=message):
        find_numbers(selected, original)


def test_copies_that_were_refined_since_are_refused(tmp_path):
    original = write(tmp_path, "expanded.star", columns())
    selected = write(tmp_path, "selected.star", columns(rlnAngleRot=["7.7"] * 18), [4])
    with pytest.raises(InputError, match="none of them has these angles and origins"):
        find_numbers(selected, original)


@pytest.mark.parametrize("name", ["1@./stack.mrcs", "000001@stack.mrcs:mrcs", " 01@stack.mrcs"])
def test_one_image_in_other_words_is_found(tmp_path, name):
    original = write(tmp_path, "all.star", columns(), range(0, 18, 3))
    (tmp_path / "some.star").write_text(loop("", {"rlnImageName": [f"'{name}'"]}))
    assert find_numbers(str(tmp_path / "some.star"), original).tolist() == [0]


def test_one_stack_by_another_path_is_found(tmp_path):
    (tmp_path / "stack.mrcs").write_bytes(b"")
    original = write(tmp_path, "all.star", columns(), range(0, 18, 3))
    names = {"rlnImageName": [f"2@{tmp_path}/stack.mrcs"]}
    (tmp_path / "some.star").write_text(loop("", names))
    assert find_numbers(str(tmp_path / "some.star"), original).tolist() == [1]


def test_a_particle_that_is_not_in_the_original_is_named_with_its_line(tmp_path):
    original = write(tmp_path, "all.star", columns(), range(3))
    selected = write(tmp_path, "some.star", columns(), [0, 6])
    with pytest.raises(InputError, match=r"some\.star, line 11: 000003@stack\.mrcs is not in"):
        find_numbers(selected, original)


def test_uids_tell_copies_apart_by_themselves(tmp_path):
    rows = cs_rows(4, fields={"blob/idx": np.zeros(4, "u4")})
    original = write_cs(tmp_path, rows, "all.cs")
    assert find_numbers(write_cs(tmp_path, rows[[2, 0]], "some.cs"), original).tolist() == [2, 0]
    other = cs_rows(1, fields={"uid": np.array([5], "u8")})
    with pytest.raises(InputError, match=r"row 0 \(from 0\): uid 5 is not in"):
        find_numbers(write_cs(tmp_path, other, "other.cs"), original)


def test_a_uid_in_several_rows_of_the_original_is_refused(tmp_path):
    rows = cs_rows(4)
    turned = rows.copy()
    turned["alignments3D/pose"][:, 0] += 1
    original = write_cs(tmp_path, np.concatenate([rows, turned]), "joined.cs")
    particles = write_cs(tmp_path, turned[[2, 1]], "selected.cs")
    with pytest.raises(InputError, match=r"row 0 .*is in 2 rows of .*joined.cs, first 2 and 6"):
        find_numbers(particles, original)
