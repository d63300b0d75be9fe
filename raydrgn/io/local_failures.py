"""Errors of the operating system about a file, in a sentence with a remedy."""

import errno
import os
import tempfile
from pathlib import Path

from raydrgn.io.uri import Uri, is_local, local_path

PASSING_CODES = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED, getattr(errno, "EREMOTEIO", errno.EIO)),
}
"""Of a disk that fails, and of a file server that is away, restarted or mounted anew."""


def may_pass(error: Exception) -> bool:
    """Return whether the same call may succeed in a while."""
    return isinstance(error, OSError) and error.errno in PASSING_CODES


def failure_message(uri: Uri, error: OSError, action: str) -> str:
    """Return a sentence with a remedy about an error of the operating system."""
    if isinstance(error, PermissionError):
        closed = _closed_folder(uri) if is_local(uri) else None
        place = f"the permissions of {closed}" if closed else "its permissions"
        return f"{uri} may not be {action}; check {place}."
    if isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError):
        place = _file_above(str(error.filename or uri))
        is_absent = isinstance(error, FileNotFoundError)
        if is_absent and action == "written" and is_local(uri) and not os.path.lexists(place):
            folder = _folder_there(str(local_path(uri)))
            if os.path.dirname(os.path.abspath(local_path(uri))) != folder:
                return (
                    f"{uri} cannot be written: no folder can be made in {folder}. Choose another "
                    "one."
                )
        if is_absent and os.path.abspath(place) == str(local_path(uri).absolute()):
            return f"{uri} {absence(uri)}"
        if os.path.islink(place) and not os.path.exists(place):
            return f"{uri} cannot be {action}: {place} {absence(place)}"
        return f"{uri} cannot be {action}: {place} is a file, not a folder."
    if isinstance(error, IsADirectoryError):
        return f"{uri} cannot be {action}: {error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        if is_local(uri):
            return (
                f"No room is left to write {uri}. What was finished before stays valid; free space "
                "and run the same command again, `raydrgn train` with --resume."
            )
        return (
            f"No room is left in {tempfile.gettempdir()}, where {uri} is written before it is "
            "sent. Free space there, or set TMPDIR to another folder, and run the same command "
            "again."
        )
    message = f"{uri} cannot be {action}: {error.strerror or error}."
    if may_pass(error):
        message += (
            " The disk or its server has failed. What was finished before stays valid; check them "
            "and run the same command again."
        )
    return message


def _closed_folder(uri: Uri) -> Path | None:
    """Return the folder above a file that this user may not enter; None if there is none."""
    for folder in reversed(local_path(uri).absolute().parents):
        try:
            os.stat(os.path.join(folder, "."))
        except PermissionError:
            return folder
        except OSError:
            return None
    return None


def _file_above(path: str) -> str:
    """Return what stands in the place of one of a path's folders: a file or a link to nowhere.

    The path itself where there is no such thing.
    """
    folder = os.path.dirname(path)
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return path if os.path.isdir(folder) else folder or path


def _folder_there(path: str) -> str:
    """Return the lowest of the folders above a path that is there."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return folder


def absence(uri: Uri) -> str:
    """Describe a file that is not there: a link to nowhere is another matter than a wrong path."""
    if is_local(uri) and os.path.islink(local_path(uri)):
        target = os.readlink(local_path(uri))
        annex = "; get the file with `git annex get`" if "annex/objects" in target else ""
        return f"is a link to {target}, which does not exist{annex}."
    return "does not exist; check the path."
