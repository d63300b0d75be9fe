"""Plain tables: names and words with brackets, commas and number signs stay as they are."""

import numpy as np
import pytest

from raydrgn.io.labels import read_labels_file, read_values_file
from raydrgn.io.latents import read_latents_file
from raydrgn.io.tables import read_table


def written(folder, name, text):
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (("open (1)", "open (2)"), ("open (1)", "open (2)")),
        (("A#1", "A#2"), ("A#1", "A#2")),
        (("class #1", "class #2"), ("class #1", "class #2")),
        (('"a, b"', '"a, c"'), ("a, b", "a, c")),
    ],
)
def test_labels_of_a_table_are_whole(tmp_path, cells, words):
    first, second = cells
    place = written(tmp_path, "t.csv", f"# mine\noriginal,state\n0,{first}\n1,{second}\n")
    found = read_labels_file(place)
    assert (found.names, found.codes.tolist()) == (words, [0, 1])


def test_a_column_is_found_by_a_name_that_ends_in_a_bracket(tmp_path):
    place = written(tmp_path, "t.csv", "original,mass (kDa)\n0,1.5\n1,2.5\n")
    np.testing.assert_array_equal(read_values_file(place, "mass (kDa)").values, [1.5, 2.5])


@pytest.mark.parametrize(
    "text",
    [
        "[[0.1 0.2]\n [0.3 0.4]]\n",
        "[(0.1, 0.2),\n (0.3, 0.4)]\n",
        "[[0.1, 0.2],\n [0.3, 0.4]]",
        "[0.1 0.2]\n[0.3 0.4]\n",
        "0.1 0.2 # the first\n0.3 0.4\n",
    ],
)
def test_no_row_of_a_printed_list_is_lost(tmp_path, text):
    found = read_latents_file(written(tmp_path, "z.txt", text))
    np.testing.assert_allclose(found.values, [[0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_a_comment_ends_the_numbers_of_a_line(tmp_path):
    place = written(tmp_path, "t.txt", "17,42 # the best\n3,5 #others\n")
    found = read_table(place, wanted="numbers")
    np.testing.assert_array_equal(np.stack(found.columns, axis=-1), [[17, 42], [3, 5]])
