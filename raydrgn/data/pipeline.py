"""Ray Data: prepared particles from tasks all over the cluster.

One read task per block of rows: it reads the byte ranges of the block from its stacks, and joins
the shifts of the same rows. Preparation is fused to it, so an image never leaves the process that
read it; what travels is the prepared particle. Blocks arrive in any order, and rows carry their
number.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import PreparedBlock, prepare_images, shifts_px
from raydrgn.data.preprocess import Preparation
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

NUMBER_BYTES = 16  # of a row beside its image


class ParticleDatasource(Datasource):
    """Rows ``row`` (number in the table), ``image`` (h w) float32 and ``shift_px`` (2)."""

    def __init__(self, table: ParticleTable, *, box: int) -> None:
        self._source = ImageSource.of(table)
        self._shifts = shifts_px(table).astype(np.float32)
        self._box = box

    def estimate_inmemory_data_size(self) -> int:
        """Return the size of all rows in bytes."""
        return len(self._shifts) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return 4 * self._box**2 + NUMBER_BYTES

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return one task per block; the size of blocks, not ``parallelism``, decides how many."""
        tasks = []
        for start, stop in block_ends(0, len(self._shifts), box=self._box):
            metadata = BlockMetadata(
                num_rows=stop - start,
                size_bytes=(stop - start) * self._row_bytes,
                input_files=None,
                exec_stats=None,
            )
            read = partial(
                _read_block, self._source.part(start, stop), self._shifts[start:stop], start
            )
            tasks.append(ReadTask(read, metadata))
        return tasks


def _read_block(
    source: ImageSource, shifts: Float[np.ndarray, "k 2"], start: int
) -> Iterable[pa.Table]:
    images = source.read()
    yield pa.table(
        {
            "row": pa.array(np.arange(start, start + len(images))),
            "shift_px": pa.FixedShapeTensorArray.from_numpy_ndarray(shifts),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(images),
        }
    )


class _Prepare:
    """Rows in: those of ``ParticleDatasource``. Rows out: ``row``, ``values`` (n 2), ``bad``."""

    def __init__(self, config: ImageConfig) -> None:
        self._config = config

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values, bad = prepare_images(
            batch["image"],
            batch["shift_px"],
            Preparation(self._config),
            precision=self._config.precision,
        )
        return {"row": batch["row"], "values": values, "bad": bad}


def stream_prepared(table: ParticleTable, config: ImageConfig) -> Iterator[PreparedBlock]:
    """Yield all particles of a table, prepared by tasks on any node, in any order."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    prepare: Any = _Prepare(config)
    rows = ray.data.read_datasource(ParticleDatasource(table, box=config.box)).map_batches(
        prepare, batch_format="numpy", batch_size=None, zero_copy_batch=True
    )
    for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):
        yield PreparedBlock(
            np.asarray(batch["row"]), np.asarray(batch["values"]), np.asarray(batch["bad"])
        )
