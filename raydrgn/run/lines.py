"""Text files that grow by lines, on a local disk or in an object store.

An object cannot grow. In a store the lines of ``metrics.jsonl`` are in several objects:
``metrics.jsonl``, and when that is full ``metrics.jsonl.0001`` and so on, so that writing some more
lines never means to write all lines again.
"""

import re
import time
from collections.abc import Callable

from raydrgn.io import storage
from raydrgn.io.storage import Uri

FLUSH_SECONDS = 10.0
"""Longest time that lines for an object store are held back, while more of them come."""

SEGMENT_BYTES = 256 << 10
"""Size from which on an object is full: about a thousand rows of metrics."""


class LineFile:
    """Adds lines to the end of a file; in an object store, to the last of its objects."""

    def __init__(self, uri: Uri) -> None:
        self._uri = uri
        self._pending: list[str] = []
        self._flushed = time.monotonic()
        self._last: tuple[Uri, bytes] | None = None
        """Last object and its content, once they are known."""

    def add(self, line: str) -> None:
        """Add a line; at once to a local file, else within seconds or by ``flush``."""
        if storage.is_local(self._uri):
            path = storage.local_path(self._uri)
            with storage.explained(self._uri, action="written"):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as stream:
                    stream.write(line + "\n")
            return
        self._pending.append(line + "\n")
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the lines that were held back."""
        if self._pending:
            uri, content = self._last or self._read_last()
            if len(content) >= SEGMENT_BYTES:
                uri, content = _next(self._uri, uri), b""
            content += "".join(self._pending).encode()
            storage.write_bytes(uri, content)
            self._last = uri, content
            self._pending.clear()
        self._flushed = time.monotonic()

    def keep(self, is_kept: Callable[[str], bool]) -> None:
        """Remove lines, from the last object to the first; each is whole at any moment."""
        self.flush()
        self._last = None
        for uri in reversed(_segments(self._uri)):
            lines = storage.read_bytes(uri).decode(errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if is_kept(line)]
            if len(kept) == len(lines):
                continue
            if kept or uri == self._uri:
                storage.write_bytes(uri, "".join(kept).encode())
            else:
                storage.remove(uri)

    def _read_last(self) -> tuple[Uri, bytes]:
        found = _segments(self._uri)
        return (found[-1], storage.read_bytes(found[-1])) if found else (self._uri, b"")


def read_lines(uri: Uri) -> list[str]:
    """Return the lines of a file; none if there is no file."""
    content = b"".join(map(storage.read_bytes, _segments(uri)))
    return content.decode(errors="replace").splitlines()


def _segments(uri: Uri) -> list[Uri]:
    """Return the objects of a file in their order; of a local file itself, if it is there."""
    if storage.is_local(uri):
        return [uri] if storage.exists(uri) else []
    folder, name = storage.parent(uri), uri.rsplit("/", 1)[-1]
    pattern = re.compile(rf"{re.escape(name)}(\.\d{{4,}})?")
    found = [entry for entry in storage.list_names(folder) if pattern.fullmatch(entry)]
    return [storage.join(folder, entry) for entry in sorted(found, key=lambda n: (len(n), n))]


def _next(uri: Uri, last: Uri) -> Uri:
    """Return the object after the last one."""
    return f"{uri}.{int(last.removeprefix(uri).lstrip('.') or 0) + 1:04d}"
