"""Names of files and folders: local paths, and URLs of what fsspec opens.

Settings name their files by it, so that it loads fsspec only once it is asked about one.
"""

import os
from pathlib import Path

from raydrgn.io.pipes import STANDARD_INPUT

Uri = str
"""A local path or any URL fsspec opens, such as ``s3://bucket/run-07/z.npz``."""


def protocol_of(uri: Uri) -> str | None:
    """Return the protocol of a URL, such as ``s3``; None of a path."""
    import fsspec

    protocol: str | None = fsspec.core.split_protocol(uri)[0]
    return protocol


def is_local(uri: Uri) -> bool:
    """Return whether the path is on a disk of this machine."""
    return protocol_of(uri) in (None, "file", "local")


def local_path(uri: Uri) -> Path:
    """Return a local URI as a path; ``~`` is the home folder, as fsspec reads it, too."""
    import fsspec

    return Path(fsspec.core.strip_protocol(uri) if "://" in uri else os.path.expanduser(uri))


def absolute(uri: Uri | Path, *, base: Uri | None = None) -> Uri:
    """Return a URI that means the same from anywhere: ``~`` and relative paths are resolved."""
    text = os.path.expanduser(str(uri))
    if text == STANDARD_INPUT:
        return text
    if not is_local(text):
        protocol, separator, rest = text.partition("://")
        return f"{protocol}{separator}{rest.rstrip('/')}"
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


def name(uri: Uri) -> str:
    """Return the last name of a path or URL."""
    return uri.rstrip("/").rpartition("/")[2]
