"""Text files that grow by lines, on a local disk or in an object store."""

import time

from raydrgn.io import storage
from raydrgn.io.storage import Uri

FLUSH_SECONDS = 60.0
"""Longest time that lines for an object store are held back, while more of them come."""


class LineFile:
    """Adds lines to the end of a file.

    A local file grows with every line. An object in a store cannot grow: it is written whole, so
    that its lines are collected and written together.
    """

    def __init__(self, uri: Uri) -> None:
        self._uri = uri
        self._pending: list[str] = []
        self._flushed = time.monotonic()

    def add(self, line: str) -> None:
        """Add a line; at once to a local file, else within a minute or by ``flush``."""
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
            old = storage.read_bytes(self._uri) if storage.exists(self._uri) else b""
            storage.write_bytes(self._uri, old + "".join(self._pending).encode())
            self._pending.clear()
        self._flushed = time.monotonic()
