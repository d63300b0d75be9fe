"""Many volumes at once, in a temporary file, read slab by slab so that memory does not grow."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from raydrgn.io import storage
from raydrgn.landscape.components import Slabs
from raydrgn.shapes import Bool, Float

SLAB_BYTES = 64_000_000
"""Size of a slab, which holds the same voxels of all volumes."""


@contextmanager
def volume_store(num_volumes: int, box: int) -> Iterator["VolumeStore"]:
    """Open a store in the folder of temporary files; it is deleted at the end.

    Raises:
        StorageError: If that folder has too little room.
    """
    storage.require_room(
        tempfile.gettempdir(),
        4 * num_volumes * box**3,
        remedy=" with TMPDIR, or use a smaller --box or --ksample",
    )
    with tempfile.TemporaryFile() as file:
        yield VolumeStore(file, num_volumes, box)


class VolumeStore:
    """Holds volumes in a temporary file, slab of voxels by slab of voxels.

    Written volume by volume, read slab by slab.
    """

    def __init__(self, file: IO[bytes], num_volumes: int, box: int) -> None:
        """Hold ``num_volumes`` volumes of a box in a file that is open to read and write."""
        self.num_volumes, self.num_voxels = num_volumes, box**3
        self._width = max(1, min(SLAB_BYTES // (4 * num_volumes), self.num_voxels))
        self._file = file

    def put(self, first: int, volumes: Float[np.ndarray, "b d d d"]) -> None:
        """Store volumes with successive numbers from ``first``."""
        flat = np.ascontiguousarray(volumes.reshape(len(volumes), -1), dtype=np.float32)
        for start, width in self._slabs():
            self._file.seek(4 * (self.num_volumes * start + first * width))
            self._file.write(flat[:, start : start + width].tobytes())

    def slabs(self) -> Iterator[tuple[slice, Float[np.ndarray, "n w"]]]:
        """Yield the numbers of the voxels of each slab, and their values in all volumes."""
        self._file.flush()
        for start, width in self._slabs():
            self._file.seek(4 * self.num_volumes * start)
            values = np.frombuffer(self._file.read(4 * self.num_volumes * width), dtype=np.float32)
            yield slice(start, start + width), values.reshape(self.num_volumes, width)

    def _slabs(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.num_voxels, self._width):
            yield start, min(self._width, self.num_voxels - start)


def masked_slabs(store: VolumeStore, mask: Bool[np.ndarray, "d d d"]) -> Slabs:
    """Return the voxels of a mask, slab by slab; negative density becomes 0."""
    inside = mask.ravel()

    def slabs() -> Iterator[tuple[slice, Float[np.ndarray, "n w"]]]:
        done = 0
        for voxels, values in store.slabs():
            rows = np.maximum(values[:, inside[voxels]], 0)
            if rows.shape[1]:
                yield slice(done, done + rows.shape[1]), rows
                done += rows.shape[1]

    return slabs
