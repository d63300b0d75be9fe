"""Where a training loop sends its results, without Ray: a writer in this process."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from raydrgn.errors import RaydrgnError
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position
from raydrgn.run.writer import RunWriter
from raydrgn.shapes import Float
from raydrgn.training.progress_log import PhaseProgress, TrainProgress


class DirectSink:
    """To a writer in the same process; every call returns when the writer is done."""

    def __init__(
        self,
        writer: RunWriter,
        *,
        on_progress: Callable[[TrainProgress | PhaseProgress], bool] | None = None,
        on_note: Callable[[str], None] | None = None,
        is_interrupted: Callable[[], bool] | None = None,
    ) -> None:
        """Take a writer.

        Args:
            writer: Of the run.
            on_progress: Called with each report; returns whether to stop.
            on_note: Called with each message for the user.
            is_interrupted: Returns whether the loop is to stop as soon as it can.
        """
        self._writer = writer
        self._on_progress = on_progress
        self._on_note = on_note
        self._is_interrupted = is_interrupted

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        self._writer.save_checkpoint(checkpoint.to_bytes(), checkpoint.position)

    def save_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep this worker's latents of an epoch."""
        self._writer.save_latents(epoch, start, mean, logvar)

    def report(self, progress: TrainProgress, line: str | None) -> bool:
        """Add to metrics and log; ask whether to stop."""
        self._writer.add_metrics(asdict(progress), line)
        return self.show(progress)

    def show(self, progress: TrainProgress | PhaseProgress) -> bool:
        """Ask whether to stop; nothing is written."""
        return bool(self._on_progress and self._on_progress(progress))

    def save_estimates(
        self, position: Position, start: int, table: Float[np.ndarray, "n k"]
    ) -> None:
        """Keep what is estimated of this worker's particles."""
        self._writer.save_estimates(position, start, table)

    def note(self, message: str) -> None:
        """Show a message to the user, and write it into the log."""
        if self._on_note:
            self._on_note(message)
        self._writer.log(message)

    def log(self, message: str) -> None:
        """Write a message into the log."""
        self._writer.log(message)

    def flush(self) -> None:
        """Return: everything is on disk."""

    def is_interrupted(self) -> bool:
        """Return whether the loop is to stop as soon as it can."""
        return bool(self._is_interrupted and self._is_interrupted())

    def report_divergence(self, position: Position, rows: list[int], *, uses_amp: bool) -> None:
        """Stop with an error that names the rows."""
        raise RaydrgnError(divergence_message(position, rows, uses_amp=uses_amp))


def divergence_message(position: Position, rows: list[int], *, uses_amp: bool) -> str:
    """Return the message of a loss or gradient that is not finite: particles, and what may help."""
    single = ", or in single precision: --resume --set train.amp=false" if uses_amp else ""
    named = ", ".join(map(str, rows[:20])) + (", …" if len(rows) > 20 else "")
    return (
        f"The loss or its gradient is not finite before {position}: the batch of table rows "
        f"{named}. The last good checkpoint is kept. Check these images (rows of "
        "particles.parquet, from 0), or go on with a lower learning rate: --resume --lr "
        f"1e-4{single}."
    )
