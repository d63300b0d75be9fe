"""Selections as people save them: understood, or refused with what was found."""

import logging
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phantoms import Hostile
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.indices import (
    read_indices,
    read_labels,
    read_original_numbers,
    rows_of_numbers,
    write_indices,
)

ORDERED = [5, 3, 3, 0]
COUNT = 12


def dumped(folder, content, name="ind.pkl", protocol=4):
    (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return str(folder / name)


def text(folder, content, name="ind.txt", encoding="utf-8"):
    (folder / name).write_bytes(content.encode(encoding))
    return str(folder / name)


MASK = np.isin(np.arange(COUNT), [1, 3, 10])


@pytest.mark.parametrize(
    "content",
    [
        np.array(ORDERED),
        ORDERED,
        tuple(ORDERED),
        np.array(ORDERED, dtype=np.uint32),
        np.array(ORDERED, float),
        np.array(ORDERED, dtype=object),
        np.array(ORDERED, dtype=">i4"),
        np.array(ORDERED)[:, None],
        np.array(ORDERED)[None],
        (np.array(ORDERED),),
        [np.int64(n) for n in ORDERED],
    ],
    ids=[
        *("array", "list", "tuple", "unsigned", "whole floats", "objects", "big-endian"),
        *("column", "row", "np.where", "list of NumPy numbers"),
    ],
)
def test_numbers_keep_their_order_in_every_container(tmp_path, content):
    found = read_indices(dumped(tmp_path, content), count=COUNT)
    assert found.dtype == np.int64
    assert found.tolist() == ORDERED


@pytest.mark.parametrize("protocol", range(6))
def test_sets_have_no_order_and_are_read_ascending(tmp_path, protocol):
    assert read_indices(dumped(tmp_path, {3, 1, 10}, protocol=protocol)).tolist() == [1, 3, 10]
    assert read_indices(dumped(tmp_path, range(2, 5), protocol=protocol)).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("3\n1\n10\n", "utf-8"),
        ("3, 1, 10", "utf-8"),
        ("3,1,10\n", "utf-8"),
        ("3;1;10;\n", "utf-8"),
        ("3\t1\t10", "utf-8"),
        ("[3, 1, 10]", "utf-8"),
        ("[ 3  1 10]\n", "utf-8"),
        ("3\r\n1\r\n10\r\n", "utf-8-sig"),
        ("3\r\n1\r\n10\r\n", "utf-16"),
        ("3\r1\r10\r", "utf-8"),
        ("# chosen by hand\n\n3 # the best\n1\n10\n", "utf-8"),
        ("3.000000000000000000e+00\n1.0\n1.0e1\n", "utf-8"),
    ],
)
@pytest.mark.parametrize("name", ["ind.txt", "ind.csv"])
def test_numbers_in_text_of_every_habit(tmp_path, content, encoding, name):
    found = read_indices(text(tmp_path, content, name, encoding), count=COUNT)
    assert found.tolist() == [3, 1, 10]


@pytest.mark.parametrize(
    "content",
    [
        "index\n3\n1\n10\n",
        '"index"\n3\n1\n10\n',
        ",0\n0,3\n1,1\n2,10\n",  # pandas.Series.to_csv
        ",chosen\n0,3\n1,1\n2,10\n",
        "Unnamed: 0,ind\n0,3\n1,1\n2,10\n",
        "z0,index,label\n0.5,3,a\n0.1,1,b\n0.2,10,c\n",
    ],
)
def test_columns_with_names(tmp_path, content):
    assert read_indices(text(tmp_path, content, "t.csv"), count=COUNT).tolist() == [3, 1, 10]


@pytest.mark.parametrize(
    "columns",
    [{"x": [3, 1, 10]}, {"x": [3, 1, 10], "__index_level_0__": [0, 1, 2]}, {"x": MASK.tolist()}],
)
def test_numbers_in_parquet(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "ind.parquet")
    found = read_indices(str(tmp_path / "ind.parquet"), count=COUNT)
    assert sorted(found.tolist()) == [1, 3, 10]


@pytest.mark.parametrize("suffix", [".pkl", ".npy", ".txt"])
def test_indices_are_read_as_they_were_written(tmp_path, suffix):
    uri = str(tmp_path / f"ind{suffix}")
    write_indices(uri, np.array(ORDERED))
    assert read_indices(uri).tolist() == ORDERED


def test_indices_of_another_suffix_are_not_written(tmp_path):
    with pytest.raises(ConfigError, match=r"should end in \.pkl, \.npy or \.txt"):
        write_indices(str(tmp_path / "ind.csv"), np.array(ORDERED))


# Masks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [MASK, MASK.tolist(), MASK[:, None], MASK.astype(object)])
def test_a_mask_is_the_rows_it_marks(tmp_path, content):
    assert read_indices(dumped(tmp_path, content), count=COUNT).tolist() == [1, 3, 10]
    assert read_indices(dumped(tmp_path, content)).tolist() == [1, 3, 10]


def test_a_mask_as_text(tmp_path):
    content = "".join(f"{value}\n" for value in MASK)
    assert read_indices(text(tmp_path, content), count=COUNT).tolist() == [1, 3, 10]


@pytest.mark.parametrize("kind", [int, float, np.uint8])
def test_zeros_and_ones_for_each_particle_are_a_mask_and_this_is_logged(tmp_path, kind, caplog):
    uri = dumped(tmp_path, MASK.astype(kind))
    with caplog.at_level(logging.WARNING, logger="raydrgn"):
        assert read_indices(uri, count=COUNT).tolist() == [1, 3, 10]
    assert "for each of the 12 particles: it is read as a mask that selects 3" in caplog.text


def test_zeros_and_ones_that_may_be_either_are_refused(tmp_path):
    uri = dumped(tmp_path, MASK.astype(int))
    with pytest.raises(InputError, match=r"12 values, all 0 or 1: numbers.*or a mask\?"):
        read_indices(uri)
    for content in (MASK.astype(int), MASK):
        with pytest.raises(InputError, match="a mask of 12 values, but there are 13 particles"):
            read_indices(dumped(tmp_path, content), count=13)


@pytest.mark.parametrize("kind", [bool, int])
def test_a_mask_is_of_the_particles_at_hand_and_a_list_of_the_original_set(tmp_path, kind):
    numbers = 2 * np.arange(COUNT)  # trained on every second particle
    found = read_original_numbers(dumped(tmp_path, MASK.astype(kind)), numbers)
    np.testing.assert_array_equal(found, numbers[MASK])
    listed = read_original_numbers(dumped(tmp_path, [22, 4]), numbers)
    np.testing.assert_array_equal(listed, [22, 4])
    of_original = dumped(tmp_path, np.repeat(MASK, 2).astype(kind))
    with pytest.raises(InputError, match=r"mask of 24 values, but there are 12 .*np\.flatnonzero"):
        read_original_numbers(of_original, numbers)


def test_the_first_two_particles_are_no_mask(tmp_path):
    assert read_indices(dumped(tmp_path, [0, 1]), count=COUNT).tolist() == [0, 1]


# Refusals ---------------------------------------------------------------------------------------


def test_a_list_that_counts_from_1_is_refused_with_the_remedy(tmp_path):
    uri = dumped(tmp_path, np.arange(1, COUNT + 1))
    with pytest.raises(InputError, match=r"from 0 to 11\. There is no 0 .* subtract 1"):
        read_indices(uri, count=COUNT, particles="p.star")
    with pytest.raises(InputError, match=r"contains particle 15, but p\.star has 12"):
        read_indices(dumped(tmp_path, [0, 15]), count=COUNT, particles="p.star")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([-1, 2], r"value 1 of 2 is -1"),
        ([0.5], r"value 1 of 1 is 0\.5"),
        ([np.nan], r"is nan"),
        ([2.0**70], r"is 1\.18"),
        ([2**70], r"a list of 1 of type int"),
        (["a"], r"a list of 1 of type str"),
        (["3", "1"], r"a list of 2 of type str"),
        ({"a": 1}, r"a dictionary with the keys 'a'"),
        (None, r"a value of type NoneType"),
        ("3,1", r"the text '3,1'"),
        ((np.arange(3), np.arange(3)), r"a tuple of 2 arrays of shape \(3,\), \(3,\)"),
        (np.zeros((3, 2)), r"an array of shape \(3, 2\) and type float64"),
        ([[1, 2], [3]], r"a list of 2 of type list"),
        ({"a", "b"}, r"a set of 2 of type str"),
        ([True, 3.5, "x"], r"a list of 3"),
    ],
)
def test_what_is_refused_is_described_with_how_to_write_it(tmp_path, content, found):
    with pytest.raises(InputError, match=rf"ind\.pkl does not contain .*{found}") as caught:
        read_indices(dumped(tmp_path, content), count=COUNT)
    message = str(caught.value)
    assert message.endswith(".")
    assert not message.endswith("..")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("1,2\n3,4\n", "a table of 2 rows and 2 columns"),
        ("x,y\n3,4\n", r"has the columns x, y; which of them holds particle numbers"),
        ("1\n2 3\n", r"line 2: 2 values, where the lines above have 1"),
        ("particle one\n", r"has no rows below its first line, 'particle; one'"),
        ("one\ntwo\n", r"does not contain particle numbers"),
    ],
)
def test_text_that_is_no_list_is_refused(tmp_path, content, found):
    with pytest.raises(InputError, match=found):
        read_indices(text(tmp_path, content))


@pytest.mark.parametrize("name", ["ind.txt", "ind.npy", "ind.pkl", "ind.parquet"])
def test_indices_of_other_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\x00particle one\n")
    with pytest.raises(InputError, match=name):
        read_indices(str(tmp_path / name))


@pytest.mark.parametrize("name", ["chosen.star", "chosen.cs"])
def test_a_particle_file_is_no_list_and_the_command_for_it_is_named(tmp_path, name):
    with pytest.raises(InputError, match="raydrgn export indices"):
        read_indices(text(tmp_path, "data_", name))


def test_nothing_of_an_array_file_with_objects_runs(tmp_path):
    np.save(tmp_path / "ind.npy", np.array([Hostile(tmp_path / "ran")], dtype=object))
    with pytest.raises(InputError, match="holds Python objects"):
        read_indices(str(tmp_path / "ind.npy"))
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_pandas_is_refused_with_the_way_to_write_it(tmp_path):
    (tmp_path / "ind.pkl").write_bytes(b"\x80\x04cpandas.core.series\nSeries\n.")
    with pytest.raises(InputError, match=r"asks for pandas\.core\.series\.Series.*np\.asarray"):
        read_indices(str(tmp_path / "ind.pkl"))


def test_labels_of_two_clusters_are_no_mask(tmp_path):
    assert read_labels(dumped(tmp_path, [0, 1, 1, 0, -1])).tolist() == [0, 1, 1, 0, -1]


@pytest.mark.parametrize(
    "content", [(np.array([1]), np.array([2])), [np.array([3]), np.array([1])]]
)
def test_several_arrays_are_not_joined_even_if_each_has_one_number(tmp_path, content):
    with pytest.raises(InputError, match=r"of 2 arrays of shape \(1,\), \(1,\)"):
        read_indices(dumped(tmp_path, content), count=COUNT)


@pytest.mark.parametrize(("kind", "limit"), [("f2", 2048), ("f4", 2**24)])
def test_floats_too_short_for_their_numbers_are_refused(tmp_path, kind, limit):
    exact = np.array([limit - 1], dtype=kind)
    assert read_indices(dumped(tmp_path, exact)).tolist() == [limit - 1]
    rounded = np.array([limit + 1], dtype=kind)  # the number before is what is kept of it
    with pytest.raises(InputError, match=r"without rounding, so save whole numbers as integers"):
        read_indices(dumped(tmp_path, rounded))


def test_quotes_around_the_numbers_of_a_table_are_not_part_of_them(tmp_path):
    assert read_indices(text(tmp_path, '"index"\n"3"\n"1"\n', "ind.csv")).tolist() == [3, 1]
    assert read_indices(text(tmp_path, '"3"\n"1"\n', "ind.csv")).tolist() == [3, 1]


@pytest.mark.parametrize("first", ["1-5", "0x3", "-", "+3a"])
def test_a_first_line_that_is_no_name_is_not_left_out_as_one(tmp_path, first):
    with pytest.raises(InputError, match=r"ind.txt, line 2: .* is neither a number nor the name"):
        read_indices(text(tmp_path, f"# mine\n{first}\n7\n"))


def test_numbers_beside_truth_values_are_refused(tmp_path):
    with pytest.raises(InputError, match="numbers in column index and truth values in keep"):
        read_indices(text(tmp_path, "index,keep\n0,True\n1,False\n", "ind.csv"))


def test_the_name_that_pandas_gives_a_lone_column_is_warned_of_or_refused(tmp_path, caplog):
    assert read_indices(text(tmp_path, "0\n3\n10\n", "ind.csv")).tolist() == [0, 3, 10]
    assert "read as particle 0. If it is the name of the column" in caplog.text
    with pytest.raises(InputError, match=r"the number 0 in its first line, and again below"):
        read_indices(text(tmp_path, "0\n3\n0\n", "ind.csv"))
    caplog.clear()
    assert read_indices(text(tmp_path, "0\n3\n10\n")).tolist() == [0, 3, 10]
    assert not caplog.text


@pytest.mark.parametrize("content", ["[]", "(", "[]\n()\n"])
def test_lists_of_nothing_are_as_an_empty_file(tmp_path, content):
    assert len(read_indices(text(tmp_path, content))) == 0


def test_brackets_may_have_lines_of_their_own(tmp_path):
    np.testing.assert_array_equal(read_indices(text(tmp_path, "[\n0,\n2\n]\n")), [0, 2])


def test_numbers_are_found_in_any_order_and_nothing_in_an_empty_table():
    known, wanted = np.array([7, 3, 3, 9], dtype=np.uint64), np.array([3, 8, 9], dtype=np.uint64)
    assert rows_of_numbers(known, wanted).tolist() == [1, -1, 3]
    assert rows_of_numbers(known[:0], wanted).tolist() == [-1, -1, -1]
    assert rows_of_numbers(known, wanted[:0]).tolist() == []
