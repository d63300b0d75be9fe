"""Numbers of particles, and labels of clusters, in the shapes in which people save them.

A selection is a list of numbers from 0, in an order that is kept, or a mask with a value for each
particle. What could mean either, or neither, is refused with what was found.
"""

import logging
from collections.abc import Sequence, Set
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.arrays import read_array
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.pickles import read_pickles, write_pickles
from raydrgn.io.storage import Uri
from raydrgn.io.tables import TEXT_SUFFIXES, PlainTable, read_table
from raydrgn.shapes import Int

log = logging.getLogger(__name__)

MAX_INDEX = 2**53  # whole numbers up to here are exact as floats too
PARTICLE_NUMBERS = "particle numbers from 0"
CLUSTER_NUMBERS = "cluster numbers (−1: no cluster)"
INDEX_COLUMNS = ("index", "number", "particle", "ind")
"""Names of the column that is taken from a table of several."""

HOW_TO_WRITE = (
    "Write the numbers with pickle.dump(np.array(numbers), file), np.save, or as text with one "
    "number per line"
)


def read_indices(
    uri: Uri, *, count: int | None = None, particles: Uri | None = None
) -> Int[np.ndarray, " k"]:
    """Read numbers of particles from 0: a pickle, ``.npy``, text, CSV or Parquet.

    The order is kept, repeated numbers too; a set is read ascending. Of a mask, the positions of
    the true values. Zeros and ones count as a mask where there is one for each particle.

    Args:
        uri: The file.
        count: Number of particles of which these are numbers, where it is known.
        particles: The file of these particles, for messages.

    Raises:
        InputError: If these are not whole numbers from 0, or one is not below ``count``.
    """
    found = _read(uri, PARTICLE_NUMBERS)
    if found.dtype == bool or _looks_like_mask(found):
        return _read_mask(found, uri, count)
    numbers = _whole(found, uri, least=0, what=PARTICLE_NUMBERS)
    if count is not None and numbers.size and numbers.max() >= count:
        where = particles or "the data set"
        if numbers.min() > 0 and numbers.max() == count:
            raise InputError(
                f"{uri} contains particle {count}, but {where} has {count:,} particles, with "
                f"numbers from 0 to {count - 1}. There is no 0 in the list: if it counts from 1, "
                "subtract 1 from each number."
            )
        raise InputError(
            f"{uri} contains particle {numbers.max()}, but {where} has {count} (numbers count "
            "from 0). The indices belong to another data set."
        )
    return numbers


def read_original_numbers(uri: Uri, numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Read a selection among particles that have their numbers in the original set with them.

    Args:
        uri: The file: numbers in the original set, as of ``read_indices``, or a mask with a value
            for each of the particles.
        numbers: Number of each particle in the original set.

    Raises:
        InputError: If these are not whole numbers from 0, or it is a mask of other particles.
    """
    found = _read(uri, PARTICLE_NUMBERS)
    if found.dtype == bool or _looks_like_mask(found):
        return numbers[_read_mask(found, uri, len(numbers))]
    return _whole(found, uri, least=0, what=PARTICLE_NUMBERS)


def _looks_like_mask(found: np.ndarray) -> bool:
    """Return whether there are zeros and ones only, more than a list of different numbers has."""
    return bool(found.dtype.kind in "iuf" and found.size > 2 and np.isin(found, (0, 1)).all())


def _read_mask(found: np.ndarray, uri: Uri, count: int | None) -> Int[np.ndarray, " k"]:
    rows = np.flatnonzero(found)
    if count is not None and len(found) != count:
        raise InputError(
            f"{uri} is a mask of {len(found):,} values, but there are {count:,} particles; a mask "
            "has one value for each. For a mask of the original set, give its numbers instead: "
            "np.flatnonzero(mask)."
        )
    if found.dtype != bool:
        if count is None:
            raise InputError(
                f"{uri} holds {len(found):,} values, all 0 or 1: numbers of particles, or a mask? "
                "Save a mask as truth values (mask.astype(bool)), or its numbers "
                "(np.flatnonzero(mask))."
            )
        log.warning(
            "%s has a 0 or 1 for each of the %s particles: it is read as a mask that selects %s",
            *(uri, f"{count:,}", f"{len(rows):,}"),
        )
    return rows


def read_labels(uri: Uri) -> Int[np.ndarray, " n"]:
    """Read the cluster of each particle, from files as of ``read_indices``; −1 belongs to none.

    Raises:
        InputError: If these are not whole numbers from −1.
    """
    return _whole(_read(uri, CLUSTER_NUMBERS), uri, least=-1, what=CLUSTER_NUMBERS)


def _read(uri: Uri, what: str) -> np.ndarray:
    """Return the values of a file as one row of numbers or truth values."""
    suffix = suffix_of(uri)
    if suffix in (".star", ".cs"):
        raise InputError(
            f"{uri} is a particle file, not a list of numbers. Make one with `raydrgn export "
            f"indices {uri} --of ORIGINAL{suffix} -o numbers.pkl`."
        )
    found: Any
    if suffix == ".npy":
        found = read_array(uri, wanted=f"a NumPy array of {what}")
    elif suffix in (*TEXT_SUFFIXES, ".parquet"):
        found = _column(read_table(uri, wanted=what), uri, what)
    else:
        found = read_pickles(uri)[0]
    array = _flat(found)
    if array is None:
        raise InputError(f"{uri} does not contain {what}, but {_describe(found)}. {HOW_TO_WRITE}.")
    return array


def _column(table: PlainTable, uri: Uri, what: str) -> np.ndarray:
    """Return the numbers of a table: its only column, its only row, or the column of numbers."""
    table = table.without_row_numbers()
    rows, width = table.shape
    if width == 1 and rows > 1 and table.names is None and uri.lower().endswith(".csv"):
        _check_first(table.columns[0], uri)
    if width == 1:
        return table.columns[0]
    if table.names is None:
        if rows == 1:
            return np.concatenate(table.columns)
        raise InputError(
            f"{uri} does not contain {what}, but a table of {rows} rows and {width} columns. "
            f"{HOW_TO_WRITE}."
        )
    named = [i for i, name in enumerate(table.names) if name.lower() in INDEX_COLUMNS]
    if len(named) != 1:
        raise InputError(
            f"{uri} has the columns {', '.join(table.names)}; which of them holds {what} is not "
            f"known. Keep one, or call it {INDEX_COLUMNS[0]!r}."
        )
    masks = [
        name
        for name, column in zip(table.names, table.columns, strict=True)
        if column.dtype == bool
    ]
    if masks:
        raise InputError(
            f"{uri} has numbers in column {table.names[named[0]]} and truth values in {masks[0]}; "
            "which of the two selects is not known. Keep one of them."
        )
    log.info("%s: column %r is read", uri, table.names[named[0]])
    return table.columns[named[0]]


def _check_first(values: np.ndarray, uri: Uri) -> None:
    """Warn of a first line 0, with which pandas names a column without a name.

    Raises:
        InputError: If 0 is in the list again, and so the first line is such a name.
    """
    if values.dtype.kind != "f" or values[0] != 0 or np.isin(values, (0, 1)).all():
        return
    advice = "as pandas writes it, write the list with header=False or name the column"
    if (values[1:] == 0).any():
        raise InputError(
            f"{uri} has the number 0 in its first line, and again below. If the first is the name "
            f"of the column, {advice}."
        )
    log.warning(
        "%s: its first line, 0, is read as particle 0. If it is the name of the column, %s",
        *(uri, advice),
    )


def _flat(found: Any) -> np.ndarray | None:
    """Return what was saved as one row of numbers or truth values; None if it is not such."""
    if isinstance(found, tuple) and len(found) == 1:  # np.where
        [found] = found
    if isinstance(found, Set):
        if not all(isinstance(value, int | np.integer) for value in found):
            return None
        found = sorted(found)
    if isinstance(found, str | bytes | dict) or found is None:
        return None
    if isinstance(found, tuple | list) and _holds_arrays(found):  # np.where of a mask of two axes
        return None
    try:
        array = np.asarray(found)
    except ValueError:  # rows of different lengths
        return None
    if array.dtype == object and array.size:
        kinds = {type(value) for value in array.ravel()}
        if kinds <= {bool, np.bool_}:
            array = array.astype(bool)
        elif all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
            array = array.astype(np.int64) if _fits(array) else array
    if array.dtype.kind not in "iufb" or sum(size != 1 for size in array.shape) > 1:
        return None
    return array.reshape(-1)


def _holds_arrays(found: Sequence[Any]) -> bool:
    return len(found) > 1 and any(isinstance(item, np.ndarray) and item.ndim for item in found)


def _fits(array: np.ndarray) -> bool:
    return all(abs(int(value)) < MAX_INDEX for value in array.ravel())


def _describe(found: Any) -> str:
    """Return in words what was found instead of numbers."""
    if isinstance(found, np.ndarray):
        return f"an array of shape {found.shape} and type {found.dtype}"
    if isinstance(found, dict):
        return f"a dictionary with the keys {', '.join(map(repr, list(found)[:5]))}"
    if isinstance(found, str | bytes):
        return f"the text {found[:40]!r}"
    if isinstance(found, Sequence | Set):
        kind = f"a {type(found).__name__} of {len(found)}"
        items = list(found)[:5]
        if items and all(isinstance(item, np.ndarray) for item in items):
            return f"{kind} arrays of shape {', '.join(str(item.shape) for item in items)}"
        kinds = sorted({type(item).__name__ for item in items})
        return f"{kind} of type {', '.join(kinds)}" if kinds else kind
    return f"a value of type {type(found).__name__}"


def _whole(found: np.ndarray, uri: Uri, *, least: int, what: str) -> Int[np.ndarray, " k"]:
    limit, values = MAX_INDEX, found
    if found.dtype.kind == "f":
        limit = min(limit, 2 ** (np.finfo(found.dtype).nmant + 1))
        values = found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~((values >= least) & (values < limit))
        if found.dtype.kind == "f":
            bad |= np.floor(values) != values
    rows = np.flatnonzero(bad)
    if rows.size:
        value = values[rows[0]]
        reason = (
            f"; {found.dtype} holds no whole numbers from {limit} on without rounding, so save "
            "whole numbers as integers"
            if limit <= value < MAX_INDEX
            else ""
        )
        raise InputError(
            f"{uri} does not contain {what} only: value {rows[0] + 1} of {len(found)} is "
            f"{value:g} ({rows.size:,} such values){reason}."
        )
    return found.astype(np.int64)


def write_indices(uri: Uri, indices: Int[np.ndarray, " k"]) -> None:
    """Write particle numbers from 0 as ``.npy``, as text, one per line, or as cryoDRGN's pickle.

    Raises:
        ConfigError: If the file has another suffix than .npy, .txt or .pkl.
    """
    numbers = np.ascontiguousarray(indices, dtype=np.int64)
    suffix = PurePosixPath(uri).suffix
    if suffix == ".npy":
        with storage.atomic_write(uri) as stream:
            np.save(stream, numbers, allow_pickle=False)
    elif suffix == ".txt":
        storage.write_bytes(uri, "".join(f"{number}\n" for number in numbers).encode())
    elif suffix == ".pkl":
        write_pickles(uri, numbers)
    else:
        raise ConfigError(f"{uri} should end in .pkl, .npy or .txt.")


def rows_of_numbers(known: np.ndarray, wanted: np.ndarray) -> Int[np.ndarray, " n"]:
    """Return the row of each wanted number among known ones; −1 where it is not there.

    Args:
        known: Whole numbers (m); of equal ones, the first is found.
        wanted: Whole numbers (n). Both may be unsigned, as cryoSPARC's uids are.
    """
    if not len(known):
        return np.full(len(wanted), -1)
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
    rows: np.ndarray = order[place]
    return np.where(known[rows] == wanted, rows, -1)
