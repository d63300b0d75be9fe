"""Ranges of open files on a disk: reserved, written and read whole, whatever one call does of them.

One call to the operating system reads or writes 2 GiB at most, and may do less at any time.
"""

import errno
import os

CALL_BYTES = 1 << 30

NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def reserve(descriptor: int, size: int) -> None:
    """Give a file its size, with room on the disk for all of it where its file system can.

    Elsewhere (macOS, some network file systems) the file is sparse, and may find the disk full
    later.

    Raises:
        OSError: If there is no room.
    """
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise
    os.ftruncate(descriptor, size)


def write_range(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes, from an offset on.

    Raises:
        OSError: If they cannot be written.
    """
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done : done + CALL_BYTES], offset + done)


def read_range(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from an offset on; return its bytes, or fewer if the file ends before.

    Raises:
        OSError: If they cannot be read.
    """
    done = 0
    while done < len(buffer):
        got = os.preadv(descriptor, [buffer[done : done + CALL_BYTES]], offset + done)
        if not got:
            break
        done += got
    return done
