"""Stacks of images that are written piece by piece, by one process or by many."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from raydrgn.io import storage
from raydrgn.io.file_ranges import reserve, write_range
from raydrgn.io.mrc import HEADER_BYTES, header_bytes
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

STACK_MODES = {"float32": 2, "float16": 12}
"""Mode of the stacks that are written, by their pixels."""


class StackWriter:
    """Writes a stack of images piece by piece; the file appears when it is whole."""

    def __init__(
        self, stream: IO[bytes], count: int, box: int, uri: Uri, precision: str = "float32"
    ) -> None:
        self._type = np.dtype(precision).newbyteorder("<")
        self._stream = stream
        self._left = count
        self._box = box
        self._uri = uri

    @classmethod
    @contextmanager
    def open(
        cls,
        uri: Uri,
        count: int,
        *,
        box: int,
        pixel_size_angstrom: float,
        precision: str = "float32",
    ) -> Iterator["StackWriter"]:
        """Write the header, give a writer for ``count`` images, and see that all of them come."""
        header = header_bytes(
            (count, box, box),
            pixel_size_angstrom=pixel_size_angstrom,
            is_volume=False,
            mode=STACK_MODES[precision],
        )
        if not storage.is_local(uri):  # it is written here before it is sent
            size = HEADER_BYTES + count * box * box * np.dtype(precision).itemsize
            storage.require_room(tempfile.gettempdir(), size, remedy=" with TMPDIR")
        with storage.atomic_write(uri) as stream:
            stream.write(header)
            writer = cls(stream, count, box, uri, precision)
            yield writer
            assert writer._left == 0, f"{writer._left} images of {uri} were not written"

    def append(self, images: Float[np.ndarray, "b h w"]) -> None:
        """Write the next images."""
        assert images.shape[1:] == (self._box, self._box)
        assert len(images) <= self._left
        self._stream.write(np.ascontiguousarray(images, dtype=self._type).data)
        self._left -= len(images)


def reserve_stack(
    path: Path, count: int, *, box: int, pixel_size_angstrom: float, precision: str
) -> None:
    """Make a local stack with its header, and room on the disk for every image.

    Raises:
        StorageError: If there is no room.
    """
    header = header_bytes(
        (count, box, box),
        pixel_size_angstrom=pixel_size_angstrom,
        is_volume=False,
        mode=STACK_MODES[precision],
    )
    size = HEADER_BYTES + count * box * box * np.dtype(precision).itemsize
    with storage.explained(str(path), action="written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.write(header)
            stream.flush()
            reserve(stream.fileno(), size)


def write_slices(path: Path, images: Float[np.ndarray, "b h w"], *, start: int) -> None:
    """Write images into a stack that ``reserve_stack`` made, from slice ``start`` on.

    The type of the array is that of the stack. Ranges may be written by many processes at a time.
    """
    if not len(images):
        return
    data = np.ascontiguousarray(images).data.cast("B")
    first = HEADER_BYTES + start * images[0].nbytes
    with storage.explained(str(path), action="written"):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            write_range(descriptor, data, first)
        finally:
            os.close(descriptor)
