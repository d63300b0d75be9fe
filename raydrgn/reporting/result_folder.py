"""A folder of results, which records what it was made from and with which settings.

Finished files are kept when a command is repeated with the same origin and settings; results of
another epoch, run or setting never come beside them.
"""

import io
import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.errors import RaydrgnError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.process import ProcessIdentity
from raydrgn.reporting.earlier_results import EARLIER, UNFINISHED, FilesAside
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

_REPLACING: dict[Uri, "ResultFolder"] = {}
"""Folders whose earlier results this process has moved aside, until the new ones are finished."""


class ResultFolder:
    """Where a command leaves its results.

    Args:
        uri: The folder.
        figures: Format in which figures are written beside PNG: ``svg`` or ``pdf``.
    """

    def __init__(self, uri: Uri, *, figures: Literal["svg", "pdf"] | None = None) -> None:
        self.uri = storage.absolute(uri)  # workers of a cluster are in other folders
        self._figures = figures
        self._earlier = FilesAside(self.uri, EARLIER)
        self._unfinished = FilesAside(self.uri, UNFINISHED)

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
            overwrite: Replace earlier results in the folder; files of others stay. Those that were
                finished are kept aside until ``finish``, or ``put_back``.
            independent: Settings whose results lie side by side under names of their own.

        Raises:
            RunDirectoryError: If the folder has results of another origin or other settings and
                ``overwrite`` is not given, or files that are not results: those are never deleted;
                if another process is replacing its results.
        """
        record: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        others: list[str] = []
        self._recover()
        if self._has_files():
            self.check_own()
            own, others = self._own_and_other_files()
            if overwrite:
                self._remove(own, others)
            else:
                self._check(record, made_from, independent)
        if made_from is not None:
            record[MADE_FROM] = made_from.to_dict()
        self._write_record(record | {OTHER_FILES: others})
        if overwrite:
            self._take_up_unfinished(settings, made_from)

    def finish(self) -> None:
        """List the files of the results, so that others' are known from them and never deleted.

        Earlier results that were kept aside are deleted.

        Raises:
            RunDirectoryError: If another process has replaced the results meanwhile.
        """
        if _REPLACING.get(self.uri) is not None and self._earlier.owner() != _own_process():
            raise RunDirectoryError(
                f"{self.uri}: another process has replaced the results meanwhile, and the folder "
                "may have files of both. Run the command again when that one has ended."
            )
        record = self._record()
        others = set(record.get(OTHER_FILES, ()))
        own = [name for name in self._present() if name not in others]
        self._write_record(record | {FILES: own})
        self._earlier.delete()
        self._unfinished.delete()
        _REPLACING.pop(self.uri, None)

    def put_back(self) -> None:
        """Put earlier results back in place of new ones that are not finished."""
        if self.has(SETTINGS):
            own, _ = self._own_and_other_files()
            self._unfinished.delete()
            self._unfinished.take([*own, SETTINGS])
        self._earlier.give_back()
        _REPLACING.pop(self.uri, None)
        log.info(
            "%s has its earlier results again, since the new ones are not finished; the same "
            "command goes on with those",
            self.uri,
        )

    def _recover(self) -> None:
        """Bring a folder in order whose results a process was replacing when it was killed.

        Raises:
            RunDirectoryError: If the process lives.
        """
        if not self._earlier.names():
            return
        self._earlier.refuse_living()
        if not self._earlier.has_settings():  # not all were moved aside
            self._earlier.give_back()
        elif self.has(SETTINGS) and FILES in self._record():
            self._earlier.delete()
        else:
            self.put_back()

    def _take_up_unfinished(self, settings: Mapping[str, Any], made_from: Identity | None) -> None:
        """Go on with what an earlier command of the same settings did not finish."""
        if not self._unfinished.has_settings():
            self._unfinished.delete()
            return
        found = read_record(self._unfinished.at(SETTINGS))
        try:
            self._compare(found, json.loads(json.dumps(settings, default=str)), made_from, ())
        except RunDirectoryError:
            self._unfinished.delete()
            return
        own_record = self._record()
        self._unfinished.give_back()
        self._write_record(own_record)

    def _has_files(self) -> bool:
        return bool(set(storage.list_names(self.uri)) - {SETTINGS, EARLIER, UNFINISHED})

    def _present(self) -> list[str]:
        """Return the files of the folder, but for those that are kept aside."""
        aside = (f"{EARLIER}/", f"{UNFINISHED}/")
        return [name for name in storage.list_files(self.uri) if not name.startswith(aside)]

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
        record, present = self._record(), self._present()
        listed, others = record.get(FILES), set(record.get(OTHER_FILES, ()))
        own = [n for n in present if (n in listed if listed is not None else n not in others)]
        return own, sorted(set(present) - {*own, SETTINGS})

    def _remove(self, own: Sequence[str], others: Sequence[str]) -> None:
        """Move finished results aside, and delete others."""
        if FILES in self._record():
            self._earlier.sign()
            self._earlier.take([*own, SETTINGS])
            _REPLACING[self.uri] = self
        else:
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
        if not self._has_files():
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

    def require_writable(self) -> None:
        """See that the folder can be written, before long work; one that is not there is not made.

        Raises:
            StorageError: If it cannot be written, or made.
        """
        folder = self.uri
        while storage.is_local(folder) and not storage.exists(folder):
            folder = storage.parent(folder)
        storage.require_writable(folder)

    def _check(
        self,
        settings: Mapping[str, Any],
        made_from: Identity | None,
        independent: Collection[str],
    ) -> None:
        self._compare(self._record(), settings, made_from, independent)

    @property
    def remedy(self) -> str:
        """What to do about results of something else in the folder, in a sentence."""
        report = "report.html"
        look = f"Look at them in {self.at(report)}, choose" if self.has(report) else "Choose"
        return f"{look} another folder with --out, or replace these results with --overwrite."

    def _compare(
        self,
        found: dict[str, Any],
        settings: Mapping[str, Any],
        made_from: Identity | None,
        independent: Collection[str],
    ) -> None:
        """Refuse results whose record has other settings or another origin."""
        origin = found.pop(MADE_FROM, None)
        for name in (FILES, OTHER_FILES):
            found.pop(name, None)
        if made_from is not None:
            if origin is None:
                raise RunDirectoryError(
                    f"{self.uri} has results of an earlier version of raydrgn, which did not "
                    f"record what they were made from. {self.remedy}"
                )
            difference = made_from.difference(origin)
            if difference:
                raise RunDirectoryError(f"{self.uri} has results of {difference}. {self.remedy}")
        for name in [*settings, *found]:
            if name not in independent and settings.get(name) != found.get(name):
                raise RunDirectoryError(
                    f"{self.uri} has results with {name} = {found.get(name, DEFAULT)}, not "
                    f"{settings.get(name, DEFAULT)}. {self.remedy}"
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
        pq.write_table(table, stream, write_page_checksum=True)
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


def put_back_earlier_results() -> None:
    """Put back what results were to replace that will not be finished, as the command ends."""
    for folder in list(_REPLACING.values()):
        try:
            folder.put_back()
        except RaydrgnError as error:
            log.warning("%s: the earlier results are kept in %s: %s", folder.uri, EARLIER, error)


def _own_process() -> ProcessIdentity:
    return ProcessIdentity.of(os.getpid())


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
