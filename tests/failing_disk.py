"""A disk that fails for a moment: calls of the operating system about one path raise an error."""

import errno
import os
from pathlib import Path


def fail_at(monkeypatch, path, code=errno.EIO, *, times=None):
    """Let looking at a file or folder, listing and opening it fail, as often as given or always."""
    left = [times]

    def failing(call):
        def changed(place=".", *args, **kwargs):
            is_path = isinstance(place, str | os.PathLike)
            if is_path and os.fspath(place).rstrip("/") == str(path) and left[0] != 0:
                left[0] = left[0] and left[0] - 1
                raise OSError(code, os.strerror(code), str(path))
            return call(place, *args, **kwargs)

        return changed

    for name in ("stat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    monkeypatch.setattr(Path, "open", failing(Path.open))
