"""Files of a local disk: names of unfinished ones, second names, devices and pipes."""

import errno
import os
import stat
from pathlib import Path
from uuid import uuid4

PART_SUFFIX = ".part"
WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems that have no hard links."""

LONGEST_NAME = 255
"""Bytes of a name on the file systems of Linux and macOS."""


def part_name(name: str) -> str:
    """Return a name of its own for an unfinished file, which no file system finds too long."""
    ending = f".{uuid4().hex}{PART_SUFFIX}"
    short = name.encode(errors="surrogateescape")[: LONGEST_NAME - len(ending)]
    return short.decode(errors="ignore") + ending


def give_second_name(part: Path, final: Path) -> bool:
    """Give a file a second name, a copy where there are no hard links; False if it is taken."""
    try:
        os.link(part, final)
    except FileExistsError:  # NFS sends a request again whose answer was lost, and finds its link
        return os.stat(part).st_nlink == 2
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        return _copy(part, final)
    return True


def _copy(part: Path, final: Path) -> bool:
    try:
        with final.open("xb") as stream:
            stream.write(part.read_bytes())
    except FileExistsError:
        return False
    return True


def is_special(path: Path) -> bool:
    """Return whether a path is a device, pipe or socket, or one of the system's names of these.

    ``/dev/stdout`` leads to whatever the shell has opened, which must be written to and not
    replaced, even where it is a plain file.
    """
    place = os.path.abspath(path)
    if place.startswith(("/dev/", "/proc/")) and not place.startswith("/dev/shm/"):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:  # absent, or a link to what is absent
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
