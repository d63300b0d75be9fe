"""Whether files and folders are there, and which names a folder has, on a file system of fsspec.

Only absence counts as absence. fsspec, and some of its clients, take any failure for it: what
cannot be known for the moment raises the error of the system or of the client here.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from fsspec.implementations.local import LocalFileSystem

ABSENT = (FileNotFoundError, NotADirectoryError)
"""Errors that mean that there is nothing under a name: below a file there is nothing either."""


def exists(fs: Any, path: str) -> bool:
    """Return whether a file or folder is there."""
    if isinstance(fs, LocalFileSystem):
        return _local_mode(path) is not None
    if fs.async_impl:  # clients of object stores
        return bool(fs.exists(path))
    return _kind(fs, path) is not None


def is_folder(fs: Any, path: str) -> bool:
    """Return whether a folder is there."""
    if isinstance(fs, LocalFileSystem):
        return stat.S_ISDIR(_local_mode(path) or 0)
    return bool(fs.isdir(path)) or _kind(fs, path) == "directory"  # gcsfs answers no to any failure


def names(fs: Any, path: str) -> list[str]:
    """Return the names that a folder has, sorted; none if there is no folder."""
    if isinstance(fs, LocalFileSystem):
        return sorted(_unless_absent(lambda: os.listdir(path)) if is_folder(fs, path) else [])
    listed = _unless_absent(lambda: list(fs.ls(path, detail=False)))
    found = {entry.rstrip("/") for entry in listed} - {path.rstrip("/")}
    return sorted(entry.rsplit("/", 1)[-1] for entry in found)


def files(fs: Any, path: str) -> list[str]:
    """Return the files in a folder and those below it, by their paths from it, sorted.

    Links to local folders are listed, and not followed.
    """
    root = path.rstrip("/") + "/"
    if isinstance(fs, LocalFileSystem):
        found = _local_files(path) if is_folder(fs, path) else []
    else:
        found = _unless_absent(lambda: list(fs.find(path)))
    inner = (name for name in found if name.startswith(root) and name != root)
    return sorted(name.removeprefix(root) for name in inner)


def _local_mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except (*ABSENT, ValueError):  # no file has a name with a null byte, …
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # … or one as long
            return None
        raise


def _local_files(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, ABSENT):  # deleted meanwhile
            raise error

    found: list[str] = []
    for place, folders, names_there in os.walk(folder, onerror=refuse):
        inner = (os.path.join(place, name) for name in folders)
        found += [*filter(os.path.islink, inner), *(os.path.join(place, n) for n in names_there)]
    return found


def _kind(fs: Any, path: str) -> str | None:
    """Return fsspec's word for what is under a name: ``file``, ``directory``, or None."""
    try:
        return str(fs.info(path)["type"])
    except ABSENT:
        return None


def _unless_absent(listing: Callable[[], list[str]]) -> list[str]:
    try:
        return listing()
    except ABSENT:
        return []
