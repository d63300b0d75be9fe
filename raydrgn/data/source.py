"""Images of any rows of a particle table.

Rows of one stack that follow each other are read with one request; a table in the order of its
stacks is read from end to end.
"""

from dataclasses import dataclass, replace

import numpy as np

from raydrgn.data.restoration import Restoration
from raydrgn.io import storage
from raydrgn.io.mrc import MrcHeader, read_scattered_slices, read_slices
from raydrgn.io.particles import ParticleTable
from raydrgn.io.stacks import read_headers
from raydrgn.shapes import Float, Int

BLOCK_BYTES = 32 << 20
"""Images of one block as float32; what a reading task holds at a time."""

REMOTE_GAP = 2
"""Every second slice of a stack elsewhere is read along with those between: one request is less
than many."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of a table: which slice of which file each row is."""

    headers: list[MrcHeader]
    codes: Int[np.ndarray, " n"]
    slices: Int[np.ndarray, " n"]
    restoration: Restoration | None = None
    """What is undone to have images as they were recorded; None gives them as they are stored."""

    @classmethod
    def of(cls, table: ParticleTable) -> "ImageSource":
        """Read the headers of the table's stacks; images are given as they were recorded."""
        return replace(cls.as_stored(table), restoration=Restoration.of(table))

    @classmethod
    def as_stored(cls, table: ParticleTable) -> "ImageSource":
        """Read the headers of the table's stacks; images are given as they are in the files."""
        return cls(read_headers(table.stacks), table.stack_codes, table.column("slice"))

    def part(self, start: int, stop: int) -> "ImageSource":
        """Return the source of consecutive rows, with the headers that they need only."""
        used, codes = np.unique(self.codes[start:stop], return_inverse=True)
        restoration = self.restoration and self.restoration.rows(slice(start, stop))
        headers = [self.headers[i] for i in used]
        return ImageSource(headers, codes, self.slices[start:stop], restoration)

    def read(self, rows: Int[np.ndarray, " k"] | None = None) -> Float[np.ndarray, "k h w"]:
        """Return the images of some rows, in their order; of all rows by default.

        They have one box.
        """
        images = self._read(rows)
        if self.restoration is None:
            return images
        return (self.restoration if rows is None else self.restoration.rows(rows))(images)

    def _read(self, rows: Int[np.ndarray, " k"] | None) -> Float[np.ndarray, "k h w"]:
        codes = self.codes if rows is None else self.codes[rows]
        slices = self.slices if rows is None else self.slices[rows]
        if len(codes) and (codes == codes[0]).all() and (np.diff(slices) == 1).all():
            pixels = read_slices(self.headers[int(codes[0])], int(slices[0]), len(slices))
            return pixels.astype(np.float32, copy=False)
        box = self.headers[int(codes[0]) if len(codes) else 0].shape[2]
        images = np.empty((len(codes), box, box), dtype=np.float32)
        order = np.lexsort((slices, codes))
        for of_stack in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if len(of_stack):
                header = self.headers[int(codes[of_stack[0]])]
                gap = 1 if storage.is_local(header.uri) else REMOTE_GAP
                for which, pixels in read_scattered_slices(header, slices[of_stack], gap=gap):
                    images[of_stack[which]] = pixels
        return images


def block_ends(start: int, stop: int, *, box: int) -> list[tuple[int, int]]:
    """Split rows into blocks of ``BLOCK_BYTES``, for one reading task each."""
    size = max(BLOCK_BYTES // (4 * box * box), 1)
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def rows_by_box(boxes: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " _"]]:
    """Return the rows of the images of each box: only images of one box are read together."""
    order = np.argsort(boxes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(boxes[order])) + 1)
