"""Columns of a table of labels, by any name that they have."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydrgn.errors import InputError
from raydrgn.io.labels import read_labels_file, split_column


@pytest.mark.parametrize("name", ["state", "1: run/filter.c", "alignments3D/class", "a:b", "2"])
def test_a_column_is_found_by_any_name(tmp_path, name):
    path = str(tmp_path / "labels.parquet")
    pq.write_table(pa.table({"original": [0, 1, 2], "other": [5, 6, 7], name: [0, 1, 1]}), path)
    assert split_column(f"{path}:{name}") == (path, name)
    assert read_labels_file(*split_column(f"{path}:{name}")).codes.tolist() == [0, 1, 1]


def test_what_is_no_table_has_an_epoch_after_its_last_colon(tmp_path):
    assert split_column("folder/run:10") == ("folder/run", "10")
    assert split_column("folder/run") == ("folder/run", None)
    assert split_column("gone.csv:state") == ("gone.csv", "state")
    path = tmp_path / "x.csv:y.csv"
    path.write_text("0\n1\n")
    assert split_column(str(path)) == (str(path), None)


def test_particles_of_a_table_without_a_label_are_left_out(tmp_path):
    path = str(tmp_path / "labels.parquet")
    columns = {"original": [7, 5, 3, 1], "label": ["a", None, "b", None]}
    pq.write_table(pa.table(columns), path)
    found = read_labels_file(path)
    np.testing.assert_array_equal(found.numbers, [7, 3])
    assert (found.names, found.codes.tolist()) == (("a", "b"), [0, 1])
    pq.write_table(pa.table({"label": columns["label"]}), path)  # whose these are, nobody knows
    with pytest.raises(InputError, match=r"row 1 .* is empty"):
        read_labels_file(path)
