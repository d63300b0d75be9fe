"""Files that only one of several writers can make: what one process reserves against all others."""

import errno
import os
import time
from uuid import uuid4

from raydrgn.io import storage
from raydrgn.io.storage import PART_SUFFIX, Uri

SETTLE_SECONDS = 1.0
"""Time after which a store that ignores conditions has the content of the last writer."""

WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems that have no hard links."""


def create(uri: Uri, content: bytes) -> bool:
    """Write a file that must not exist, whole or not at all; return whether this call has made it.

    Of several callers, on any machines, one succeeds. Elsewhere than on a disk the file is written
    on condition that there is none, and then read back, since some stores ignore the condition:
    the last writer has it then.

    Raises:
        StorageError: If the place cannot be written.
    """
    if storage.is_local(uri):
        with storage.explained(uri, action="written"):
            return _create_here(uri, content)
    fs, path = storage.filesystem(uri)
    with storage.explained(uri, action="written"):
        fs.invalidate_cache(path)
        try:
            fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
    time.sleep(SETTLE_SECONDS)
    return storage.read_bytes(uri) == content


def _create_here(uri: Uri, content: bytes) -> bool:
    final = storage.local_path(uri)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f"{final.name}.{uuid4().hex}{PART_SUFFIX}")
    try:
        with part.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(part, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            return _create_without_links(str(final), content)
        return True
    finally:
        part.unlink(missing_ok=True)


def _create_without_links(path: str, content: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    return True
