"""A folder of results, which records what it was made from and with which settings.

Finished files are kept when a command is repeated with the same origin and settings; results of
another epoch, run or setting never come beside them.
"""

import io
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.directory import CONFIG
from raydrgn.run.identity import MADE_FROM, SETTINGS, Identity, read_record
from raydrgn.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

FILES, OTHER_FILES = "files", "other_files"
"""Files of the results, listed when they are finished, and files that somebody else put there."""

DEFAULT = "the default"
"""What a message calls a setting that is not recorded."""

_REMEDY = "Choose another folder with --out, or replace these results with --overwrite."


class ResultFolder:
    """Where a command leaves its results.

    Args:
        uri: The folder.
        figures: Format in which figures are written beside PNG: ``svg`` or ``pdf``.
    """

    def __init__(self, uri: Uri, *, figures: Literal["svg", "pdf"] | None = None) -> None:
        self.uri = storage.absolute(uri)  # workers of a cluster are in other folders
        self._figures = figures

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
            overwrite: Delete earlier results in the folder; files of others stay.
            independent: Settings whose results lie side by side under names of their own.

        Raises:
            RunDirectoryError: If the folder has results of another origin or other settings and
                ``overwrite`` is not given, or files that are not results: those are never deleted.
        """
        record: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        others: list[str] = []
        if set(storage.list_names(self.uri)) - {SETTINGS}:
            self.check_own()
            own, others = self._own_and_other_files()
            if overwrite:
                self._delete(own, others)
            else:
                self._check(record, made_from, independent)
        if made_from is not None:
            record[MADE_FROM] = made_from.to_dict()
        self._write_record(record | {OTHER_FILES: others})

    def finish(self) -> None:
        """List the files of the results, so that others' are known from them and never deleted."""
        record = self._record()
        others = set(record.get(OTHER_FILES, ()))
        own = [name for name in storage.list_files(self.uri) if name not in others]
        self._write_record(record | {FILES: own})

    def is_made_from(self, identity: Identity) -> bool:
        """Return whether the folder has results, and these are of the given epoch."""
        if not self.has(SETTINGS):
            return False
        found = self._record().get(MADE_FROM)
        return found is not None and identity.difference(found) is None

    def _record(self) -> dict[str, Any]:
        return read_record(self.at(SETTINGS))

    def _write_record(self, record: Mapping[str, Any]) -> None:
        storage.write_bytes(self.at(SETTINGS), json.dumps(record, indent=1).encode())

    def _own_and_other_files(self) -> tuple[list[str], list[str]]:
        """Return the files of earlier results, and those that somebody else put in the folder.

        Results that were never finished have no list: then everything is theirs that was not there
        when they were begun.
        """
        record, present = self._record(), storage.list_files(self.uri)
        listed, others = record.get(FILES), set(record.get(OTHER_FILES, ()))
        own = [n for n in present if (n in listed if listed is not None else n not in others)]
        return own, sorted(set(present) - {*own, SETTINGS})

    def _delete(self, own: Sequence[str], others: Sequence[str]) -> None:
        for name in own:
            storage.remove(self.at(name))
        storage.remove_empty_folders(self.uri)
        folders = [name.removesuffix(SETTINGS) for name in others if name.endswith(f"/{SETTINGS}")]
        results = [name for name in others if name.startswith(tuple(folders))] if folders else []
        if results:
            log.warning(
                "%s: %s of other commands are kept (%s): they were made of the results before",
                self.uri,
                counted(len(results), "file"),
                ", ".join(sorted(folders)),
            )
        if rest := sorted(set(others) - set(results)):
            log.info(
                "%s: %s that no raydrgn command wrote %s kept, such as %s",
                self.uri,
                counted(len(rest), "file"),
                "is" if len(rest) == 1 else "are",
                rest[0],
            )

    def check_own(self) -> None:
        """See that the folder is empty, or has results that may be replaced.

        Raises:
            RunDirectoryError: If it has files that are not results, or is the current folder.
        """
        if not set(storage.list_names(self.uri)) - {SETTINGS}:
            return
        if not self.has(SETTINGS) or self.has(CONFIG):
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
        found = self._record()
        origin = found.pop(MADE_FROM, None)
        for name in (FILES, OTHER_FILES):
            found.pop(name, None)
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
                    f"{self.uri} has results with {name} = {found.get(name, DEFAULT)}, not "
                    f"{settings.get(name, DEFAULT)}. {_REMEDY}"
                )

    def at(self, *names: str) -> Uri:
        """Return the path of a file."""
        return storage.join(self.uri, *names)

    def has(self, *names: str) -> bool:
        """Return whether a file is there; files appear whole."""
        return storage.exists(self.at(*names))

    def write_table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table as CSV; text with commas or quotes is quoted."""
        lines = [",".join(map(_cell, row)) for row in (head, *rows)]
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

    def write_figure(self, name: str, figure: "Figure") -> None:
        """Write a figure at a resolution fit to print, and in the other format, if one is set."""
        from raydrgn.reporting.figures import write_figure  # which loads matplotlib

        write_figure(self.at(name), figure)
        if self._figures is not None:
            write_figure(self.at(f"{name.removesuffix('.png')}.{self._figures}"), figure)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
