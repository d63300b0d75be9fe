"""Paths and URLs: one way to read and write on a local disk or anything fsspec opens.

Every failure that a user can correct (missing, forbidden, unreachable, full) becomes a
``StorageError`` that names the place and the remedy.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

from raydrgn.errors import ConfigError, StorageError, StorageFailureError
from raydrgn.io import object_store, presence
from raydrgn.io.local_failures import absence as absence
from raydrgn.io.local_failures import failure_message, may_pass
from raydrgn.io.local_files import PART_SUFFIX as PART_SUFFIX
from raydrgn.io.local_files import give_second_name, is_special, part_name
from raydrgn.io.object_store import filesystem as filesystem
from raydrgn.io.object_store import persistently
from raydrgn.io.pipes import STANDARD_INPUT, read_pipe
from raydrgn.io.uri import Uri as Uri
from raydrgn.io.uri import absolute as absolute
from raydrgn.io.uri import is_local as is_local
from raydrgn.io.uri import join as join
from raydrgn.io.uri import local_path as local_path
from raydrgn.io.uri import name as name
from raydrgn.io.uri import parent as parent
from raydrgn.wording import in_bytes

Answer = TypeVar("Answer")


def _ask(uri: Uri, question: Callable[[Any, str], Answer], *, action: str = "read") -> Answer:
    """Return the answer of a file system about a path on it, without listings from earlier."""
    with explained(uri, action=action):
        fs, path = filesystem(uri)
        if is_local(uri):
            return question(fs, path)
        fs.invalidate_cache(path)
        return persistently(lambda: question(fs, path), uri)


@contextmanager
def explained(uri: Uri, *, action: str) -> Iterator[None]:
    """Turn errors of the operating system, or of a store, about ``uri`` into one with a remedy.

    Raises:
        StorageFailureError: If the same may succeed in a while.
        StorageError: If it would fail again.
    """
    try:
        yield
    except Exception as error:
        message = None if is_local(uri) else object_store.failure_message(uri, error, action=action)
        if message is None and isinstance(error, OSError):
            message = failure_message(uri, error, action)
        if message is None:
            raise
        is_passing = may_pass(error) or (not is_local(uri) and object_store.is_transient(error))
        raise (StorageFailureError if is_passing else StorageError)(message) from error


def exists(uri: Uri) -> bool:
    """Return whether a file or folder is there now.

    Raises:
        StorageError: If that cannot be known: the place is closed to the user, or fails.
    """
    return _ask(uri, presence.exists)


def is_at_hand(uri: Uri) -> bool:
    """Return whether what a record names is there for this user: not in another user's folder.

    Raises:
        StorageError: If that cannot be known, since the place fails.
    """
    try:
        return exists(uri)
    except StorageError as error:
        if isinstance(error.__cause__, PermissionError):
            return False
        raise


def is_pipe(uri: Uri) -> bool:
    """Return whether the URI is standard input, a pipe or a device, which can be read once only."""
    return uri == STANDARD_INPUT or (is_local(uri) and is_special(local_path(uri)))


def is_folder(uri: Uri) -> bool:
    """Return whether the URI is a folder.

    Raises:
        StorageError: If that cannot be known.
    """
    return _ask(uri, presence.is_folder)


def list_names(folder: Uri) -> list[str]:
    """Return the names that a folder has now, sorted; none if there is no folder.

    Raises:
        StorageError: If they cannot be listed.
    """
    return _ask(folder, presence.names)


def list_files(folder: Uri) -> list[str]:
    """Return the files in a folder and those below it, by their paths from it, sorted.

    Raises:
        StorageError: If they cannot be listed.
    """
    return _ask(folder, presence.files)


def remove_empty_folders(folder: Uri) -> None:
    """Delete what is empty among the folders below a local one; object stores have no folders."""
    if not is_local(folder):
        return
    with explained(folder, action="deleted"):
        for place, _, _ in os.walk(local_path(folder), topdown=False):
            if Path(place) != local_path(folder) and not any(Path(place).iterdir()):
                Path(place).rmdir()


def file_size(uri: Uri) -> int:
    """Return the size of a file in bytes."""
    return _ask(uri, lambda fs, path: int(fs.size(path)))


def modified(uri: Uri) -> datetime:
    """Return the time of the last change of a file."""
    return _ask(uri, lambda fs, path: fs.modified(path))


def stamp(uri: Uri) -> str:
    """Return what tells versions of a file apart: size and time of its last change.

    Of an object all that its store knows of it, since its time counts in seconds.
    """
    if not is_local(uri):
        return _ask(uri, lambda fs, path: str(fs.ukey(path)))
    return _ask(uri, lambda fs, path: f"{fs.size(path)} bytes of {fs.modified(path).isoformat()}")


def read_bytes(uri: Uri, start: int = 0, end: int | None = None) -> bytes:
    """Return a range of a file; the whole of it by default."""
    with explained(uri, action="read"):
        return _range(uri, start, end)


def read_if_there(uri: Uri) -> bytes | None:
    """Return the content of a file; None if there is none.

    Raises:
        StorageError: If it cannot be read for another reason than that it is absent.
    """
    with explained(uri, action="read"), suppress(*presence.ABSENT):
        return _range(uri, 0, None)
    return None


def _range(uri: Uri, start: int, end: int | None) -> bytes:
    if not is_local(uri):
        return object_store.read_range(uri, start, end)
    if is_pipe(uri):
        return read_pipe(uri)[start:end]
    with local_path(uri).open("rb") as stream:
        stream.seek(start)
        return stream.read(-1 if end is None else end - start)


def make_folder(uri: Uri) -> None:
    """Create a folder and those above it, if they are not there; buckets are never created."""
    if object_store.has_folders(uri):
        _ask(uri, lambda fs, path: fs.makedirs(path, exist_ok=True), action="written")


def remove(uri: Uri) -> None:
    """Delete a file; nothing happens if it is not there. Of a link, the link is deleted.

    Raises:
        StorageError: If it is a folder, a device, a pipe or a socket.
    """
    if not is_local(uri):
        _ask(uri, lambda fs, at: presence.exists(fs, at) and fs.rm_file(at), action="deleted")
        return
    with explained(uri, action="deleted"):
        place = local_path(uri)
        if is_special(place) and not place.is_symlink():
            raise StorageError(f"{uri} is a device, pipe or socket, and is not deleted.")
        place.unlink(missing_ok=True)


def plain_output(uri: Uri) -> Uri:
    """Return the path of the file that an output leads to: links are followed, and stay.

    For files that are written in pieces, and so cannot go through ``atomic_write``.

    Raises:
        StorageError: If it is a folder, a device, a pipe or a socket.
    """
    if not is_local(uri):
        return uri
    path = local_path(uri)
    if path.is_dir() or is_special(path):
        kind = "a folder" if path.is_dir() else "a device, pipe or socket"
        raise StorageError(f"{uri} is {kind}; give the name of a file.")
    return os.path.realpath(path)


def refuse_to_replace(out: Uri, inputs: Iterable[Uri]) -> None:
    """Refuse an output that is one of the files that are read, by its name or through links.

    Raises:
        ConfigError: Naming both.
    """
    place = _real(out)
    for uri in inputs:
        if uri and _real(uri) == place:
            raise ConfigError(f"{out} would replace {uri}, which is read; choose another name.")


def refuse_same_output(outputs: Sequence[Uri]) -> None:
    """Refuse two outputs of one command that are one file, through links too; but for devices."""
    for i, out in enumerate(outputs):
        same = [uri for uri in outputs[:i] if _real(uri) == _real(out)]
        if same and not (is_local(out) and is_special(local_path(out))):
            raise ConfigError(f"{out} is given for two outputs; give each a name of its own.")


def _real(uri: Uri) -> Uri:
    return os.path.realpath(local_path(uri)) if is_local(uri) else uri


@contextmanager
def atomic_write(uri: Uri, *, check: Callable[[Uri], None] | None = None) -> Iterator[IO[bytes]]:
    """Open ``uri`` so that readers see the old file or the whole new one, never a part.

    A local file is written beside its destination and renamed on success; its content is on the
    disk when the block ends, its name after ``sync_folder``. A link is followed, and stays.
    Elsewhere the file is written to a temporary one and uploaded on success, since closing a remote
    stream commits whatever it has, even after an error. A device, pipe or socket is never renamed
    over: it receives the content as it is.

    Args:
        uri: File to write.
        check: Called with the place of the whole new file; if it raises, a local file is not put
            in the place of the old one.

    Raises:
        StorageError: If the file cannot be written; the old one, if any, is left as it was.
    """
    with explained(uri, action="written"):
        if is_local(uri) and not is_special(local_path(uri)):
            final = Path(os.path.realpath(local_path(uri)))
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            part = final.with_name(part_name(final.name))
            try:
                with part.open("xb") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                if check is not None:
                    check(str(part))
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)
        elif is_local(uri):
            with tempfile.TemporaryFile() as stream:
                yield stream
                stream.seek(0)
                with local_path(uri).open("wb") as place:
                    shutil.copyfileobj(stream, place)
        else:
            with tempfile.NamedTemporaryFile(prefix="raydrgn-upload-") as stream:
                yield stream
                stream.flush()
                object_store.upload(uri, stream.name)
            if check is not None:
                check(uri)


def create_exclusively(uri: Uri, content: bytes) -> bool:
    """Create a file with its whole content; return False, and change nothing, if it is there.

    Of several processes that do this at the same moment one gets True. The content must tell them
    apart: on an object store it is read back.
    """
    with explained(uri, action="written"):
        if not is_local(uri):
            return object_store.create_exclusively(uri, content)
        final = local_path(uri)
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(part_name(final.name))
        try:
            part.write_bytes(content)
            sync(str(part))
            if not give_second_name(part, final):  # renaming would replace what has the name
                return False
        finally:
            part.unlink(missing_ok=True)
        sync_folder(str(final.parent))
        return True


def require_room(folder: Uri, needed: int, *, remedy: str, released: int = 0) -> None:
    """Refuse to begin what the disk cannot hold; nothing is known of room elsewhere than here.

    Args:
        folder: Where to write; it may not exist yet.
        needed: Bytes to write.
        remedy: What else the user can do than free space.
        released: Bytes of files there that will be replaced.

    Raises:
        StorageError: If the disk has less room.
    """
    if not is_local(folder):
        return
    path = local_path(folder).absolute()
    with explained(folder, action="read"):
        while not path.exists():
            path = path.parent
        free = shutil.disk_usage(path).free + released
    if needed > free:
        room = in_bytes(free, none="0 B")
        choices = f"choose another folder{remedy}" if remedy else "or choose another folder"
        raise StorageError(
            f"{path} has {room} of room, but {in_bytes(needed)} are needed. Free space, {choices}."
        )


def sync(uri: Uri) -> None:
    """Wait until a local file's content is on the disk."""
    with explained(uri, action="written"):
        descriptor = os.open(local_path(uri), os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Uri) -> None:
    """Wait until the names in a folder are on the disk; elsewhere than here they are at once."""
    if not is_local(folder):
        return
    with explained(folder, action="written"):
        descriptor = os.open(local_path(folder), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def require_writable(folder: Uri) -> None:
    """Make a folder, and write and delete a small file in it.

    Raises:
        StorageError: If that is not possible.
    """
    make_folder(folder)
    probe = join(folder, f"write-test.{uuid4().hex}{PART_SUFFIX}")
    try:
        write_bytes(probe, b"raydrgn")
    except StorageError as error:
        closed = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)  # the last of autofs
        if getattr(error.__cause__, "errno", None) in closed:
            raise StorageError(
                f"{folder} may not be written: it belongs to another user, or is read-only. Choose "
                "another folder, or have its permissions changed."
            ) from error
        raise
    remove(probe)


def write_bytes(uri: Uri, content: bytes, *, check: Callable[[Uri], None] | None = None) -> None:
    """Write a whole file, or nothing; ``check`` is as in ``atomic_write``."""
    with atomic_write(uri, check=check) as stream:
        stream.write(content)


def checksum(content: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
