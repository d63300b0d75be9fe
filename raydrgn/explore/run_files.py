"""Files of a run or project that the page may have, and where the page's own results go.

A path that a browser sends is taken apart name by name, and on a disk followed through links: it
must end below the folder that was opened. Beside results of commands, and what a project records of
its steps and decisions, nothing is given out.
"""

import os
import unicodedata
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from raydrgn.errors import ConfigError, RaydrgnError, RunDirectoryError
from raydrgn.io import storage, uri
from raydrgn.io.storage import Uri
from raydrgn.run.directory import is_run
from raydrgn.run.project_steps import RECORDS

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    **dict.fromkeys((".txt", ".cxc", ".yaml"), "text/plain; charset=utf-8"),
    **dict.fromkeys(
        (".pkl", ".star", ".cs", ".csg", ".mrc", ".npy", ".npz", ".parquet"),
        "application/octet-stream",
    ),
}
REPORT = "report.html"
KEPT = "kept.ind.pkl"
"""Of a selection: the particles that it keeps, by their numbers in the original set."""

ROWS = "kept.rows.pkl"
"""The same by rows of the particle table that the run was trained from, if it was from one."""

MOST_BYTES = 2 << 30
MOST_LETTERS, MOST_NAME_BYTES = 64, 200
"""Of a name; a file system takes 255 bytes, with an ending such as .json."""

LETTER_OR_DIGIT = "LN"
"""First letters of the categories of Unicode."""

SELECTIONS, VOLUMES, JOBS = "selections", "volumes", "jobs"


class OutsideError(RaydrgnError):
    """A path does not lead to a file that the page may have."""


class RunFiles:
    """The files below a run directory or a project, or below the explorer's folder beside latents.

    Args:
        root: Below which files are given out and written.
        own: Folder of the explorer's results, the same or below.
    """

    def __init__(self, root: Uri, own: Uri) -> None:
        self.root, self.own = root, own

    def find(self, path: str) -> Uri:
        """Return a file of results that the page may have.

        Raises:
            OutsideError: If it is none, or not there.
        """
        names = path.split("/")
        suffix = os.path.splitext(path)[1].lower()
        if any(name in ("", ".", "..") for name in names) or "\\" in path:
            raise OutsideError("There is no such file among the results.")
        if "state" in names[:-1] or suffix not in TYPES or "\0" in path:
            raise OutsideError(f"Files of type {suffix or 'none'} are not given out.")
        found = storage.join(self.root, *names)
        if not self._is_inside(found) or not storage.exists(found) or storage.is_folder(found):
            raise OutsideError(f"There is no file {path!r:.120} among the results.")
        if names[-1] != REPORT and not self._is_of_results(storage.parent(found), names[-1]):
            raise OutsideError("There is no such file among the results.")
        if storage.file_size(found) > MOST_BYTES:
            raise OutsideError(f"{path:.120} is too large for a browser; copy it from the run.")
        return found

    def new(self, kind: str, name: str) -> Uri:
        """Return a free folder for results of the page.

        Raises:
            ConfigError: If the name is not one, or taken.
            OutsideError: If a link leads out of the run.
            RunDirectoryError: If the run was deleted.
        """
        self.require_there()
        if not is_name(name) or name.endswith((".json", ".")):
            raise ConfigError(
                f"{name!r:.80} is no name: use letters, digits, and - _ . (at most {MOST_LETTERS}; "
                "fewer in some scripts)."
            )
        found = storage.join(self.own, kind, name)
        is_empty = storage.is_folder(found) and not storage.list_names(found)
        if (storage.exists(found) and not is_empty) or storage.exists(f"{found}.json"):
            raise ConfigError(taken(name))
        if not self._is_inside(found):
            raise OutsideError(f"{self.own} leads out of {self.root} through a link.")
        return found

    def at(self, kind: str, name: str) -> Uri:
        """Return the path of one of the page's own files.

        Raises:
            OutsideError: If a link leads out of the run.
        """
        found = storage.join(self.own, kind, name)
        if not self._is_inside(found):
            raise OutsideError(f"{self.own} leads out of {self.root} through a link.")
        return found

    def require_there(self) -> None:
        """Refuse to write where the run was deleted: its folder would be made again.

        Raises:
            RunDirectoryError: If it was.
        """
        folder = storage.parent(self.own)  # of the run or project, or of the latents
        if not storage.is_folder(folder):
            raise RunDirectoryError(
                f"{folder} is gone, so nothing is written there; explore it where it is now."
            )

    def require_below(self, place: Uri, option: str) -> None:
        """Refuse a folder or file that is not below the run.

        Args:
            place: Where a command would write.
            option: How the command line calls it.

        Raises:
            ConfigError: If it lies elsewhere.
        """
        found = uri.absolute(place)
        has_parent = ".." in found.split("/") and not uri.is_local(found)
        if has_parent or not f"{_real(found)}/".startswith(f"{_real(self.root)}/"):
            raise ConfigError(
                f"{option} {place} lies outside {self.root}: what is started from the page writes "
                "below that folder only."
            )

    def reports(self, *, leave_out: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return the reports of commands, down to folders in folders, the newest first.

        Args:
            leave_out: Names of folders whose reports are not wanted.
        """
        found = []
        for folder in self._folders(leave_out):
            report = storage.join(self.root, *folder, REPORT)
            if storage.exists(report):
                found.append((storage.modified(report), "/".join(folder) or "report", report))
        return [
            {"name": name, "path": self.path(report), "when": _date(when)}
            for when, name, report in sorted(found, reverse=True)
        ]

    def _folders(self, leave_out: Collection[str]) -> Iterator[tuple[str, ...]]:
        yield ()
        for name in _folder_names(self.root):
            if name not in leave_out:
                yield (name,)
                below = _folder_names(storage.join(self.root, name))
                yield from ((name, each) for each in below)

    def names(self, kind: str) -> list[str]:
        """Return the names of the page's own results of a kind."""
        folder = storage.join(self.own, kind)
        if not storage.exists(folder):
            return []
        return sorted(name for name in storage.list_names(folder) if is_name(name))

    def path(self, found: Uri) -> str:
        """Return what the page calls a file or folder."""
        return found.removeprefix(f"{self.root}/")

    def _is_of_results(self, folder: Uri, name: str) -> bool:
        """Return whether a file is none of a run's own: weights, latents, a configuration."""
        if is_run(storage.list_names(folder)):
            return False
        return folder != self.root or name in RECORDS

    def _is_inside(self, found: Uri) -> bool:
        """Return whether links, if there are any, lead nowhere else."""
        return _real(found).startswith(f"{_real(self.root)}/")


def _folder_names(folder: Uri) -> list[str]:
    """Return the names in a folder that may be folders of results."""
    names = storage.list_names(folder)
    return [n for n in names if is_name(n) and os.path.splitext(n)[1] not in TYPES]


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a folder on every disk: letters of any script.

    Of a letter with an accent, which can be written in two ways, it is the composed form.
    """
    kinds = [unicodedata.category(letter)[0] for letter in text]
    return (
        0 < len(text) <= MOST_LETTERS
        and kinds[0] in LETTER_OR_DIGIT
        and all(kind in LETTER_OR_DIGIT or kind == "M" or letter in "_.-"
                for kind, letter in zip(kinds, text, strict=True))
        and len(text.encode()) <= MOST_NAME_BYTES
        and unicodedata.is_normalized("NFC", text)
        and _fits_file_system(text)
    )  # fmt: skip


def _fits_file_system(text: str) -> bool:
    """Return whether names of this process can have these letters."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def taken(name: str) -> str:
    """Return the message about a name that other results have."""
    return f"There is {name!r} already; choose another name."


def _real(found: Uri) -> str:
    """Return where a path leads through links; a URL has none."""
    return os.path.realpath(uri.local_path(found)) if uri.is_local(found) else found.rstrip("/")


def _date(when: datetime) -> str:
    return when.astimezone().strftime("%Y-%m-%d %H:%M")
