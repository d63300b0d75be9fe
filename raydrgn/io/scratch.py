"""Large files that a process keeps for itself on a local disk of its machine."""

import errno
import shutil
import tempfile
from pathlib import Path
from typing import IO

from raydrgn.errors import StorageError
from raydrgn.io import storage
from raydrgn.io.file_ranges import reserve
from raydrgn.wording import in_bytes

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def scratch_file(folder: Path, size: int, *, need: str, remedy: str) -> IO[bytes]:
    """Make a file without a name, with room for its size; it goes when the process does.

    Args:
        folder: Of a local disk.
        size: Bytes.
        need: What is kept there, in words ("this worker's particles need").
        remedy: What to do where the disk has no room.

    Raises:
        StorageError: If the disk has no room, or cannot be written.
    """

    def no_room() -> StorageError:
        free = shutil.disk_usage(folder).free
        return StorageError(
            f"{folder} has {in_bytes(free, none='0 B')} free, but {need} "
            f"{in_bytes(size)} there. {remedy}"
        )

    if shutil.disk_usage(folder).free < size:
        raise no_room()
    with storage.explained(str(folder), action="written"):
        file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix="raydrgn-")  # noqa: SIM115
        try:
            reserve(file.fileno(), size)
        except OSError as error:
            file.close()
            if error.errno in NO_ROOM:
                raise no_room() from error
            raise
    return file
