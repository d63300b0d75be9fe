"""Scores of a command that is not finished, kept in files until all of them are there."""

import io
import time
from collections.abc import Sequence

import numpy as np

from raydrgn.io import storage
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

FOLDER = "parts"
SECONDS_BETWEEN = 15.0
"""Work that is lost at most if the command is interrupted."""


class PartialScores:
    """Masked sums of volumes, NaN where they are missing; kept in a folder of results.

    Each part is a file with the keys of its volumes, so that a map that was replaced is scored
    again.
    """

    def __init__(self, folder: ResultFolder, keys: Sequence[str], num_subunits: int) -> None:
        self.sums = np.full((len(keys), num_subunits), np.nan)
        self._keys = np.array(keys)
        self._folder = folder
        self._new: list[int] = []
        self._written = time.monotonic()
        rows = {key: row for row, key in enumerate(keys)}
        for name in storage.list_names(folder.at(FOLDER)):
            if name.endswith(".npz"):
                with np.load(io.BytesIO(storage.read_bytes(folder.at(FOLDER, name)))) as part:
                    found = np.array([rows.get(key, -1) for key in part["keys"].tolist()])
                    self.sums[found[found >= 0]] = part["sums"][found >= 0]

    def missing(self) -> Int[np.ndarray, " m"]:
        """Return the volumes that have no scores yet."""
        return np.flatnonzero(np.isnan(self.sums).any(axis=1))

    def add(self, rows: Int[np.ndarray, " b"], sums: Float[np.ndarray, "b subunits"]) -> None:
        """Add scores; those that are NaN stay missing."""
        self.sums[rows] = sums
        self._new += rows[np.isfinite(sums).all(axis=1)].tolist()
        if time.monotonic() - self._written > SECONDS_BETWEEN:
            self.keep()

    def keep(self) -> None:
        """Write the scores added since the last part."""
        if self._new:
            rows = np.array(self._new)
            stream = io.BytesIO()
            np.savez(stream, keys=self._keys[rows], sums=self.sums[rows])
            name = f"{rows[0]:08d}_{len(rows)}.npz"
            storage.write_bytes(self._folder.at(FOLDER, name), stream.getvalue())
        self._new, self._written = [], time.monotonic()

    def remove(self) -> None:
        """Delete the parts, once their content is in the tables."""
        if self._folder.has(FOLDER):
            fs, path = storage.filesystem(self._folder.at(FOLDER))
            with storage.explained(self._folder.uri, action="deleted"):
                fs.rm(path, recursive=True)
