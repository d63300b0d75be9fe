"""Losses over the steps of a run: numbers for programs, one JSON object per line.

Rows have ``epoch``, ``step`` (steps done in it), ``particles`` (done in it), ``total``,
``reconstruction``, ``kl`` (means over them), ``learning_rate``, ``rate`` (particles per second) and
``seconds`` since the command began. The last row of an epoch has ``done`` true and is the mean over
the whole epoch.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from raydrgn.io.storage import Uri
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.lines import LineFile, read_lines

LOSSES = ("epoch", "total", "reconstruction", "kl")
CRYODRGN_EPOCH = re.compile(
    r"=> Epoch: (\d+) Average gen loss = (\S+), KLD = (\S+), total loss = ([^;\s]+)"
)


class MetricsFile:
    """The file as its writer has it. A row that is added twice is there once.

    A call that was cut off with the writer is sent again, and may have been done.
    """

    def __init__(self, uri: Uri) -> None:
        self._uri, self._lines = uri, LineFile(uri)
        self._known: set[tuple[int, int, bool]] | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, at the end."""
        if self._known is None:
            self._known = set(map(_place, read_metrics(self._uri)))
        if _place(row) not in self._known:
            self._known.add(_place(row))
            self._lines.add(json.dumps(row))

    def flush(self) -> None:
        """Write the rows that were held back."""
        self._lines.flush()

    def forget_after(self, position: Position) -> None:
        """Remove rows beyond a position, and what is no whole row."""
        self._lines.keep(lambda line: _is_before(line, position))
        self._known = None


def _place(row: Mapping[str, Any]) -> tuple[int, int, bool]:
    return row["epoch"], row["step"], bool(row.get("done"))


def _is_before(line: str, position: Position) -> bool:
    """Return whether a line is a whole row and not beyond a position."""
    try:
        row = json.loads(line)
        return (row["epoch"], row["step"]) <= position
    except (ValueError, TypeError, LookupError):
        return False


def read_metrics(uri: Uri) -> list[dict[str, Any]]:
    """Return all whole rows of a run's metrics; none if there are none yet."""
    rows = []
    for line in read_lines(uri):
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line cut short by a kill
            continue
    return rows


def epoch_rows(uri: Uri) -> list[dict[str, Any]]:
    """Return the row of each finished epoch."""
    return [row for row in read_metrics(uri) if row.get("done")]


def read_losses(files: RunDirectory) -> list[dict[str, float]]:
    """Return ``epoch``, ``total``, ``reconstruction`` and ``kl`` of each finished epoch.

    From raydrgn's metrics, or from the log that cryoDRGN writes; none if there is neither.
    """
    rows = epoch_rows(files.metrics)
    if rows:
        return [{key: float(row[key]) for key in LOSSES} for row in rows]
    text = "\n".join(read_lines(files.log))
    return [
        dict(zip(("epoch", "reconstruction", "kl", "total"), map(float, found), strict=True))
        for found in CRYODRGN_EPOCH.findall(text)
    ]
