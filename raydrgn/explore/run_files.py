"""Files of the run that the page may have, and where the page's own results go.

A path that a browser sends is taken apart name by name, and on a disk followed through links: it
must end below the run directory. Beside results of commands nothing is given out.
"""

import os
import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.io import storage, uri
from raydrgn.io.storage import Uri

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".gif": "image/gif",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    **dict.fromkeys((".txt", ".cxc"), "text/plain; charset=utf-8"),
    **dict.fromkeys((".pkl", ".star", ".cs", ".csg", ".mrc", ".npy"), "application/octet-stream"),
}
REPORT = "report.html"
KEPT = "kept.ind.pkl"
"""Of a selection: the particles that it keeps, by their numbers in the original set."""

ROWS = "kept.rows.pkl"
"""The same by rows of the particle table that the run was trained from, if it was from one."""

MOST_BYTES = 2 << 30
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SELECTIONS, VOLUMES, JOBS = "selections", "volumes", "jobs"


class OutsideError(RaydrgnError):
    """A path does not lead to a file that the page may have."""


class RunFiles:
    """The files below a run directory, or below the explorer's folder beside a file of latents.

    Args:
        root: Below which files are given out and written.
        own: Folder of the explorer's results, the same or below.
        suffixes: Of the files that are given out.
    """

    def __init__(self, root: Uri, own: Uri, *, suffixes: Collection[str] = TYPES) -> None:
        self.root, self.own, self._suffixes = root, own, suffixes

    def find(self, path: str) -> Uri:
        """Return a file of results that the page may have.

        Raises:
            OutsideError: If it is none, or not there.
        """
        names = path.split("/")
        suffix = os.path.splitext(path)[1].lower()
        if (
            (len(names) < 2 and path != REPORT)
            or any(name in ("", ".", "..") for name in names)
            or "\\" in path
        ):
            raise OutsideError("There is no such file among the results.")
        if names[0] == "state" or suffix not in self._suffixes or "\0" in path:
            raise OutsideError(f"Files of type {suffix or 'none'} are not given out.")
        found = storage.join(self.root, *names)
        if not self._is_inside(found) or not storage.exists(found) or storage.is_folder(found):
            raise OutsideError(f"There is no file {path!r:.120} among the results.")
        if storage.file_size(found) > MOST_BYTES:
            raise OutsideError(f"{path:.120} is too large for a browser; copy it from the run.")
        return found

    def new(self, kind: str, name: str) -> Uri:
        """Return a free folder for results of the page.

        Raises:
            ConfigError: If the name is not one, or taken.
            OutsideError: If a link leads out of the run.
        """
        if not NAME.fullmatch(name) or name.endswith((".json", ".")):
            raise ConfigError(
                f"{name!r:.80} is no name: use letters, digits, and - _ . (at most 64)."
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

    def reports(self) -> list[dict[str, Any]]:
        """Return the reports of commands on this run, the newest first."""
        found = []
        for name in storage.list_names(self.root):
            report = storage.join(self.root, name, REPORT)
            if NAME.fullmatch(name) and storage.exists(report):
                found.append((storage.modified(report), name))
        return [
            {"name": name, "path": f"{name}/{REPORT}", "when": _date(when)}
            for when, name in sorted(found, reverse=True)
        ]

    def names(self, kind: str) -> list[str]:
        """Return the names of the page's own results of a kind."""
        folder = storage.join(self.own, kind)
        if not storage.exists(folder):
            return []
        return sorted(name for name in storage.list_names(folder) if NAME.fullmatch(name))

    def path(self, found: Uri) -> str:
        """Return what the page calls a file or folder."""
        return found.removeprefix(f"{self.root}/")

    def _is_inside(self, found: Uri) -> bool:
        """Return whether links, if there are any, lead nowhere else."""
        return _real(found).startswith(f"{_real(self.root)}/")


def taken(name: str) -> str:
    """Return the message about a name that other results have."""
    return f"There is {name!r} already; choose another name."


def _real(found: Uri) -> str:
    """Return where a path leads through links; a URL has none."""
    return os.path.realpath(uri.local_path(found)) if uri.is_local(found) else found.rstrip("/")


def _date(when: datetime) -> str:
    return when.astimezone().strftime("%Y-%m-%d %H:%M")
