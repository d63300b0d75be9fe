"""Which rows of an original file another program's selection of it holds."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.cells import to_number
from raydrgn.io.indices import rows_of_numbers
from raydrgn.io.passthrough import read_rows
from raydrgn.io.relion import split_image_name
from raydrgn.io.stacks import find_stacks
from raydrgn.io.starrows import TextBlock, TextStar, read_text_star
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

Image = tuple[str, int]
"""Stack and slice."""

POSE_COLUMNS = ("rlnAngle", "rlnOrigin")
"""How the columns begin that distinguish copies of one image."""

SAME_POSE = 1e-3
"""Degrees, pixels or Å by which two programs may write one number."""


def find_numbers(particles: Uri, original: Uri) -> Int[np.ndarray, " k"]:
    """Return the rows of the original file that another program's selection of it holds.

    STAR files are matched by image name, .cs files by uid. Rows of one image, as symmetry expansion
    makes them, are distinguished by angles and origins; rows that are the same in every column
    are taken one after the other.

    Raises:
        InputError: If the two are of different kinds, or a particle is not in the original, or in
            several rows that cannot be distinguished.
    """
    particles, original = storage.absolute(particles), storage.absolute(original)
    kinds = {PurePosixPath(uri).suffix.lower() for uri in (particles, original)}
    if kinds == {".star"}:
        return _StarMatch(read_text_star(particles), read_text_star(original)).rows()
    if kinds == {".cs"}:
        return _match_uids(particles, original)
    raise InputError(
        f"{particles} and {original} must both be .star, or both .cs files, to be compared."
    )


def _match_uids(particles: Uri, original: Uri) -> Int[np.ndarray, " k"]:
    tables = [read_rows(uri) for uri in (particles, original)]
    for uri, rows in zip((particles, original), tables, strict=True):
        if "uid" not in (rows.dtype.names or ()) or not len(rows):
            raise InputError(f"{uri} has no uids to compare.")
    selected, every = (rows["uid"] for rows in tables)
    found = rows_of_numbers(every, selected)
    missing = np.flatnonzero(found < 0)
    if missing.size:
        row = missing[0]
        raise InputError(
            f"{particles}, row {row} (from 0): uid {selected[row]} is not in {original} "
            f"({missing.size:,} such particles)."
        )
    distinct, counts = np.unique(every, return_counts=True)
    repeated = np.flatnonzero(np.isin(selected, distinct[counts > 1]))
    if repeated.size:
        row = repeated[0]
        rows = np.flatnonzero(every == selected[row])
        raise InputError(
            f"{particles}, row {row} (from 0): uid {selected[row]} is in {len(rows):,} rows of "
            f"{original}, first {rows[0]} and {rows[1]}; which of them was selected is not known "
            f"({repeated.size:,} such particles). cryoSPARC has each uid once: take the file "
            "before it was joined with another, or select by numbers."
        )
    return found


class _StarMatch:
    """The rows of a selection, matched to those of its original."""

    def __init__(self, selected: TextStar, original: TextStar) -> None:
        self._selected = selected
        self._original = original
        self._block = selected.particles()
        self._every = original.particles()
        self._columns = [
            name
            for name in self._block.columns
            if name in self._every.columns and name.startswith(POSE_COLUMNS)
        ]
        self._next: dict[tuple[int, ...], int] = {}

    def rows(self) -> Int[np.ndarray, " k"]:
        """Return the row of the original for each row of the selection."""
        images = _images(self._block)
        by_image = _rows_by_image(_images(self._every))
        if any(image not in by_image for image in images):
            images = self._found_images(images, self._selected.uri)
            by_image = _rows_by_image(self._found_images(_images(self._every), self._original.uri))
        self._refuse_missing(images, by_image)
        if all(len(rows) == 1 for rows in by_image.values()):
            return np.array([by_image[image][0] for image in images], dtype=np.int64)
        poses, every = self._poses(self._block), self._poses(self._every)
        return np.array(
            [self._choose(row, by_image[image], poses, every) for row, image in enumerate(images)],
            dtype=np.int64,
        )

    def _found_images(self, images: Sequence[Image], source: Uri) -> list[Image]:
        """Return images by where their stacks are, for files that name them in other words."""
        names = list(dict.fromkeys(stack for stack, _ in images))
        places = find_stacks(names, source=source, datadir=None, required=False)
        by_name = dict(zip(names, places, strict=True))
        return [(by_name[stack], number) for stack, number in images]

    def _refuse_missing(self, images: Sequence[Image], known: dict[Image, list[int]]) -> None:
        missing = [row for row, image in enumerate(images) if image not in known]
        if missing:
            name = self._block.cells("rlnImageName")[missing[0]]
            raise InputError(
                f"{self._place(missing[0])}: {name} is not in {self._original.uri} "
                f"({len(missing):,} such particles)."
            )

    def _place(self, row: int) -> str:
        return f"{self._selected.uri}, {self._selected.particle_place(row)}"

    def _poses(self, block: TextBlock) -> Float[np.ndarray, "n k"]:
        cells = [[_number(cell) for cell in block.cells(name)] for name in self._columns]
        return np.array(cells, dtype=np.float64).T.reshape(len(block.rows), len(self._columns))

    def _choose(
        self,
        row: int,
        candidates: list[int],
        poses: Float[np.ndarray, "n k"],
        every: Float[np.ndarray, "m k"],
    ) -> int:
        """Return the row of the original that has the image and the pose of a selected row."""
        if len(candidates) == 1:
            return candidates[0]
        difference = every[candidates] - poses[row]
        angles = np.array([name.startswith("rlnAngle") for name in self._columns], dtype=bool)
        difference[:, angles] = (difference[:, angles] + 180) % 360 - 180
        fits = np.abs(difference).max(axis=1, initial=0) < SAME_POSE
        found = [candidate for candidate, fit in zip(candidates, fits, strict=True) if fit]
        if len(found) == 1:
            return found[0]
        if not found:
            raise InputError(
                f"{self._listed(row, candidates)}, and none of them has these angles and origins. "
                "Give the file that the selection was made from, before any other refinement."
            )
        equal = tuple(found)
        if equal not in self._next:
            differing = self._differing(found)
            if differing:
                raise InputError(
                    f"{self._listed(row, candidates)}, and {len(found):,} of them have its angles "
                    f"and origins. They differ in {', '.join(differing[:5])}; give each row poses "
                    "of its own, or select by numbers."
                )
            self._next[equal] = 0  # the same in every column
        turn = self._next[equal]
        self._next[equal] = turn + 1
        return found[turn % len(found)]

    def _listed(self, row: int, candidates: Sequence[int]) -> str:
        """Return the place and image of a selected row, and how often the original has it."""
        name = self._block.cells("rlnImageName")[row]
        return f"{self._place(row)}: {name} is in {len(candidates):,} rows of {self._original.uri}"

    def _differing(self, rows: Sequence[int]) -> list[str]:
        cells = [self._every.row_cells(row) for row in rows]
        return [
            name
            for name, values in zip(self._every.columns, zip(*cells, strict=True), strict=True)
            if len(set(values)) > 1
        ]


def _images(block: TextBlock) -> list[Image]:
    """Return the stack and slice of each row; a name that has none stands for itself."""
    images = []
    for name in block.cells("rlnImageName"):
        found = split_image_name(name)
        images.append((name, -1) if found is None else (str(PurePosixPath(found[1])), found[0]))
    return images


def _rows_by_image(images: Sequence[Image]) -> dict[Image, list[int]]:
    rows: dict[Image, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(image, []).append(row)
    return rows


def _number(cell: str) -> float:
    try:
        return to_number(cell)
    except ValueError:
        return float("nan")
