"""Labels of particles in files of any program: clusters, classes, published states.

A label is a whole number or a word. Files: pickles and ``.npy`` of one value per particle, text,
CSV and Parquet, STAR files (``rlnClassNumber``) and cryoSPARC's .cs files.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.arrays import read_array
from raydrgn.io.cells import to_numbers
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.passthrough import read_rows
from raydrgn.io.pickles import read_pickles
from raydrgn.io.star import read_star
from raydrgn.io.storage import Uri
from raydrgn.io.tables import NUMBER_COLUMNS, TEXT_SUFFIXES, original_numbers, read_table
from raydrgn.shapes import Float, Int

MOST_LABELS = 200
"""Different labels; a column of more holds values of something else."""

LABEL_COLUMNS = ("cluster", "class", "label", "labels", "state", "rlnClassNumber")
"""Names of the column of labels, the better one first; else the only column of no other use."""

CRYOSPARC_CLASSES = ("alignments3D/class", "alignments2D/class")
"""Fields of a .cs file; where it has both, which is wanted is not known."""

WITH_IMAGES = (".star", ".cs")
"""Files whose rows name the images, so that the order of the rows does not matter."""

TABLES = (*TEXT_SUFFIXES, ".parquet", *WITH_IMAGES)
"""Files that may have several columns."""

OTHER_COLUMNS = ("particle", "uid")
"""Columns of raydrgn's own tables that are neither."""

WANTED = "a label for each particle"


class Labels(NamedTuple):
    """The label of each particle of a file."""

    names: tuple[str, ...]
    """Different labels, numbers ascending and words in alphabetical order."""

    codes: Int[np.ndarray, " n"]
    """Position of each particle's label in ``names``."""

    numbers: Int[np.ndarray, " n"] | None = None
    """Number of each particle in the original set, where a table has a column of them."""

    column: str | None = None
    """Name of the column that they are from, in a table."""


def split_column(word: str) -> tuple[str, str | None]:
    """Return a place, and what stands after a colon: a column of a file, or an epoch.

    The name of a column may have colons and slashes itself, where a table stands before it.
    """
    for place in reversed([place for place, letter in enumerate(word) if letter == ":"]):
        head, tail = word[:place], word[place + 1 :]
        if tail and suffix_of(head) in TABLES and storage.exists(storage.absolute(head)):
            return head, tail
    head, colon, tail = word.rpartition(":")
    is_path = "/" in tail and suffix_of(head) != ".cs"  # fields of a .cs file have a slash
    if not colon or is_path or not head or storage.exists(storage.absolute(word)):
        return word, None
    return head, tail


def read_labels_file(uri: Uri, column: str | None = None) -> Labels:
    """Read the label of each particle; those of a table with their numbers may have none (null).

    Args:
        uri: A ``.pkl``, ``.npy``, ``.txt``, ``.csv``, ``.tsv``, ``.parquet``, ``.star`` or ``.cs``
            file.
        column: Name of the column of labels, in a table of several.

    Raises:
        InputError: If the file does not hold a label for each particle, with what was found.
    """
    suffix = suffix_of(uri)
    if suffix in TABLES:
        columns = _columns(uri)
        name = _label_column(columns, uri, column)
        numbers = original_numbers(columns, uri)
        where = f"{uri}, column {name}"
        if numbers is None:
            found = to_labels(columns[name], where)
            return found._replace(codes=found.codes[_order_of_rows(columns, uri)], column=name)
        has_label = np.array([value is not None for value in columns[name]], dtype=bool)
        found = to_labels(columns[name][has_label], where)
        return found._replace(numbers=numbers[has_label], column=name)
    if column is not None:
        raise InputError(f"{uri} has no columns, and so no column {column!r}.")
    if suffix == ".npy":
        return to_labels(read_array(uri, wanted=f"a NumPy array of {WANTED}"), uri)
    return to_labels(read_pickles(uri)[0], uri)


def to_labels(values: Any, where: str, *, most: int | None = MOST_LABELS) -> Labels:
    """Return values as labels.

    Args:
        values: Whole numbers or words, one per particle.
        where: Where they come from, for messages.
        most: Different ones that there may be; None of clusters that raydrgn has made.

    Raises:
        InputError: If they are something else, or too many different ones.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty((0, 0))
    if array.dtype == object and array.ndim == 1:
        kinds = {type(value) for value in array}
        if all(issubclass(kind, str | int | np.integer | type(None)) for kind in kinds):
            array = np.array(["" if value is None else str(value) for value in array])
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.ndim != 1 or array.dtype.kind not in "iufbU" or not array.size:
        raise InputError(
            f"{where} should hold {WANTED}, a whole number or a word; found "
            f"{type(values).__name__} of shape {array.shape} and type {array.dtype}."
        )
    is_bad = np.zeros(len(array), bool)
    if array.dtype.kind == "f":
        is_bad = ~(np.isfinite(array) & (np.floor(array) == array))
    elif array.dtype.kind == "U":
        is_bad = np.char.str_len(array) == 0
    bad = np.flatnonzero(is_bad)
    if bad.size:
        found = f"{array[bad[0]]:g}" if array.dtype.kind == "f" else "empty"
        raise InputError(
            f"{where} should hold {WANTED}, a whole number or a word; row {bad[0]} (from 0) is "
            f"{found} ({bad.size:,} such rows)."
        )
    if array.dtype.kind == "f":
        array = array.astype(np.int64)
    different, codes = np.unique(array, return_inverse=True)
    if most is not None and len(different) > most:
        raise InputError(
            f"{where} has {len(different):,} different values; labels of particles have "
            f"{most} at most. Choose another column or file; of a selection that `raydrgn "
            "filter` has made, the folder."
        )
    words: list[str] = different.astype(str).tolist()
    order = np.array(sorted(range(len(words)), key=lambda k: _sort_key(words[k])))
    place = np.argsort(order)
    return Labels(tuple(words[k] for k in order), place[codes.reshape(-1)])


def _sort_key(word: str) -> tuple[Any, ...]:
    """Return what sorts ``C2`` before ``C10``, and numbers by size."""
    parts = re.split(r"(-?\d+)", word)
    return tuple((0, int(p), "") if re.fullmatch(r"-?\d+", p) else (1, 0, p) for p in parts if p)


def _columns(uri: Uri) -> dict[str, np.ndarray]:
    """Return the columns of a table of any kind."""
    readers = {".star": _star_columns, ".cs": _cryosparc_columns}
    return readers.get(suffix_of(uri), _table_columns)(uri)


def _table_columns(uri: Uri) -> dict[str, np.ndarray]:
    table = read_table(uri, wanted=f"a table with {WANTED}").without_row_numbers()
    names = table.names or tuple(f"{i}" for i in range(len(table.columns)))
    return dict(zip(names, table.columns, strict=True))


def _star_columns(uri: Uri) -> dict[str, np.ndarray]:
    """Return the columns of the longest block, as RELION's particles are."""
    blocks = read_star(uri)
    if not blocks:
        raise InputError(f"{uri} has no data block.")
    block = max(blocks, key=lambda found: ("rlnImageName" in found, len(found)))
    columns = {}
    for name in block.columns:
        cells = block.text(name)
        if len(cells) == len(block):
            columns[name] = _parsed(cells)
    return columns


def _cryosparc_columns(uri: Uri) -> dict[str, np.ndarray]:
    """Return the fields that have one value in each row."""
    rows = read_rows(uri)
    columns = {name: rows[name] for name in rows.dtype.names or () if rows[name].ndim == 1}
    return {
        name: np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
        for name, values in columns.items()
    }


def _parsed(cells: list[str]) -> np.ndarray:
    try:
        return to_numbers(cells)
    except ValueError:
        return np.array(cells)


def _order_of_rows(columns: Mapping[str, np.ndarray], uri: Uri) -> Int[np.ndarray, " n"]:
    """Return the order of the rows by their column of particles from 0, where a table has one.

    Raises:
        InputError: If that column has other numbers, so that rows may be of other particles.
    """
    count = len(next(iter(columns.values())))
    name = next((name for name in columns if name.lower() == "particle"), None)
    if name is None or columns[name].dtype.kind not in "iuf":
        return np.arange(count)
    rows = columns[name]
    if not np.array_equal(np.sort(rows), np.arange(count)):
        raise InputError(
            f"{uri}: the column {name} has numbers from {rows.min():g} to {rows.max():g}; it "
            f"should have each from 0 to {count - 1:,} once. Call it original if these are numbers "
            "in the original set, which count from 0, too, or leave it out if the rows are in the "
            "order of the particles."
        )
    return np.argsort(rows)


def _label_column(columns: Mapping[str, np.ndarray], uri: Uri, wanted: str | None) -> str:
    """Return the column of labels.

    Raises:
        InputError: If it is not there, or not known.
    """
    if wanted is not None:
        if wanted not in columns:
            raise InputError(f"{uri} has no column {wanted!r}; there are {', '.join(columns)}.")
        return wanted
    named = [name for known in LABEL_COLUMNS for name in columns if name.lower() == known.lower()]
    classes = [name for name in CRYOSPARC_CLASSES if name in columns]
    if len(classes) == 1:
        named += classes
    others = [n for n in columns if n.lower() not in (*NUMBER_COLUMNS, *OTHER_COLUMNS)]
    if not named and len(others) != 1:
        raise InputError(
            f"{uri} has the columns {', '.join(columns)}; which of them holds the labels is not "
            f"known. Name it as {uri}:COLUMN."
        )
    return named[0] if named else others[0]


class Values(NamedTuple):
    """A number for each particle of a file."""

    values: Float[np.ndarray, " n"]
    numbers: Int[np.ndarray, " n"] | None = None
    """Number of each particle in the original set, where a table has a column of them."""

    column: str | None = None
    """Name of the column that they are from, in a table."""


def read_values_file(uri: Uri, column: str | None = None) -> Values:
    """Read a number for each particle, from the files of ``read_labels_file``; NaN is unknown.

    Raises:
        InputError: If the file holds no number for each particle, with what was found.
    """
    suffix = suffix_of(uri)
    numbers = name = None
    found: Any
    if suffix in TABLES:
        columns = _columns(uri)
        name = _label_column(columns, uri, column)
        found = columns[name]
        numbers = original_numbers(columns, uri)
        if numbers is None:
            found = found[_order_of_rows(columns, uri)]
    elif column is not None:
        raise InputError(f"{uri} has no columns, and so no column {column!r}.")
    elif suffix == ".npy":
        found = read_array(uri, wanted="a NumPy array of a number for each particle")
    else:
        found = read_pickles(uri)[0]
    try:
        array = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        words = np.asarray(found, dtype=object)
        if words.ndim == 1 and words.size:  # of words, all rows need one
            to_labels(words, str(uri))
        array = np.empty((0, 0))
    if array.ndim != 1 or not array.size:
        raise InputError(
            f"{uri} should hold a number for each particle; found {type(found).__name__} of shape "
            f"{np.shape(array)}."
        )
    return Values(array, numbers, name)
