"""A worker's resident particles, and batches of them.

The shard is filled once; epochs draw from it and read nothing else. Poses and optics are kept on
the device beside it: a few dozen numbers per particle.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from raydrgn.ctf import CTFParameters
from raydrgn.data.batch import ParticleBatch
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import fill_store, prepared_blocks
from raydrgn.data.store import MemoryStore, ParticleStore
from raydrgn.data.streaming import to_device
from raydrgn.geometry.lattice import half_disc
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.pixel_sizes import pixel_size_factors
from raydrgn.shapes import Float, Int


class ResidentShard:
    """Consecutive rows of the particle table, prepared, with their poses and optics."""

    def __init__(
        self,
        table: ParticleTable,
        store: ParticleStore,
        *,
        pixel_size_angstrom: float,
        device: torch.device,
    ) -> None:
        """Take over a filled store.

        Args:
            table: Rows of the shard.
            store: Their coefficients.
            pixel_size_angstrom: Of the volumes, which a particle's own may differ from.
            device: Where the worker computes.
        """
        self.store = store
        self._count = len(table)
        self._device = device
        factors = pixel_size_factors(table, pixel_size_angstrom)
        self._rotations = torch.from_numpy(table.rotations * factors[:, None, None]).to(device)
        columns = {
            name: table.column(name)
            for name in ("pixel_size_angstrom", *CTF_COLUMNS)
            if name in table.table.column_names
        }
        self._columns = {
            name: torch.from_numpy(values.astype(np.float32)).to(device)
            for name, values in columns.items()
        }
        self._has_ctf = table.has_ctf
        self.optics_groups = table.optics_groups()
        """Of each particle, by name."""

    @classmethod
    def in_memory(
        cls, table: ParticleTable, config: ImageConfig, *, pixel_size_angstrom: float
    ) -> "ResidentShard":
        """Read and prepare particles into the memory of this process.

        Args:
            table: Particles, all in the box of the configuration.
            config: How images are prepared.
            pixel_size_angstrom: Of the volumes, which a particle's own may differ from.
        """
        device = torch.device("cpu")
        store = MemoryStore((len(table), len(half_disc(config.box)), 2), config.precision, device)
        fill_store(store, prepared_blocks(table, config))
        return cls(table, store, pixel_size_angstrom=pixel_size_angstrom, device=device)

    def __len__(self) -> int:
        return self._count

    @property
    def is_on_device(self) -> bool:
        """Whether the coefficients are on the worker's device."""
        return isinstance(self.store, MemoryStore) and self.store.device == self._device

    def rotations(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
        """Return the rotations of some particles, numbered within the shard, on the device."""
        return self._rotations[rows.to(self._device, non_blocking=True)]

    def batch(
        self, rows: Int[Tensor, " b"], coefficients: Float[Tensor, "b n 2"] | None = None
    ) -> ParticleBatch:
        """Return some particles, numbered within the shard, on the worker's device.

        Nothing waits for a GPU if the rows are there, and the coefficients too, those of the store
        or those given.
        """
        if coefficients is None:
            coefficients = to_device(self.store.read(rows), self._device)
        where = rows.to(self._device, non_blocking=True)
        columns = {name: values[where] for name, values in self._columns.items()}
        pixel_size = columns.pop("pixel_size_angstrom")
        return ParticleBatch(
            coefficients=coefficients.float(),
            rotations=self.rotations(where),
            pixel_size_angstrom=pixel_size,
            ctf=CTFParameters(**columns) if self._has_ctf else None,
        )

    def batches(self, selections: Iterable[Int[Tensor, " _"]]) -> Iterator[ParticleBatch]:
        """Yield a batch for each selection of rows.

        From a disk, or from host memory to a GPU, the next batch is read meanwhile.
        """
        if self.is_on_device:
            yield from map(self.batch, selections)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: Future[ParticleBatch] | None = None
            for rows in selections:
                ready, ahead = ahead, reader.submit(self.batch, rows)
                if ready is not None:
                    yield ready.result()
            if ahead is not None:
                yield ahead.result()
