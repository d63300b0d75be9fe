"""What is estimated of each particle beside its latent: a table per epoch, and parts of workers."""

import io
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_parquet
from raydrgn.mfa.columns import COLUMNS
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.shapes import Float

PART_NAME = re.compile(r"estimates\.(\d+)\.(\d+)\.\d+\.npy")


class EstimateFiles:
    """The estimates of a run's particles, at its checkpoints and after its epochs."""

    def __init__(self, root: Uri, *, num_particles: int) -> None:
        self._run = RunDirectory(root)
        self._num_particles = num_particles

    def save(self, position: Position, start: int, table: Float[np.ndarray, "n k"]) -> None:
        """Keep one worker's part, from a row on; publish an epoch's when all rows are there."""
        stream = io.BytesIO()
        np.save(stream, table)
        storage.write_bytes(self._run.estimate_part(position, start), stream.getvalue())
        if position.step == 0 and (whole := self._whole(position)) is not None:
            columns = pa.table(dict(zip(COLUMNS, whole.T, strict=True)))
            with storage.atomic_write(self._run.estimates(position.epoch - 1)) as out:
                pq.write_table(columns, out, write_page_checksum=True)

    def at(self, position: Position) -> Float[np.ndarray, "n k"]:
        """Return the estimates of all particles at a checkpoint.

        Raises:
            RunDirectoryError: If some are not there.
        """
        whole = self._whole(position)
        if whole is None:
            folder = storage.parent(self._run.estimate_part(position, 0))
            raise RunDirectoryError(
                f"{folder} lacks the estimates of some particles at {position}. The latents and "
                "volumes of finished epochs can still be analysed; to go on, start a new run."
            )
        return whole

    def remove(self, chosen: Callable[[Position], bool]) -> None:
        """Delete the parts of some checkpoints."""
        folder = storage.parent(self._run.estimate_part(Position(1, 0), 0))
        for name in storage.list_names(folder):
            match = PART_NAME.fullmatch(name)
            if match and chosen(Position(*map(int, match.groups()))):
                storage.remove(storage.join(folder, name))

    def _whole(self, position: Position) -> Float[np.ndarray, "n k"] | None:
        parts: list[np.ndarray] = []
        row = 0
        while row < self._num_particles:
            uri = self._run.estimate_part(position, row)
            if not storage.exists(uri):
                return None
            parts.append(np.load(io.BytesIO(storage.read_bytes(uri))))
            row += len(parts[-1])
        return np.concatenate(parts)


def read_estimates(uri: Uri) -> dict[str, np.ndarray]:
    """Return the columns of an epoch's table of estimates, one value per particle.

    Raises:
        RunDirectoryError: If there is no such table.
        InputError: If it is damaged.
    """
    if not storage.exists(uri):
        raise RunDirectoryError(
            f"{uri} does not exist: contrasts, shifts, rotations and null probabilities are "
            "estimated by `raydrgn train --method mfa`."
        )
    table = read_parquet(storage.read_bytes(uri), uri)
    return {name: table[name].to_numpy() for name in COLUMNS}
