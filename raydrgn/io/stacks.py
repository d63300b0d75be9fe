"""Where the stacks of a metadata file are, and whether they are what the file says.

Paths in STAR and .cs files are relative to a project folder that nobody names. They are looked for
as written, then below ``--datadir`` by full and by base name, or, without it, in the same two ways
below the metadata file's own folder, and by full name below each folder above it.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.mrc import MrcHeader, read_header
from raydrgn.io.star import line_of
from raydrgn.io.storage import Uri
from raydrgn.shapes import Int

log = logging.getLogger(__name__)

HEADER_THREADS = 16  # reading headers is waiting, mostly


def find_stacks(names: Sequence[str], *, source: Uri, datadir: Uri | None) -> list[Uri]:
    """Return the absolute place of each stack that a metadata file names.

    Raises:
        InputError: If one is nowhere; lists what was tried, and the line of the file.
    """
    return [_find(name, source=source, datadir=datadir) for name in names]


def _find(name: str, *, source: Uri, datadir: Uri | None) -> Uri:
    if not storage.is_local(name):
        return name
    tried = _candidates(name, source=source, datadir=datadir)
    for place in tried:
        if storage.exists(place):
            return place
    line = line_of(source, name) if not source.endswith(".cs") else None
    where = f"{source}, line {line}," if line else source
    raise InputError(
        f"{where} names the stack {name}, which is at none of: {'; '.join(tried)}. "
        "Say where the stacks are with --datadir."
    )


def _candidates(name: str, *, source: Uri, datadir: Uri | None) -> list[Uri]:
    base = PurePosixPath(name).name
    own = storage.parent(source)
    if datadir:
        roots = [storage.join(datadir, name.lstrip("/")), storage.join(datadir, base)]
    else:
        above = list(Path(own).parents) if storage.is_local(own) else []
        roots = [storage.join(own, name), storage.join(own, base)]
        if not name.startswith("/"):
            roots += [storage.join(str(folder), name) for folder in above]
    first = [storage.absolute(name)] if storage.is_local(source) or name.startswith("/") else []
    return list(dict.fromkeys([*first, *roots]))


def read_headers(stacks: Sequence[Uri]) -> list[MrcHeader]:
    """Read the headers of many stacks, several at a time; the first broken one is an error."""
    if len(stacks) == 1:
        return [read_header(stacks[0])]
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        return list(pool.map(read_header, stacks))


def check_slices(
    headers: Sequence[MrcHeader],
    codes: Int[np.ndarray, " n"],
    slices: Int[np.ndarray, " n"],
    *,
    source: Uri,
) -> Int[np.ndarray, " n"]:
    """Check that every particle's slice is in its stack, and return the box of each particle.

    Raises:
        InputError: If images are not square, or a slice lies beyond the end of its stack.
    """
    for header in headers:
        if header.shape[1] != header.shape[2]:
            raise InputError(
                f"{header.uri} has images of {header.shape[1]}×{header.shape[2]} px; particles "
                "must be square."
            )
    counts = np.array([header.shape[0] for header in headers])
    beyond = np.flatnonzero((slices < 0) | (slices >= counts[codes]))
    if beyond.size:
        row = beyond[0]
        raise InputError(
            f"{source}, particle {row}: slice {slices[row] + 1} of {headers[codes[row]].uri}, "
            f"which has {counts[codes[row]]} slices ({beyond.size} such particles). The metadata "
            "belong to another stack."
        )
    return np.array([header.shape[2] for header in headers], dtype=np.int32)[codes]
