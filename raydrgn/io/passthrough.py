"""cryoSPARC's two files of one job, joined by uid.

A job writes what it has computed into one .cs file, and what it has taken over from earlier jobs,
such as the places of the images, into a passthrough file, in an order of its own.
"""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.arrays import read_array
from raydrgn.io.indices import rows_of_numbers
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri

log = logging.getLogger(__name__)

JOB = re.compile(r"(?:^|_)(J\d+)(?=_|$)")
PASSTHROUGH = "passthrough"
OTHER_OUTPUTS = ("micrograph", "exposure", "movie", "volume", "mask", "template")
"""Words in the names of passthrough files that are not of particles."""

NEEDED = ("blob/path", "ctf/df1_A", "alignments3D/pose")
"""One field of each part that a data set has: images, CTF, poses."""


def read_rows(uri: Uri) -> np.ndarray:
    """Read a .cs file as it is: one row of named fields per particle.

    Raises:
        InputError: If it is no such file.
    """
    rows = read_array(uri, wanted="a .cs file of cryoSPARC")
    if rows.ndim != 1 or not rows.dtype.names:
        raise InputError(f"{uri} is not a .cs file: it holds no table of named fields.")
    return rows


def read_joined(
    uri: Uri, passthrough: Sequence[Uri] = (), *, needed: Sequence[str] = NEEDED
) -> tuple[np.ndarray, tuple[Uri, ...]]:
    """Read a .cs file with what its passthrough files add, in the order of its own rows.

    Args:
        uri: The .cs file.
        passthrough: Its passthrough files. If none is given and a field that is needed is missing,
            one is looked for beside the file, by the names that cryoSPARC gives.
        needed: Fields that are needed: one each of images, CTF and poses.

    Returns:
        The rows, and the passthrough files that were used.

    Raises:
        InputError: If a particle is in no passthrough file, or in one twice.
    """
    rows = read_rows(uri)
    if passthrough:
        for other in passthrough:
            rows = _join(rows, read_rows(other), uri, other)
        return rows, tuple(passthrough)
    names = rows.dtype.names or ()
    if len(rows) and "uid" in names and any(field not in names for field in needed):
        for other in passthrough_names(uri):
            more = read_rows(other)
            if not set(more.dtype.names or ()) & (set(needed) - set(names)):
                continue
            try:
                joined = _join(rows, more, uri, other)
            except InputError as error:
                log.info("%s is not used: %s", other, error)
                continue
            log.info("%s: what is missing is read from %s, joined by uid", uri, other)
            return joined, (other,)
    return rows, ()


def passthrough_of(table: ParticleTable) -> tuple[Uri, ...]:
    """Return the passthrough files with which a table was read from a .cs file."""
    return tuple(json.loads(table.metadata.get("passthrough", "[]")))


def passthrough_names(uri: Uri) -> list[Uri]:
    """Return the passthrough files of particles beside a .cs file that are of the same job.

    Where the name of the .cs file has no job, and no other such name either, those of any job.
    """
    folder, name = storage.parent(uri), PurePosixPath(uri).name
    job = _job(name)
    found = [
        other
        for other in storage.list_names(folder)
        if other.endswith(".cs") and PASSTHROUGH in other and other != name
        if not any(word in other for word in OTHER_OUTPUTS)
    ]
    same = [other for other in found if _job(other) == job]
    return [storage.join(folder, other) for other in (same or (found if job is None else []))]


def _job(name: str) -> str | None:
    found = JOB.search(PurePosixPath(name).stem)
    return found.group(1) if found else None


def _join(rows: np.ndarray, more: np.ndarray, uri: Uri, other: Uri) -> np.ndarray:
    """Return rows with the fields that another file has more, found by uid."""
    for place, table in ((uri, rows), (other, more)):
        if "uid" not in (table.dtype.names or ()):
            raise InputError(f"{place} has no field uid, by which its rows could be joined.")
    ordered = np.sort(more["uid"])
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if twice.size:
        raise InputError(f"{other} has the uid {ordered[twice[0]]} twice.")
    if not len(more):
        raise InputError(f"{other} lists no particles.")
    found = rows_of_numbers(more["uid"], rows["uid"])
    missing = np.flatnonzero(found < 0)
    if missing.size:
        raise InputError(
            f"{missing.size:,} of {len(rows):,} particles of {uri} are not in {other}, first uid "
            f"{rows['uid'][missing[0]]}. Take the passthrough file of the same job."
        )
    own = rows.dtype.names or ()
    added = [name for name in more.dtype.names or () if name not in own]
    kinds = [(name, rows.dtype[name]) for name in own] + [
        (name, more.dtype[name]) for name in added
    ]
    joined = np.empty(len(rows), dtype=kinds)
    for name in own:
        joined[name] = rows[name]
    for name in added:
        joined[name] = more[name][found]
    return joined
