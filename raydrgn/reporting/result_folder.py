"""A folder of results, which records what it was made from and with which settings.

Finished files are kept when a command is repeated with the same origin and settings; results of
another epoch, run or setting never come beside them.
"""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.identity import Identity

SETTINGS = "settings.json"
MADE_FROM = "made_from"
RUN_CONFIG = "config.yaml"
"""What a run directory holds, and results never do."""

PRINT_DPI = 300

_REMEDY = "Choose another folder with --out, or replace these results with --overwrite."


class ResultFolder:
    """Where a command leaves its results."""

    def __init__(self, uri: Uri) -> None:
        self.uri = storage.absolute(uri)  # workers of a cluster are in other folders

    def begin(
        self,
        settings: Mapping[str, Any],
        *,
        made_from: Identity | None,
        overwrite: bool,
        independent: Collection[str] = (),
    ) -> None:
        """Begin, or go on with results of the same origin and settings.

        Args:
            settings: All settings that change the results; kept in ``settings.json``.
            made_from: Epoch of the run that the results are made from; None if from no run.
            overwrite: Delete earlier results in the folder.
            independent: Settings whose results lie side by side under names of their own.

        Raises:
            RunDirectoryError: If the folder has results of another origin or other settings and
                ``overwrite`` is not given, or files that are not results: those are never deleted.
        """
        record: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        if set(storage.list_names(self.uri)) - {SETTINGS}:
            self._check_own()
            if overwrite:
                fs, path = storage.filesystem(self.uri)
                with storage.explained(self.uri, action="deleted"):
                    fs.rm(path, recursive=True)
            else:
                self._check(record, made_from, independent)
        if made_from is not None:
            record[MADE_FROM] = made_from.to_dict()
        storage.write_bytes(self.at(SETTINGS), json.dumps(record, indent=1).encode())

    def is_made_from(self, identity: Identity) -> bool:
        """Return whether the folder has results, and these are of the given epoch."""
        if not self.has(SETTINGS):
            return False
        found = json.loads(storage.read_bytes(self.at(SETTINGS))).get(MADE_FROM)
        return found is not None and identity.difference(found) is None

    def _check_own(self) -> None:
        if not self.has(SETTINGS) or self.has(RUN_CONFIG):
            raise RunDirectoryError(
                f"{self.uri} has files that no raydrgn command wrote as results; they are kept. "
                "Choose another folder with --out, or move the files away."
            )
        if f"{storage.absolute('.')}/".startswith(f"{self.uri}/"):
            raise RunDirectoryError(
                f"{self.uri} contains the current folder; choose another folder with --out."
            )

    def _check(
        self,
        settings: Mapping[str, Any],
        made_from: Identity | None,
        independent: Collection[str],
    ) -> None:
        found = json.loads(storage.read_bytes(self.at(SETTINGS)))
        origin = found.pop(MADE_FROM, None)
        if made_from is not None:
            if origin is None:
                raise RunDirectoryError(
                    f"{self.uri} has results of an earlier version of raydrgn, which did not "
                    f"record what they were made from. {_REMEDY}"
                )
            difference = made_from.difference(origin)
            if difference:
                raise RunDirectoryError(f"{self.uri} has results of {difference}. {_REMEDY}")
        for name in [*settings, *found]:
            if name not in independent and settings.get(name) != found.get(name):
                raise RunDirectoryError(
                    f"{self.uri} has results with {name} = {found.get(name)}, not "
                    f"{settings.get(name)}. {_REMEDY}"
                )

    def at(self, *names: str) -> Uri:
        """Return the path of a file."""
        return storage.join(self.uri, *names)

    def has(self, *names: str) -> bool:
        """Return whether a file is there; files appear whole."""
        return storage.exists(self.at(*names))

    def write_table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table as CSV."""
        lines = [",".join(head), *(",".join(map(_cell, row)) for row in rows)]
        storage.write_bytes(self.at(name), ("\n".join(lines) + "\n").encode())

    def write_parquet(self, name: str, columns: Mapping[str, Any]) -> pa.Table:
        """Write a table of named columns as Parquet, and return it."""
        table = pa.table(dict(columns))
        stream = io.BytesIO()
        pq.write_table(table, stream)
        storage.write_bytes(self.at(name), stream.getvalue())
        return table

    def write_numbers(self, name: str, values: np.ndarray, *, fmt: str) -> None:
        """Write an array as text, as NumPy does."""
        text = io.StringIO()
        np.savetxt(text, values, fmt=fmt)
        storage.write_bytes(self.at(name), text.getvalue().encode())

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write a figure at a resolution fit to print."""
        stream = io.BytesIO()
        with mpl.rc_context({"font.family": "DejaVu Sans"}):
            figure.savefig(stream, format="png", dpi=PRINT_DPI)
        storage.write_bytes(self.at(name), stream.getvalue())


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
