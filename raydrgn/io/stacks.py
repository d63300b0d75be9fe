"""Which stacks a particle file means, and whether they fit it.

Names of stacks in STAR and .cs files are relative to a project folder that nobody names. A name is
looked for in these places, and the first one where there is a file is meant:

1. below ``--datadir``, by its full name; of an absolute name, what is left of it after some of its
   first folders, the longest rest first, but never the base name alone;
2. as it is, if it is absolute;
3. by its full name in the folder of the particle file;
4. by its full name in one of the folders above that, or in the current folder. If several of
   these have such a file, and not the same one, the name is refused as ambiguous. Then, if the
   particle file is reached by a link, in the folders above the file that the link leads to;
5. below ``--datadir``, by what is left of it after some of its first folders, the longest rest
   first, down to its base name;
6. without ``--datadir``, by its base name in the folder of the particle file.

So a full name anywhere is better than a base name, what the user gives is better than where the
command runs, and what raydrgn writes leads to the same images from anywhere. Two names that lead to
one stack are refused if a shortened name had a part in it: one of the two is another stack. Names
that differ in spelling alone (``./a.mrcs``), and links, are one stack.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from raydrgn.errors import InputError, StorageError
from raydrgn.io import storage
from raydrgn.io.mrc import MrcHeader, read_header
from raydrgn.io.particle_checks import RowError
from raydrgn.io.particles import ParticleTable
from raydrgn.io.star import line_of
from raydrgn.io.starrows import read_text_star
from raydrgn.io.storage import Uri
from raydrgn.shapes import Int

log = logging.getLogger(__name__)

HEADER_THREADS = 16  # reading headers is waiting, mostly
RELION_STACK = ":mrcs"
"""What RELION writes behind a name that does not end in ``.mrcs``, to read it as a stack."""


class StackNotFoundError(InputError):
    """A stack that a particle file names is nowhere."""


class _Place(NamedTuple):
    """A file that a name leads to."""

    uri: Uri
    identity: object
    """The same for two names of one file, links included."""

    is_full_name: bool


def without_format(name: str) -> str:
    """Return a name without the ``:mrcs`` with which RELION reads other suffixes as stacks."""
    return name.removesuffix(RELION_STACK)


def find_stacks(
    names: Sequence[str], *, source: Uri, datadir: Uri | None, required: bool = True
) -> list[Uri]:
    """Return the absolute place of each stack that a metadata file names, by the rule above.

    Args:
        names: Names as the file has them.
        source: The file.
        datadir: Folder of the stacks, if the user gave one.
        required: Whether each stack must be there; if not, the name of a missing one is returned
            as it is.

    Raises:
        InputError: If one is nowhere, a name could mean two stacks, or two names lead to one by
            a shortened name; names the places, and the ``--datadir`` that helps.
    """
    if datadir and storage.is_local(datadir) and not storage.is_folder(datadir):
        raise InputError(f"--datadir {datadir} is not a folder; give the folder of the stacks.")
    search = _Search(source, datadir)
    found = [search.find(name) for name in names]
    _refuse_shared(names, found, search)
    first: dict[object, Uri] = {}
    places = []
    for name, place in zip(names, found, strict=True):
        if place is None and required:
            tried = "; ".join(search.candidates(name))
            raise StackNotFoundError(
                f"{_where(source, name)} names the stack {name}, which is at none of: {tried}. "
                f"{_dangling(search.candidates(name))}Give their folder with --datadir."
            )
        places.append(name if place is None else first.setdefault(place.identity, place.uri))
    return places


def leads_there(name: str, place: Uri, *, source: Uri) -> bool:
    """Return whether a name in a file ``source`` leads to a stack, wherever the command runs.

    The file need not exist yet.
    """
    try:
        found = _Search(source, None, here=False).find(name)
    except (InputError, StorageError):  # ambiguous, or so in a file that is not there yet
        return False
    if found is None or not found.is_full_name:
        return False
    return found.uri == place or _is_same_file(found.uri, place)


def _is_same_file(first: Uri, second: Uri) -> bool:
    """Return whether two names are of one local file that exists."""
    is_local = storage.is_local(first) and storage.is_local(second)
    paths = [storage.local_path(uri) for uri in (first, second)] if is_local else []
    return is_local and all(map(os.path.exists, paths)) and os.path.samefile(*paths)


class _Search:
    """The places in which the stacks of one particle file are looked for."""

    def __init__(self, source: Uri, datadir: Uri | None, *, here: bool = True) -> None:
        self.source = source
        self.datadir = datadir
        self.own = storage.parent(source)
        self._others: list[str] = []
        self._of_target: list[str] = []
        if storage.is_local(source):
            above = [str(folder) for folder in Path(self.own).parents]
            self._others = list(dict.fromkeys([*above, *([os.getcwd()] if here else [])]))
            if self.own in self._others:  # the current folder
                self._others.remove(self.own)
            known = {self.own, *self._others}
            target = Path(os.path.realpath(storage.local_path(source)))  # of a link
            self._of_target = [str(above) for above in target.parents if str(above) not in known]
        self._folders: dict[str, bool] = {}

    def find(self, name: str) -> _Place | None:
        """Return where a stack is, or None."""
        name = _without_protocol(name)
        is_absolute = _is_absolute(name)
        if not storage.is_local(name) and not self.datadir:
            return _Place(name, name, True)  # not asked for here: headers are, many at a time
        shortened = _shortened(name) if self.datadir else []
        if self.datadir:
            rests = shortened[:-1] if is_absolute else [name]
            if place := self._first(self.datadir, rests, is_full_name=not is_absolute):
                return place
        if place := self._by_full_name(name, is_absolute=is_absolute):
            self._warn_of_unused(name, place, shortened)
            return place
        if self.datadir:
            return self._first(self.datadir, shortened, is_full_name=False)
        return self._first(self.own, [PurePosixPath(name).name], is_full_name=False)

    def candidates(self, name: str) -> list[Uri]:
        """Return every place that ``find`` looks at, in order."""
        name = _without_protocol(name)
        base = PurePosixPath(name).name
        full = [name] if _is_absolute(name) else self._full_names(name)
        if self.datadir is None:
            return list(dict.fromkeys([*full, storage.join(self.own, base)]))
        below = [storage.join(self.datadir, rest) for rest in [name.lstrip("/"), *_shortened(name)]]
        return list(dict.fromkeys([below[0], *full, *below[1:]]))

    def _full_names(self, name: str) -> list[Uri]:
        folders = (self.own, *self._others, *self._of_target)
        return [storage.join(folder, name) for folder in folders]

    def _by_full_name(self, name: str, *, is_absolute: bool) -> _Place | None:
        if is_absolute:
            return self._at(name, is_full_name=True)
        if place := self._at(storage.join(self.own, name), is_full_name=True):
            return place
        found = self._all_below(self._others, name) or self._all_below(self._of_target, name)
        if len(found) > 1:
            (one, place), (other, second), *_ = found.values()
            raise InputError(
                f"{_where(self.source, name)} names the stack {name}, which is both {place.uri} "
                f"and {second.uri}. Choose one of them with --datadir {one} or --datadir {other}."
            )
        return next((place for _, place in found.values()), None)

    def _all_below(self, folders: Sequence[str], name: str) -> dict[object, tuple[str, _Place]]:
        """Return the different files of a name below some folders, with the folder of each."""
        found: dict[object, tuple[str, _Place]] = {}
        first = PurePosixPath(name).parts[0] if name else ""
        for folder in folders:
            if not self._has(folder, first):
                continue
            if place := self._at(storage.join(folder, name), is_full_name=True):
                found.setdefault(place.identity, (folder, place))
        return found

    def _has(self, folder: str, name: str) -> bool:
        """Return whether a folder has an entry; the first folders of all names are few."""
        place = storage.join(folder, name)
        if place not in self._folders:
            self._folders[place] = os.path.lexists(place)
        return self._folders[place]

    def _first(self, folder: Uri, rests: Sequence[str], *, is_full_name: bool) -> _Place | None:
        places = (self._at(storage.join(folder, rest), is_full_name=is_full_name) for rest in rests)
        return next((place for place in places if place), None)

    def _at(self, uri: Uri, *, is_full_name: bool) -> _Place | None:
        if not storage.is_local(uri):
            return _Place(uri, uri, is_full_name) if storage.is_at_hand(uri) else None
        uri = str(storage.local_path(uri))
        try:
            status = os.stat(uri)
        except (OSError, ValueError):  # absent, or no name of a file
            return None
        identity = (status.st_dev, status.st_ino)
        plain = os.path.normpath(uri)  # wrong where ``..`` follows a link
        if plain != uri and not _is_same_file(plain, uri):
            plain = os.path.realpath(uri)
        return _Place(plain, identity, is_full_name)

    def _warn_of_unused(self, name: str, place: _Place, shortened: Sequence[str]) -> None:
        if not self.datadir:
            return
        other = self._first(self.datadir, shortened, is_full_name=False)
        if other is not None and other.identity != place.identity:
            log.warning(
                "%s: the stack %s is read from %s; %s has only a part of its name",
                *(self.source, name, place.uri, other.uri),
            )

    def folder_of_all(self, names: Sequence[str], place: Uri) -> str | None:
        """Return a folder around a place below which each name is found in full."""
        if not storage.is_local(place):
            return None
        for folder in Path(place).parents:
            if all((folder / name.lstrip("/")).exists() for name in names):
                return str(folder)
        return None


def _without_protocol(name: str) -> str:
    """Return the path of a ``file://`` URL; other names as they are."""
    return str(storage.local_path(name)) if "://" in name and storage.is_local(name) else name


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or not storage.is_local(name)


def _shortened(name: str) -> list[str]:
    """Return what is left of a name without its first folders, the longest rest first."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    return ["/".join(parts[i:]) for i in range(0 if name[:1] in "/." else 1, len(parts))] or [name]


def _refuse_shared(names: Sequence[str], found: Sequence[_Place | None], search: _Search) -> None:
    """Refuse two names for one stack, unless both are full names of it."""
    first: dict[object, int] = {}
    for i, place in enumerate(found):
        if place is None:
            continue
        j = first.setdefault(place.identity, i)
        other = found[j]
        if i == j or other is None or (place.is_full_name and other.is_full_name):
            continue
        if os.path.normpath(names[i]) == os.path.normpath(names[j]):
            continue
        folder = search.folder_of_all([names[j], names[i]], place.uri)
        raise InputError(
            f"{search.source} names two stacks, {names[j]} and {names[i]}, but {place.uri} is the "
            "only one found for both, by a part of their names. "
            + (
                f"Give --datadir {folder}, where both are."
                if folder
                else "Give the folder that has both, by these names, with --datadir."
            )
        )


def _dangling(places: Sequence[Uri]) -> str:
    """Return a sentence on the first of some places that is a link to nowhere; else nothing."""
    link = next((p for p in places if storage.is_local(p) and os.path.islink(p)), None)
    return f"{link} {storage.absence(link)} " if link else ""


def _where(source: Uri, name: str) -> str:
    line = None if source.endswith((".cs", ".parquet")) else line_of(source, name)
    return f"{source}, line {line}," if line else source


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
        InputError: If images are not square or their axes are stored in another order, or a slice
            lies beyond the end of its stack.
    """
    for header in headers:
        if header.axes != (1, 2, 3) and sorted(header.axes) == [1, 2, 3]:
            raise InputError(
                f"{header.uri} stores its axes in the order {header.axes}, not x, y, z (1, 2, 3): "
                "its images would be read transposed. Write it with x as the fastest axis."
            )
        if header.shape[1] != header.shape[2]:
            raise InputError(
                f"{header.uri} has images of {header.shape[1]}×{header.shape[2]} px; particles "
                "must be square."
            )
    counts = np.array([header.shape[0] for header in headers], dtype=np.int64)
    beyond = np.flatnonzero((slices < 0) | (slices >= counts[codes]))
    if beyond.size:
        row = beyond[0]
        raise RowError(
            int(row),
            f"slice {slices[row] + 1} of {headers[codes[row]].uri}, which has "
            f"{counts[codes[row]]} slices ({beyond.size:,} such particles). The metadata belong to "
            "another stack.",
            source=source,
        )
    return np.array([header.shape[2] for header in headers], dtype=np.int32)[codes]


def first_out_of_order(table: ParticleTable) -> int | None:
    """Return the first row that is not in the order of the stacks' images, or None.

    Rows are in order where each stack's rows follow each other without rows of another stack in
    between, its images ascending and each listed once. Poses and CTF written from such rows
    fit the stacks by themselves, listed in the order of their first rows.
    """
    codes, slices = table.stack_codes, table.column("slice")
    if not len(codes):
        return None
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    _, first = np.unique(codes[starts], return_index=True)
    again = np.delete(starts, first)  # a stack whose rows another one's have interrupted
    same = np.diff(codes) == 0
    back = np.flatnonzero(same & (np.diff(slices) <= 0)) + 1
    wrong = np.concatenate([again, back])
    return int(wrong.min()) if wrong.size else None


def order_warning(table: ParticleTable) -> str | None:
    """Return a warning where pickles of a table's rows do not fit its stacks by themselves."""
    row = first_out_of_order(table)
    if row is None:
        return None
    source = table.metadata.get("source", "The particle table")
    place = f"row {row} (from 0)"
    if source.endswith(".star") and storage.is_at_hand(source):
        place = read_text_star(source).particle_place(int(table.column("index")[row]))
    return (
        f"{source} does not list its images in the order of its stacks, first at {place}: "
        f"poses and CTF written from it fit {source}, and the table that `raydrgn parse "
        "--table` makes of it, but not the stacks by themselves."
    )
