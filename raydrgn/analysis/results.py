"""A folder of results: finished pieces are kept, and made with one set of options."""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri

SETTINGS = "settings.json"
RUN_CONFIG = "config.yaml"
"""What a run directory holds, and results never do."""

PRINT_DPI = 300


class ResultFolder:
    """Where a command leaves its results."""

    def __init__(self, uri: Uri) -> None:
        self.uri = storage.absolute(uri)  # workers of a cluster are in other folders

    def begin(
        self, settings: Mapping[str, Any], *, overwrite: bool, free: Collection[str] = ()
    ) -> None:
        """Begin, or go on with what was finished with the same settings.

        Args:
            settings: What the results depend on; kept in ``settings.json``.
            overwrite: Delete what the folder holds.
            free: Settings of which results lie beside each other, under names of their own.

        Raises:
            RunDirectoryError: If the folder holds results of other settings and ``overwrite`` is
                not given, or what raydrgn did not write as results: that is never deleted.
        """
        said = json.dumps(settings, indent=1, default=str)
        if set(storage.list_names(self.uri)) - {SETTINGS}:
            self._check_own()
            if overwrite:
                fs, path = storage.filesystem(self.uri)
                with storage.explained(self.uri, action="deleted"):
                    fs.rm(path, recursive=True)
            else:
                self._check(json.loads(said), free)
        storage.write_bytes(self.at(SETTINGS), said.encode())

    def _check_own(self) -> None:
        if not self.has(SETTINGS) or self.has(RUN_CONFIG):
            raise RunDirectoryError(
                f"{self.uri} holds files that are no results of raydrgn's commands, and keeps "
                "them; choose another folder with --out, or move them away."
            )
        if f"{storage.absolute('.')}/".startswith(f"{self.uri}/"):
            raise RunDirectoryError(
                f"{self.uri} is the folder this command runs in; choose another one with --out."
            )

    def _check(self, settings: Mapping[str, Any], free: Collection[str]) -> None:
        found = json.loads(storage.read_bytes(self.at(SETTINGS)))
        for name in [*settings, *found]:
            if name not in free and settings.get(name) != found.get(name):
                raise RunDirectoryError(
                    f"{self.uri} holds results made with {name} = {found.get(name)}, not "
                    f"{settings.get(name)}; choose another folder with --out, or start anew with "
                    "--overwrite."
                )

    def at(self, *names: str) -> Uri:
        """Return the path of a file."""
        return storage.join(self.uri, *names)

    def has(self, *names: str) -> bool:
        """Tell whether a file is there; files appear whole."""
        return storage.exists(self.at(*names))

    def write_table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table as CSV."""
        lines = [",".join(head), *(",".join(map(_cell, row)) for row in rows)]
        storage.write_bytes(self.at(name), ("\n".join(lines) + "\n").encode())

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
