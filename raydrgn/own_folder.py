"""Folders of a user, also of one whose home cannot be written.

Containers often run as a user id without a home of its own. There numba refuses functions whose
compiled form is to be kept, and so raydrgn's kernels and UMAP could not be loaded; matplotlib
collects its fonts anew in each process.
"""

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

FOLDERS = {"NUMBA_CACHE_DIR": "numba", "MPLCONFIGDIR": "matplotlib"}
"""Variables in which numba and matplotlib look for a folder, and its name."""


def give_cache_folder() -> None:
    """Name a folder below the temporary one in the environment, where that and the home have none.

    Compiled code is loaded from it, so nobody else may write there.
    """
    if can_be_written(_cache_folder()):
        return
    with suppress(OSError):  # no temporary folder either: libraries tell in their own words
        folder = Path(tempfile.gettempdir()) / f"raydrgn-cache-{os.getuid()}"
        if not make_own(folder):
            folder = Path(tempfile.mkdtemp(prefix="raydrgn-cache-"))
        for variable, name in FOLDERS.items():
            os.environ.setdefault(variable, str(folder / name))


def can_be_written(folder: Path) -> bool:
    """Return whether files can be made in a folder, which may have to be made itself."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    # an unknown home is left as it is, "~", and is then a relative path
    return folder.is_absolute() and os.access(there, os.W_OK | os.X_OK)


def make_own(folder: Path) -> bool:
    """Make a folder that only this user can write to; return whether there is such a folder."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _cache_folder() -> Path:
    """Return the folder in which programs keep such files of a user."""
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches"))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
