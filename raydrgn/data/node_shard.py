"""Prepared particles of one table in a file of a node, which all processes on it can read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import prepared_blocks
from raydrgn.data.store import DiskStore, make_disk_store
from raydrgn.geometry.lattice import half_disc
from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Int


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Where the particles of some rows are."""

    path: str
    """Of the file, for processes of the same user on this node."""

    bad: Int[np.ndarray, " bad"]
    """Rows of images without use."""


class NodeShard:
    """Prepares rows of a table when they are first asked for, each once.

    A plain class, made an actor: callers wait for each other, so that no row is prepared twice. The
    file has no name and goes with the process; others open it through ``/proc``.
    """

    def __init__(self) -> None:
        self._store: DiskStore | None = None
        self._is_there = np.zeros(0, dtype=bool)
        self._is_bad = np.zeros(0, dtype=bool)

    def prepare(
        self,
        table: Any,
        config: ImageConfig,
        start: int,
        stop: int,
        progress: Callable[[int], None] | None = None,
    ) -> PreparedRows:
        """Have rows of a table prepared, and return where they are.

        Args:
            table: The whole table, in Arrow's form; the same for every call.
            config: Preparation; the same for every call.
            start: First row.
            stop: The row after the last.
            progress: Called with how many of the rows are there.
        """
        if self._store is None:
            count = len(table)
            shape = (count, len(half_disc(config.box)), 2)
            self._store = make_disk_store(shape, config.precision)
            self._is_there, self._is_bad = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        for first, last in _runs(~self._is_there[start:stop]):
            part = ParticleTable(table).slice_rows(start + first, start + last)
            for block in prepared_blocks(part, config):
                rows = block.rows + start + first
                self._store.write(rows, block.values)
                self._is_there[rows], self._is_bad[rows] = True, block.bad
                if progress is not None:
                    progress(int(self._is_there[start:stop].sum()))
        bad = start + np.flatnonzero(self._is_bad[start:stop])
        return PreparedRows(self._store.path, bad)


def _runs(wanted: np.ndarray) -> list[tuple[int, int]]:
    """Return first row and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
