"""STAR files: blocks of loops and of single values, every value kept as the text it is.

The syntax is that of CIF, so gemmi reads it: quotes, any white space, comments, and errors with
their line. Tables of millions of rows take seconds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gemmi import cif

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

PLACE = re.compile(r"^(?:data|string):(\d+)(?::\d+\(\d+\):)? ")
"""How gemmi's messages begin: line, column and byte."""

NEEDS_QUOTES = re.compile(r"""\s|^[_#$'";\[\]]|^(?:data|save)_|^(?:loop|global|stop)_$""", re.I)
"""Spaces, and beginnings that mean something in a STAR file."""


class StarBlock:
    """One ``data_`` block; columns by name, with or without the leading underscore."""

    def __init__(self, block: cif.Block, uri: Uri) -> None:
        self._block = block
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

    def text(self, name: str) -> list[str]:
        """Return a column as text, quotes removed."""
        raw = list(self._block.find_values(f"_{name}"))
        return [cif.as_string(value) if value[:1] in "'\";" else value for value in raw]

    def numbers(self, name: str) -> Float[np.ndarray, " n"]:
        """Return a column as numbers.

        Raises:
            InputError: If a value is not a number, naming its row.
        """
        values = self.text(name)
        try:
            return np.fromiter(map(float, values), dtype=np.float64, count=len(values))
        except ValueError:
            row, value = next((i, v) for i, v in enumerate(values) if not _is_number(v))
            raise InputError(
                f"{self.uri}, block data_{self.name}, row {row}: _{name} is {value!r}, not a "
                "number."
            ) from None


def read_star(uri: Uri) -> list[StarBlock]:
    """Read all blocks of a STAR file.

    Raises:
        InputError: If the syntax is broken: a row short of values, a column twice; with the line.
    """
    content = storage.read_bytes(uri)
    try:
        document = cif.read_string(content)
    except (ValueError, RuntimeError) as error:
        said = PLACE.sub(r"line \1: ", str(error))
        raise InputError(f"{uri} is not a STAR file: {said}.") from error
    return [StarBlock(block, uri) for block in document]


def write_star(uri: Uri, blocks: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Write blocks of loops: block name to columns, column name to values as text."""
    lines = []
    for name, columns in blocks.items():
        lines += [f"data_{name}", "", "loop_"]
        lines += [f"_{column} #{i}" for i, column in enumerate(columns, start=1)]
        values = [[quoted(value) for value in column] for column in columns.values()]
        lines += map(" ".join, zip(*values, strict=True))
        lines += ["", ""]
    storage.write_bytes(uri, ("# version 30001\n\n" + "\n".join(lines)).encode())


def quoted(value: str) -> str:
    """Return a value as it stands in a STAR file: in quotes where it would be read otherwise."""
    if value and not NEEDS_QUOTES.search(value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def line_of(uri: Uri, needle: str) -> int | None:
    """Return the number of the first line of a text file that contains ``needle``, from 1."""
    lines: Iterable[bytes] = storage.read_bytes(uri).splitlines()
    return next((i for i, line in enumerate(lines, start=1) if needle.encode() in line), None)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
