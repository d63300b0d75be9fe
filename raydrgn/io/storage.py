"""Paths and URLs: one way to read and write on a local disk or anything fsspec opens.

Every failure that a user can correct (missing, forbidden, unreachable, full) becomes a
``StorageError`` that names the place and the remedy.
"""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import fsspec

from raydrgn.errors import ConfigError, StorageError

Uri = str
"""A local path or any URL fsspec opens, such as ``s3://bucket/run-07/z.npz``."""

PART_SUFFIX = ".part"


def is_local(uri: Uri) -> bool:
    """Return whether the path is on a disk of this machine."""
    protocol, _ = fsspec.core.split_protocol(uri)
    return protocol in (None, "file", "local")


def local_path(uri: Uri) -> Path:
    """Return a local URI as a path."""
    return Path(fsspec.core.strip_protocol(uri) if "://" in uri else uri)


def absolute(uri: Uri | Path, *, base: Uri | None = None) -> Uri:
    """Return a URI that means the same from anywhere: ``~`` and relative paths are resolved."""
    text = os.path.expanduser(str(uri))
    if not is_local(text):
        return text
    path = local_path(text)
    if path.is_absolute():
        return str(path)
    if base is not None and not is_local(base):
        return join(base, str(path))
    return os.path.abspath(path if base is None else Path(base) / path)


def join(root: Uri, *names: str) -> Uri:
    """Append names to a folder."""
    return "/".join([root.rstrip("/"), *names])


def parent(uri: Uri) -> Uri:
    """Return the folder of a file."""
    return str(local_path(uri).parent) if is_local(uri) else uri.rsplit("/", 1)[0]


def filesystem(uri: Uri) -> tuple[Any, str]:
    """Return fsspec's file system of a URI, and the path on it."""
    try:
        return fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise StorageError(
            f"{uri} cannot be opened: {error}. Install the fsspec package of this protocol, "
            "for instance s3fs for s3://."
        ) from error


def _current(uri: Uri) -> tuple[Any, str]:
    """Return the file system of a URI and the path on it, without listings from earlier."""
    fs, path = filesystem(uri)
    if not is_local(uri):
        fs.invalidate_cache(path)
    return fs, path


@contextmanager
def explained(uri: Uri, *, action: str) -> Iterator[None]:
    """Turn the operating system's errors about ``uri`` into one with a remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{uri} {_absence(uri)}") from error
    except PermissionError as error:
        raise StorageError(f"{uri} may not be {action}; check its permissions.") from error
    except (FileExistsError, NotADirectoryError) as error:
        place = error.filename or uri
        raise StorageError(f"{uri} cannot be {action}: {place} is a file, not a folder.") from error
    except IsADirectoryError as error:
        raise StorageError(f"{uri} cannot be {action}: {error.strerror}.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"No room is left to write {uri}. What was finished before stays valid; free "
                "space and run the same command again."
            ) from error
        raise StorageError(f"{uri} cannot be {action}: {error}.") from error


def _absence(uri: Uri) -> str:
    """Describe a file that is not there: a link to nowhere is another matter than a wrong path."""
    if is_local(uri) and os.path.islink(local_path(uri)):
        target = os.readlink(local_path(uri))
        annex = "; get the file with `git annex get`" if "annex/objects" in target else ""
        return f"is a link to {target}, which does not exist{annex}."
    return "does not exist; check the path."


def exists(uri: Uri) -> bool:
    """Return whether a file or folder is there now."""
    fs, path = _current(uri)
    with explained(uri, action="read"):
        return bool(fs.exists(path))


def is_folder(uri: Uri) -> bool:
    """Return whether the URI is a folder."""
    fs, path = filesystem(uri)
    with explained(uri, action="read"):
        return bool(fs.isdir(path))


def list_names(folder: Uri) -> list[str]:
    """Return the names that a folder has now, sorted; none if there is no folder."""
    fs, path = _current(folder)
    with explained(folder, action="read"):
        if not fs.isdir(path):
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(path, detail=False))


def list_files(folder: Uri) -> list[str]:
    """Return the files in a folder and those below it, by their paths from it, sorted."""
    fs, path = _current(folder)
    with explained(folder, action="read"):
        if not fs.isdir(path):
            return []
        root = path.rstrip("/") + "/"
        return sorted(found.removeprefix(root) for found in fs.find(path))


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
    fs, path = filesystem(uri)
    with explained(uri, action="read"):
        return int(fs.size(path))


def modified(uri: Uri) -> datetime:
    """Return the time of the last change of a file."""
    fs, path = filesystem(uri)
    with explained(uri, action="read"):
        return fs.modified(path)


def stamp(uri: Uri) -> str:
    """Return size and time of the last change of a file: another stamp is another content."""
    fs, path = filesystem(uri)
    with explained(uri, action="read"):
        return f"{fs.size(path)} bytes of {fs.modified(path).isoformat()}"


def read_bytes(uri: Uri, start: int = 0, end: int | None = None) -> bytes:
    """Return a range of a file; the whole of it by default."""
    if is_local(uri):
        with explained(uri, action="read"), local_path(uri).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if end is None else end - start)
    fs, path = filesystem(uri)
    with explained(uri, action="read"):
        return bytes(fs.cat_file(path, start=start, end=end))


def make_folder(uri: Uri) -> None:
    """Create a folder and those above it, if they are not there."""
    fs, path = filesystem(uri)
    with explained(uri, action="written"):
        fs.makedirs(path, exist_ok=True)


def remove(uri: Uri) -> None:
    """Delete a file; nothing happens if it is not there. Of a link, the link is deleted.

    Raises:
        StorageError: If it is a folder, a device, a pipe or a socket.
    """
    fs, path = filesystem(uri)
    with explained(uri, action="deleted"):
        if is_local(uri):
            place = local_path(uri)
            if _is_special(place) and not place.is_symlink():
                raise StorageError(f"{uri} is a device, pipe or socket, and is not deleted.")
            place.unlink(missing_ok=True)
        elif fs.exists(path):
            fs.rm(path)


def plain_output(uri: Uri) -> Uri:
    """Return the path of the file that an output leads to: links are followed, and stay.

    For files that are written in pieces, and so cannot go through ``atomic_write``.

    Raises:
        StorageError: If it is a folder, a device, a pipe or a socket.
    """
    if not is_local(uri):
        return uri
    path = local_path(uri)
    if path.is_dir() or _is_special(path):
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
        if is_local(uri) and not _is_special(local_path(uri)):
            final = Path(os.path.realpath(local_path(uri)))
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            part = final.with_name(f"{final.name}.{uuid4().hex}{PART_SUFFIX}")
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
        else:
            with tempfile.TemporaryFile() as stream:
                yield stream
                stream.seek(0)
                with _open_in_place(uri) as remote:
                    shutil.copyfileobj(stream, remote)
            if check is not None and not is_local(uri):
                check(uri)


def _is_special(path: Path) -> bool:
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


def _open_in_place(uri: Uri) -> Any:
    return local_path(uri).open("wb") if is_local(uri) else fsspec.open(uri, "wb")


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
    while not path.exists():
        path = path.parent
    with explained(str(path), action="read"):
        free = shutil.disk_usage(path).free + released
    if needed > free:
        raise StorageError(
            f"{path} has {free / 1e9:.1f} GB of room, but {needed / 1e9:.1f} GB are needed. Free "
            f"space, choose another folder{remedy}."
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
        if getattr(error.__cause__, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS):
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
