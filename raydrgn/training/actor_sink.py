"""Where a training loop on Ray sends its results: the run's actors."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
import ray.train

from raydrgn.errors import RaydrgnError
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position
from raydrgn.shapes import Float
from raydrgn.training.failures import raised_by_actor
from raydrgn.training.progress_log import PhaseProgress, TrainProgress
from raydrgn.training.sinks import divergence_message


class ActorSink:
    """To the run's writer and progress board, each an actor somewhere in the cluster.

    A checkpoint or latents are held here until the writer has them on disk: a call that a killed
    writer was busy with is sent again by Ray to the restarted writer. Training waits for a call
    only when the next call of its kind is due, so that at most one checkpoint is under way.
    """

    def __init__(self, writer: Any, board: Any, *, attempt: int) -> None:
        self._writer = writer
        self._board = board
        self._attempt = attempt
        self._pending: dict[str, ray.ObjectRef[Any]] = {}
        self._answer: ray.ObjectRef[Any] | None = None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; wait for the checkpoint before."""
        content = checkpoint.to_bytes()
        self._send(
            "checkpoint", lambda: self._writer.save_checkpoint.remote(content, checkpoint.position)
        )

    def save_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep this worker's latents of an epoch; wait for those of the epoch before."""
        self._send("latents", lambda: self._writer.save_latents.remote(epoch, start, mean, logvar))

    def report(self, progress: TrainProgress, line: str | None) -> bool:
        """Show the progress, and add it to metrics and log; return the board's latest answer."""
        row = asdict(progress)
        self._send("metrics", lambda: self._writer.add_metrics.remote(row, line))
        return self.show(progress)

    def show(self, progress: TrainProgress | PhaseProgress) -> bool:
        """Show the progress; return the board's latest answer."""
        stop = False
        if self._answer is not None:
            ready, _ = ray.wait([self._answer], timeout=0)
            if not ready:
                return False
            stop = bool(ray.get(self._answer))
        self._answer = self._board.update.remote(asdict(progress), attempt=self._attempt)
        return stop

    def save_estimates(
        self, position: Position, start: int, table: Float[np.ndarray, "n k"]
    ) -> None:
        """Keep what is estimated of this worker's particles; wait for the estimates before."""
        self._send("estimates", lambda: self._writer.save_estimates.remote(position, start, table))

    def note(self, message: str) -> None:
        """Show a message to the user, and write it into the log."""
        self._board.note.remote(message)
        self._writer.log.remote(message)

    def log(self, message: str) -> None:
        """Write a message into the log."""
        self._writer.log.remote(message)

    def is_interrupted(self) -> bool:
        """Return whether a worker's node is to be preempted, the same on all workers."""
        return ray.train.get_preemption_info() is not None

    def report_divergence(self, position: Position, rows: list[int], *, uses_amp: bool) -> None:
        """Stop with an error that names the rows, on the worker that has them."""
        if rows:
            raise RaydrgnError(divergence_message(position, rows, uses_amp=uses_amp))

    def flush(self) -> None:
        """Wait until everything sent is on disk."""
        for kind in list(self._pending):
            self._wait_for(kind)

    def _send(self, kind: str, call: Callable[[], "ray.ObjectRef[Any]"]) -> None:
        self._wait_for(kind)
        self._pending[kind] = call()

    def _wait_for(self, kind: str) -> None:
        if kind in self._pending:
            with raised_by_actor():
                ray.get(self._pending.pop(kind))
