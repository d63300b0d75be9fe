"""Plain tables of other programs: text, CSV and Parquet, as named columns.

What notebooks, spreadsheets and pandas write: commas, semicolons, tabs or spaces, with or without
names in the first line, with or without pandas' own column of row numbers.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.cells import is_number, to_numbers
from raydrgn.io.filetypes import PARQUET, check_type, decode, suffix_of
from raydrgn.io.storage import Uri
from raydrgn.shapes import Int

TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".dat")
CSV_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ("\t", ";", ",")
COMMENT = re.compile(r"(?:^|\s)#.*")

OPENING, BRACKETS = ("[", "("), ("[", "(", "]", ")")
AROUND_ROWS = "[](), "
"""What stands around the rows of lists as Python prints them, over one or several lines."""

TRUTH = {"true": True, "false": False}
NUMBER_COLUMNS = ("original", "index", "number")
"""Names of the column of numbers in the original set, the better one first."""

SEVERAL_CELLS = re.compile(r"[\t;,]|\S\s+\S")

ROW_NUMBERS = re.compile(r"^(Unnamed: 0|__index_level_\d+__|)$")
"""Names under which pandas writes the numbers of its rows."""


@dataclass(frozen=True, slots=True)
class PlainTable:
    """Columns of one length: numbers, truth values or text."""

    names: tuple[str, ...] | None
    """Names of the columns, or None where the file has none."""

    columns: list[np.ndarray]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (len(self.columns[0]) if self.columns else 0, len(self.columns))

    def without_row_numbers(self) -> "PlainTable":
        """Return the table without the column that pandas adds."""
        if self.names is None or len(self.names) < 2:
            return self
        kept = [i for i, name in enumerate(self.names) if not ROW_NUMBERS.match(name)]
        return PlainTable(tuple(self.names[i] for i in kept), [self.columns[i] for i in kept])


def read_table(uri: Uri, *, wanted: str) -> PlainTable:
    """Read a text, CSV or Parquet file.

    Args:
        uri: The file; its suffix decides which of these it is, or the content of a pipe.
        wanted: What is expected, with its article, for messages.

    Raises:
        InputError: If it is none, or its rows differ in length.
    """
    content = storage.read_bytes(uri)
    if suffix_of(uri) == ".parquet":
        found = read_parquet(content, uri)
        if not found.column_names:
            raise InputError(f"{uri} has no columns; expected {wanted}.")
        return _of_arrow(found)
    return _of_text(decode(content, uri, wanted=wanted), uri)


def read_csv_rows(uri: Uri, *, wanted: str) -> list[list[str]]:
    """Return the cells of each row of a CSV file as they are; an empty line is an empty row.

    Args:
        uri: The file.
        wanted: What is expected, with its article, for messages.

    Raises:
        InputError: If it is no text, or no CSV file.
    """
    text = decode(storage.read_bytes(uri), uri, wanted=wanted)
    try:
        return list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise InputError(f"{uri} is not {wanted}: {error}.") from error


def read_parquet(content: bytes, uri: Uri) -> pa.Table:
    """Read a Parquet file that is in memory.

    Raises:
        InputError: If it is no Parquet file, or a damaged one.
    """
    check_type(content, uri, wanted="a Parquet table", accepted=PARQUET)
    try:
        # One thread: after an error, others would go on with memory that is not theirs any more.
        source = pq.ParquetFile(
            pa.BufferReader(content), pre_buffer=False, page_checksum_verification=True
        )
        table = source.read(use_threads=False)
        table.validate(full=True)  # damaged lists and dictionaries would be followed anywhere
        return table
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(
            f"{uri} is not a whole Parquet file ({reason}); copy or write it again."
        ) from error


def _of_arrow(table: pa.Table) -> PlainTable:
    columns: list[np.ndarray] = []
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns.append(np.asarray(column.to_numpy()))
    return PlainTable(tuple(table.column_names), columns)


def _of_text(text: str, uri: Uri) -> PlainTable:
    is_list = text.strip()[:1] in OPENING and text.strip()[-1:] in BRACKETS
    raw = list(enumerate(text.split("\n"), start=1))
    lines = [(i, _without_comment(line, uri)) for i, line in raw]
    if is_list:
        lines = [(i, line.strip().strip(AROUND_ROWS)) for i, line in lines]
    lines = [(i, line) for i, line in lines if line.strip()]
    if (
        suffix_of(uri) == ".csv"
        and lines
        and not any(SEVERAL_CELLS.search(line) for _, line in lines)
    ):
        first, last = lines[0][0], lines[-1][0]
        blank = [(i, "") for i, line in raw if first < i < last and not line.strip()]
        lines = sorted(lines + blank)  # a spreadsheet writes an empty cell of one column so
    if not lines:
        return PlainTable(None, [np.empty(0)])
    head = "\n".join(line.strip() for _, line in lines[:2])  # the first name may be empty
    delimiter = next((mark for mark in DELIMITERS if mark in head), None)
    rows = _without_ends([_cells(line, delimiter) for _, line in lines])
    names = None
    if _is_header(rows):
        _check_name(rows[0], uri, lines[0][0])
        names = tuple(rows.pop(0))
        lines = lines[1:]
        if not rows:
            raise InputError(f"{uri} has no rows below its first line, {'; '.join(names)!r}.")
    width = len(names) if names else len(rows[0])
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise InputError(
                f"{uri}, line {number}: {len(row):,} values, where the lines above have {width}."
            )
    return PlainTable(names, [_values(column) for column in zip(*rows, strict=True)])


def _without_comment(line: str, uri: Uri) -> str:
    """Return a line without its comment; a # within a word, or in a cell of CSV, begins none."""
    has_cells = suffix_of(uri) in CSV_SUFFIXES and any(mark in line for mark in DELIMITERS)
    if has_cells and not line.lstrip().startswith("#"):
        return line
    return COMMENT.sub("", line)


def _cells(line: str, delimiter: str | None) -> list[str]:
    """Split a line; a delimiter within double quotes belongs to its cell."""
    line = line.strip(" " if delimiter == "\t" else None)
    if delimiter is None:
        return [cell.strip("'\"") for cell in line.split()] or [""]
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    return [cell.strip().strip("'\"") for cell in cells]


def _without_ends(rows: list[list[str]]) -> list[list[str]]:
    """Return rows without the empty cells that delimiters at the ends of lines make.

    Where other rows have a value in its place, an empty cell stands for one that is missing.
    """
    if all(len(row) > 1 and not row[0] for row in rows):
        rows = [row[1:] for row in rows]
    width = max(len(row) - (not row[-1]) for row in rows)
    return [row[:-1] if len(row) > max(width, 1) and not row[-1] else row for row in rows]


def _is_header(rows: list[list[str]]) -> bool:
    first, *others = rows
    if any(not _is_value(cell) for cell in first) or (len(first) > 1 and not first[0]):
        return True
    # pandas calls columns without names 0, 1, 2, …
    is_numbered = first == [str(i) for i in range(len(first))]
    return is_numbered and any(not cell.isdigit() for row in others for cell in row)


def _check_name(cells: list[str], uri: Uri, line: int) -> None:
    """Refuse a first line that begins as a number does, and so is no name of a column.

    Raises:
        InputError: Naming the line.
    """
    if len(cells) == 1 and cells[0][:1] in "+-.0123456789" and not _is_value(cells[0]):
        raise InputError(
            f"{uri}, line {line}: {cells[0]!r} is neither a number nor the name of a column."
        )


def _is_value(cell: str) -> bool:
    return cell.lower() in TRUTH or is_number(cell)


def _values(cells: tuple[str, ...]) -> np.ndarray:
    """Return cells as truth values or numbers where all are, and else as text.

    Empty ones are NaN among numbers, as pandas writes it.
    """
    lowered = [cell.lower() for cell in cells]
    if cells and all(cell in TRUTH for cell in lowered):
        return np.array([TRUTH[cell] for cell in lowered])
    try:
        return to_numbers([cell or "nan" for cell in cells])
    except ValueError:
        return np.array(cells)


def original_numbers(
    columns: Mapping[str, np.ndarray], uri: Uri, *, unique: bool = False
) -> Int[np.ndarray, " n"] | None:
    """Return the column of numbers in the original set, if a table has one.

    Args:
        columns: Of the table, by their names, in which capitals do not count.
        uri: The table, for messages.
        unique: Whether each number may stand there once only.

    Raises:
        InputError: If it holds anything else than a whole number for each particle.
    """
    names = {name.lower(): name for name in columns}
    name = next((names[known] for known in NUMBER_COLUMNS if known in names), None)
    if name is None:
        return None
    values = columns[name]
    if values.dtype.kind in "iuf":
        is_bad = ~((values >= 0) & (values % 1 == 0))
    else:
        is_bad = np.array([not str(value).isdecimal() for value in values])
        is_bad |= not is_bad.any()  # truth values, or numbers as text
    if unique and not is_bad.any():
        is_bad[:] = True
        is_bad[np.unique(values, return_index=True)[1]] = False
    bad = np.flatnonzero(is_bad)
    if bad.size:
        first = values[bad[0]]
        found = f"{first:g}" if values.dtype.kind in "iuf" else str(first) or "empty"
        raise InputError(
            f"{uri}: column {name} should hold the number of each particle in the original set, "
            f"from 0{', each once' if unique else ''}; row {bad[0]} (from 0) is {found} "
            f"({bad.size:,} such rows). Rename the column if it holds something else."
        )
    return values.astype(np.int64)
