"""STAR files as lines of text, so that rows can be taken and given back exactly as they are.

``raydrgn.io.star`` reads values; here a row stays the line it was, with its spaces and quotes, and
only cells that are set are written anew. Comments, other blocks and the order of columns stay.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.filetypes import decode
from raydrgn.io.star import BLANK_OR_COMMENT, WANTED, check_rows, quoted, row_place, tokens
from raydrgn.io.storage import Uri
from raydrgn.shapes import Bool, Int

WRITE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class TextBlock:
    """One ``data_`` block as its lines; ``columns`` and ``rows`` are empty if it has no loop."""

    name: str
    head: list[str]
    """Lines before the names of the loop's columns; the whole block if it has no loop."""

    columns: list[str] = field(default_factory=list)
    """Names without the underscore, in order."""

    rows: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def cells(self, column: str) -> list[str]:
        """Return a column as text, quotes removed."""
        at = self.columns.index(column)
        return [_unquoted(tokens(row)[at]) for row in self.rows]

    def row_cells(self, row: int) -> list[str]:
        """Return one row as text, quotes removed."""
        return [_unquoted(token) for token in tokens(self.rows[row])]

    def take(self, rows: Int[np.ndarray, " k"]) -> "TextBlock":
        """Return the block with some rows, in the order given."""
        return replace(self, rows=[self.rows[row] for row in rows.tolist()])

    def with_columns(self, values: Mapping[str, Sequence[str]]) -> "TextBlock":
        """Return the block with columns replaced, or added at the end; other cells stay."""
        if not values:
            return self
        columns = [*self.columns, *(name for name in values if name not in self.columns)]
        places = [columns.index(name) for name in values]
        width = len(self.columns)
        blank = [""] * (len(columns) - width)
        rows = []
        for old, new in zip(self.rows, zip(*values.values(), strict=True), strict=True):
            cells = tokens(old) + blank
            for place, value in zip(places, new, strict=True):
                cells[place] = quoted(value)
            rows.append(" ".join(cells))
        return replace(self, columns=columns, rows=rows)

    def as_loop(self) -> "TextBlock":
        """Return the block with single values made a loop of one row."""
        if self.columns:
            return self
        pairs = [tokens(line) for line in self.head if line.lstrip().startswith("_")]
        pairs = [pair for pair in pairs if len(pair) > 1]
        head = [line for line in self.head if not line.lstrip().startswith("_")]
        names, values = [pair[0][1:] for pair in pairs], [pair[1] for pair in pairs]
        return TextBlock(self.name, [*head, "loop_"], names, [" ".join(values)] * bool(pairs), [""])

    def lines(self) -> Iterator[str]:
        """Yield the lines of the block."""
        yield from self.head
        yield from (f"_{column} #{i}" for i, column in enumerate(self.columns, start=1))
        yield from self.rows
        yield from self.tail


@dataclass(frozen=True, slots=True)
class TextStar:
    """A STAR file as its lines."""

    uri: Uri
    preamble: list[str]
    blocks: list[TextBlock]

    def block(self, name: str) -> TextBlock | None:
        """Return a block by its name, or None."""
        return next((block for block in self.blocks if block.name == name), None)

    def particles(self) -> TextBlock:
        """Return the block that lists particle images: the longest with ``rlnImageName``.

        Raises:
            InputError: If there is none.
        """
        loops = [block.as_loop() for block in self.blocks]
        found = [block for block in loops if "rlnImageName" in block.columns]
        if not found:
            raise InputError(f"{self.uri} has no column rlnImageName; it is not a particle file.")
        return max(found, key=lambda block: len(block.rows))

    def particle_place(self, row: int) -> str:
        """Return where a particle stands in the file, as an editor shows it: ``line 68``."""
        return row_place(self.uri, self.particles().name, row)

    def with_blocks(self, *changed: TextBlock) -> "TextStar":
        """Return the file with blocks replaced by those of the same name."""
        by_name = {block.name: block for block in changed}
        return replace(self, blocks=[by_name.get(block.name, block) for block in self.blocks])

    def write(self, uri: Uri, *, check: Callable[[Uri], None] | None = None) -> None:
        """Write the file; ``check`` is as in ``storage.atomic_write``."""
        with storage.atomic_write(uri, check=check) as stream:
            pending = list(self.preamble)
            for block in self.blocks:
                for line in block.lines():
                    pending.append(line)
                    if len(pending) >= WRITE_ROWS:
                        stream.write("\n".join([*pending, ""]).encode())
                        pending.clear()
            stream.write("\n".join([*pending, ""]).encode())


def read_text_star(uri: Uri) -> TextStar:
    """Read a STAR file as lines.

    Raises:
        InputError: If it is no text, or a line has another number of values than its loop.
    """
    lines = decode(storage.read_bytes(uri), uri, wanted=WANTED).split("\n")
    if lines[-1] == "":
        lines.pop()
    is_row = np.zeros(len(lines), dtype=bool)
    for numbers in check_rows(lines, uri).values():
        is_row[np.array(numbers, dtype=np.int64) - 1] = True
    starts = [
        i
        for i, line in enumerate(lines)
        if line.lstrip()[:5].lower() == "data_" and not is_row[i]  # a row may begin with data_1.mrc
    ]
    preamble = lines[: starts[0]] if starts else lines
    ends = [*starts[1:], len(lines)] if starts else []
    blocks = [_parse(lines[a:b], is_row[a:b]) for a, b in zip(starts, ends, strict=True)]
    return TextStar(uri, preamble, blocks)


def _parse(lines: list[str], is_row: Bool[np.ndarray, " n"]) -> TextBlock:
    name = lines[0].split()[0][len("data_") :]
    words = [line.split(maxsplit=1)[:1] for line in lines]  # a comment may follow on the line
    loop = next((i for i, word in enumerate(words) if word and word[0].lower() == "loop_"), None)
    if loop is None:
        return TextBlock(name, lines)
    columns, at = [], loop + 1
    while at < len(lines) and not is_row[at] and lines[at].lstrip()[:1] in ("_", *BLANK_OR_COMMENT):
        if lines[at].lstrip().startswith("_"):
            columns.append(lines[at].split()[0][1:])
        at += 1
    end = at
    for i in range(at, len(lines)):
        if is_row[i]:
            end = i + 1
        elif lines[i].lstrip()[:1] not in BLANK_OR_COMMENT:
            break  # another loop, or a single value
    rows = [lines[i] for i in range(at, end) if is_row[i]]
    return TextBlock(name, lines[: loop + 1], columns, rows, lines[end:])


def _unquoted(token: str) -> str:
    return token[1:-1] if len(token) > 1 and token[0] in "'\"" and token[-1] == token[0] else token
