"""Where a worker keeps its prepared particles: on its device, in host memory, or on a local disk.

All three give back the same values bit by bit. Which one is taken follows from sizes alone.
"""

import logging
import os
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.config import Precision
from raydrgn.data.host_memory import free_host_memory
from raydrgn.errors import StorageError
from raydrgn.io import storage
from raydrgn.io.file_ranges import read_range, write_range
from raydrgn.io.scratch import scratch_file
from raydrgn.remote.resources import ShardStore
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted, in_bytes

log = logging.getLogger(__name__)

DEVICE_SHARE = 0.6
"""Of the free memory of a GPU: the rest is for the network and its activations."""

HOST_SHARE = 0.6
"""Of the free memory of the host."""

KEPT = {"device": "on the GPU", "host": "in memory", "disk": "on the local disk"}
"""Where each kind of store has its particles, in words."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """With how many others a worker shares the memory of its host and of its GPU."""

    on_host: int = 1
    """Workers on the host."""

    of_gpu: float = 1.0
    """Part of the GPU that the worker was given; 1 for one or more whole ones."""

    @classmethod
    def of_worker(cls, *, gpus: float, on_host: int = 1) -> "Sharing":
        """Return the share of a worker that was given some GPUs, or a part of one."""
        return cls(on_host, gpus if 0 < gpus < 1 else 1.0)


ALONE = Sharing()
CPU = torch.device("cpu")


@runtime_checkable
class ParticleStore(Protocol):
    """Prepared particles by their number within the shard."""

    shape: tuple[int, ...]
    """Particles, points, 2."""

    dtype: torch.dtype
    """Type in which they are kept."""

    def write(self, rows: Int[np.ndarray, " k"], values: Float[np.ndarray, "k n 2"]) -> None:
        """Keep the coefficients of some particles."""
        ...

    def read(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k n 2"]:
        """Return the coefficients of some particles in their order, single precision."""
        ...

    def read_into(self, rows: Int[Tensor, " k"], values: Float[Tensor, "k n 2"]) -> None:
        """Write the coefficients of some particles into a tensor of the host, of the same type."""
        ...


class MemoryStore:
    """One tensor, on the device or in host memory."""

    def __init__(self, shape: Sequence[int], precision: Precision, device: torch.device) -> None:
        self.device = device
        self.shape = tuple(shape)
        self.dtype: torch.dtype = getattr(torch, precision)
        self._values = torch.empty(*shape, dtype=self.dtype, device=device)

    def write(self, rows: Int[np.ndarray, " k"], values: Float[np.ndarray, "k n 2"]) -> None:
        """Keep the coefficients of some particles."""
        where = torch.from_numpy(rows).to(self._values.device)
        self._values[where] = torch.from_numpy(values).to(self._values)

    def read(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k n 2"]:
        """Return the coefficients of some particles, single precision, where the store is."""
        return self._values.index_select(0, rows.to(self._values.device)).float()

    def read_into(self, rows: Int[Tensor, " k"], values: Float[Tensor, "k n 2"]) -> None:
        """Write the coefficients of some particles of a store of the host into a tensor."""
        torch.index_select(self._values, 0, rows, out=values)


class FileStore:
    """Particles in an open file.

    A particle is one read of some ten to some hundred kB. Reading by position keeps nothing mapped
    and reads nothing ahead, which halves the rate of a random order on a cold disk.
    """

    def __init__(
        self, shape: Sequence[int], precision: Precision, file: IO[bytes], *, first_row: int = 0
    ) -> None:
        """Use a file, from one of its rows on."""
        self.shape = tuple(shape)
        self.dtype: torch.dtype = getattr(torch, precision)
        self._on_disk = np.dtype(precision)
        self._row_bytes = shard_bytes(self.shape[1:], precision)
        self._first = first_row
        self._file = file
        self._folder = tempfile.gettempdir()
        weakref.finalize(self, self._file.close)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def write(self, rows: Int[np.ndarray, " k"], values: Float[np.ndarray, "k n 2"]) -> None:
        """Keep the coefficients of some particles."""
        stored = np.ascontiguousarray(values, dtype=self._on_disk)
        with storage.explained(self._folder, action="written"):
            for row, value in zip(rows.tolist(), stored, strict=True):
                write_range(self._file.fileno(), memoryview(value).cast("B"), self._place(row))

    def read(self, rows: Int[Tensor, " k"]) -> Float[Tensor, "k n 2"]:
        """Return the coefficients of some particles, single precision, in host memory."""
        values = torch.empty(len(rows), *self.shape[1:], dtype=self.dtype)
        self.read_into(rows, values)
        return values.float()

    def read_into(self, rows: Int[Tensor, " k"], values: Float[Tensor, "k n 2"]) -> None:
        """Write the coefficients of some particles into a tensor of the host."""
        with storage.explained(self._folder, action="read"):
            for row, value in zip(rows.tolist(), values.numpy(), strict=True):
                buffer = memoryview(value).cast("B")
                if read_range(self._file.fileno(), buffer, self._place(row)) < len(buffer):
                    raise StorageError(
                        f"The file of prepared particles in {self._folder} has no particle {row}: "
                        "it has been cut short. Run the same command again."
                    )

    def _place(self, row: int) -> int:
        return (self._first + row) * self._row_bytes


class DiskStore(FileStore):
    """One file without a name on a disk of this node; it goes when the process does."""

    def __init__(self, shape: Sequence[int], precision: Precision, folder: Path) -> None:
        """Make the file, with room for all particles.

        Raises:
            StorageError: If the disk has no room for them, or cannot be written.
        """
        file = scratch_file(
            folder,
            shard_bytes(shape, precision),
            need="this worker's particles need",
            remedy="Set TMPDIR to a larger local disk, train with data.precision=float16, which "
            "halves the need, or use more nodes.",
        )
        super().__init__(shape, precision, file)

    @property
    def path(self) -> str:
        """Where other processes of the same user on this node can open the file."""
        return f"/proc/{os.getpid()}/fd/{self._file.fileno()}"


def make_store(
    kind: ShardStore,
    shape: Sequence[int],
    *,
    precision: Precision,
    device: torch.device,
    sharing: Sharing = ALONE,
    reserved: int = 0,
) -> ParticleStore:
    """Make the store of a shard, choosing a place that has room if ``kind`` is auto.

    Args:
        kind: Place, or auto.
        shape: Particles, points, 2.
        precision: Type in which values are kept.
        device: Where the worker computes.
        sharing: The worker's share of the memory.
        reserved: Bytes that the fit takes there later.

    Raises:
        StorageError: If the local disk has no room for the shard.
    """
    size = shard_bytes(shape, precision)
    chosen = kind if kind != "auto" else choose_store(size, device, sharing, reserved=reserved)
    log.info("%s, %s, kept %s", counted(shape[0], "particle"), in_bytes(size), KEPT[chosen])
    if chosen != "disk":
        return MemoryStore(shape, precision, device if chosen == "device" else CPU)
    return make_disk_store(shape, precision)


def make_disk_store(shape: Sequence[int], precision: Precision) -> DiskStore:
    """Make a store on the local disk.

    Raises:
        StorageError: If it has no room for the shard.
    """
    return DiskStore(shape, precision, Path(tempfile.gettempdir()))


def shard_bytes(shape: Sequence[int], precision: Precision) -> int:
    """Return the size of a shard."""
    return int(np.prod(shape)) * np.dtype(precision).itemsize


def choose_store(
    size: int, device: torch.device, sharing: Sharing = ALONE, *, reserved: int = 0
) -> Literal["device", "host", "disk"]:
    """Return the place that has room for a shard.

    Args:
        size: Bytes of the shard.
        device: Where the worker computes.
        sharing: Its share of the memory.
        reserved: Bytes that the fit takes there later.
    """
    if device.type == "cuda" and size < DEVICE_SHARE * (free_memory(device, sharing) - reserved):
        return "device"
    host = free_memory(CPU, sharing) - (reserved if device.type == "cpu" else 0)
    return "host" if size < HOST_SHARE * host else "disk"


def free_memory(device: torch.device, sharing: Sharing = ALONE) -> float:
    """Return the bytes that a worker may take of the memory that is free on a device."""
    if device.type == "cuda":
        return sharing.of_gpu * torch.cuda.mem_get_info(device)[0]
    return free_host_memory() / sharing.on_host
