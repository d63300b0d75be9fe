"""STAR files: blocks of loops and of single values, every value kept as the text it is.

The syntax is that of CIF, so gemmi reads it: quotes, any white space, comments, and errors with
their line. One rule is stricter than CIF's: a row is one line. Tables of millions of rows take
seconds.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gemmi import cif

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.cells import is_number, to_numbers
from raydrgn.io.filetypes import decode
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

PLACE = re.compile(r"^(?:data|string):(\d+)(?::\d+\(\d+\):)? ")
"""How gemmi's messages begin: line, column and byte."""

NEEDS_QUOTES = re.compile(r"""\s|^[_#$'";\[\]]|^(?:data|save)_|^(?:loop|global|stop)_$""", re.I)
"""Spaces, and beginnings that mean something in a STAR file."""


KEPT_BY_CIF = ("data_", "save_", "_", "$")
"""What no value of CIF begins with but in quotes, such as the micrograph ``data_1.mrc``."""

MIN_ROW = 3
"""Values of a row that may begin like the name of a block or column."""

TOKEN = re.compile(r"""'[^\n]*?'(?=\s|$)|"[^\n]*?"(?=\s|$)|\S+""")
TRUTH = {"true": 1.0, "false": 0.0}
BLANK_OR_COMMENT = ("", "#")
WANTED = "a STAR file"


class StarBlock:
    """One ``data_`` block; columns by name, with or without the leading underscore."""

    def __init__(self, block: cif.Block, uri: Uri, row_lines: Sequence[int] = ()) -> None:
        self._block = block
        self._row_lines = row_lines
        self.uri = uri
        self.name = block.name.strip()

    def __len__(self) -> int:
        """Rows of the block's loop; 1 if it has single values only."""
        loops: list[Any] = [item.loop for item in self._block]  # None for a single value
        return max((loop.length() for loop in loops if loop), default=1)

    @property
    def columns(self) -> list[str]:
        """Names of all values, without the underscore, in order."""
        names: list[str] = []
        items: Any = self._block
        for item in items:
            if item.loop is not None:
                names.extend(tag[1:] for tag in item.loop.tags)
            elif item.pair is not None:
                names.append(item.pair[0][1:])
        return names

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def place(self, row: int) -> str:
        """Return where a row stands in the file, as an editor shows it: ``line 68``."""
        if row < len(self._row_lines):
            return f"line {self._row_lines[row]}"
        return f"block data_{self.name}"

    def text(self, name: str) -> list[str]:
        """Return a column as text, quotes removed."""
        raw = list(self._block.find_values(f"_{name}"))
        return [cif.as_string(value) if value[:1] in "'\";" else value for value in raw]

    def numbers(self, name: str) -> Float[np.ndarray, " n"]:
        """Return a column as numbers.

        Raises:
            InputError: If a value is not a number, naming its line.
        """
        values = self.text(name)
        try:
            return to_numbers(values)
        except ValueError:
            row, value = next((i, v) for i, v in enumerate(values) if not is_number(v))
            raise InputError(
                f"{self.uri}, {self.place(row)}: _{name} is {value!r}, not a number."
            ) from None

    def flags(self, name: str) -> Float[np.ndarray, " n"]:
        """Return a column of zeros and ones, or of true and false, as data frames write them.

        Raises:
            InputError: If a value is neither, naming its line.
        """
        values = [value.lower() for value in self.text(name)]
        if set(values) <= TRUTH.keys():
            return np.array([TRUTH[value] for value in values])
        return self.numbers(name)


def read_star(uri: Uri) -> list[StarBlock]:
    """Read all blocks of a STAR file.

    Raises:
        InputError: If the syntax is broken: a line with a value too few or too many, a column
            twice; with the line.
    """
    text = decode(storage.read_bytes(uri), uri, wanted=WANTED)
    lines = text.split("\n")
    row_lines = check_rows(lines, uri)
    numbers = list(itertools.chain.from_iterable(row_lines.values()))
    if not text.isascii() or _may_need_quotes(text, (lines[n - 1] for n in numbers)):
        for number in numbers:
            lines[number - 1] = _with_quotes(lines[number - 1])
        text = "\n".join(lines)
    try:
        document = cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        reason = PLACE.sub(r"line \1: ", str(error)).rstrip(".")
        raise InputError(f"{uri} is not {WANTED}: {reason}.") from error
    return [StarBlock(block, uri, row_lines.get(block.name.strip(), ())) for block in document]


def check_rows(lines: Sequence[str], uri: Uri) -> dict[str, list[int]]:
    """Check that each row of each loop is one line; return the lines of the rows by block.

    The syntax alone would let a row go over several lines, and so join the rest of a damaged row
    with the beginning of the next. No program of the field writes such rows.

    Raises:
        InputError: If a line has another number of values than its loop has columns, or a block,
            or a column of a block, is there twice.
    """
    found: dict[str, list[int]] = {}
    block, width, rows = "", 0, None
    blocks: set[str] = set()
    columns: set[str] = set()
    for number, line in enumerate(lines, start=1):
        start = line.lstrip()
        if start[:1] in BLANK_OR_COMMENT:
            continue
        word = start.split()[0]
        if rows is not None and width >= MIN_ROW and len(tokens(line)) == width:
            rows.append(number)
        elif start[:5].lower() == "data_":
            block, width, rows, columns = word[5:], 0, None, set()
            _refuse_second(word, blocks, f"{uri}, line {number}", "block")
        elif word.lower() == "loop_":
            width, rows = 0, found.setdefault(block, [])
        elif start[0] == "_":
            _refuse_second(word, columns, f"{uri}, line {number}", "column")
            if rows is not None and len(rows) and width:
                width, rows = 0, None  # a single value after the loop
            width += 1
        elif rows is not None:
            values = len(tokens(line))
            if values != width:
                raise InputError(
                    f"{uri}, line {number}: {values} {'value' if values == 1 else 'values'}, but "
                    f"a row of block data_{block} has {width}. Each row is one line; the file is "
                    "damaged there."
                )
            rows.append(number)
    return found


def _refuse_second(name: str, known: set[str], place: str, what: str) -> None:
    """Refuse a name that is known already, capitals aside; else add it to the known ones."""
    if name.lower() in known:
        raise InputError(
            f"{place}: {what} {name} is there a second time, and which of them is meant is not "
            "known. Remove or rename one."
        )
    known.add(name.lower())


def _may_need_quotes(text: str, rows: Iterable[str]) -> bool:
    """Return whether some value of the rows may begin with what CIF keeps for itself."""
    folded = text.lower()
    if any(space + start in folded for space in " \t" for start in KEPT_BY_CIF):
        return True
    return any(row.lstrip().lower().startswith(KEPT_BY_CIF) for row in rows)


def _with_quotes(row: str) -> str:
    """Return a row with quotes around the values that CIF would refuse, such as ``grille_é.mrc``.

    CIF wants quotes around letters beyond ASCII, and around what begins like the name of a block or
    column; the programs of the field write none.
    """
    return " ".join(map(_with_quotes_if_needed, tokens(row)))


def _with_quotes_if_needed(value: str) -> str:
    if value[0] in "'\"":
        return value
    return quoted(value) if value.isascii() else f'"{value}"'


def tokens(row: str) -> list[str]:
    """Return the values of a line, quotes kept, comments left out."""
    if "'" not in row and '"' not in row and "#" not in row:
        return row.split()
    return list(itertools.takewhile(lambda cell: not cell.startswith("#"), TOKEN.findall(row)))


def write_star(
    uri: Uri,
    blocks: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    check: Callable[[Uri], None] | None = None,
) -> None:
    """Write blocks of loops: block name to columns, column name to values as text.

    Args:
        uri: File to write.
        blocks: What to write.
        check: As in ``storage.atomic_write``.
    """
    lines = []
    for name, columns in blocks.items():
        lines += [f"data_{name}", "", "loop_"]
        lines += [f"_{column} #{i}" for i, column in enumerate(columns, start=1)]
        values = [_written(column) for column in columns.values()]
        lines += map(" ".join, zip(*values, strict=True))
        lines += ["", ""]
    storage.write_bytes(uri, ("# version 30001\n\n" + "\n".join(lines)).encode(), check=check)


def _written(column: Sequence[str]) -> Sequence[str]:
    """Return a column as it stands in a STAR file; most have no value that needs quotes."""
    if all(column) and not any(map(NEEDS_QUOTES.search, column)):
        return column
    return [quoted(value) for value in column]


def quoted(value: str) -> str:
    """Return a value as it stands in a STAR file: in quotes where it would be read otherwise."""
    if value and not NEEDS_QUOTES.search(value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def line_of(uri: Uri, needle: str) -> int | None:
    """Return the number of the first line of a text file that contains ``needle``, from 1."""
    lines = decode(storage.read_bytes(uri), uri, wanted=WANTED).split("\n")
    return next((i for i, line in enumerate(lines, start=1) if needle in line), None)


def row_place(uri: Uri, block: str, row: int) -> str:
    """Return where a row of a block stands in its file, as ``StarBlock.place`` does."""
    lines = decode(storage.read_bytes(uri), uri, wanted=WANTED).split("\n")
    rows = check_rows(lines, uri).get(block, [])
    return f"line {rows[row]}" if row < len(rows) else f"row {row} (from 0)"
