"""Links of a training loop to whoever keeps its results."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import ray

from raydrgn.errors import RaydrgnError
from raydrgn.run.directory import Position
from raydrgn.run.state import TrainingState
from raydrgn.run.writer import RunWriter
from raydrgn.shapes import Float
from raydrgn.training.loop import Progress


class DirectLink:
    """To a writer in the same process, which is waited for."""

    def __init__(
        self, writer: RunWriter, *, on_progress: Callable[[Progress], bool] | None = None
    ) -> None:
        self._writer = writer
        self._on_progress = on_progress

    def put_state(self, state: TrainingState) -> None:
        """Keep a state."""
        self._writer.put_state(state.to_bytes(), state.position)

    def put_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep this worker's latents of an epoch."""
        self._writer.put_latents(epoch, start, mean, logvar)

    def pulse(self, progress: Progress) -> bool:
        """Add to the metrics; ask whether to stop."""
        self._writer.add_metrics(asdict(progress))
        return bool(self._on_progress and self._on_progress(progress))

    def diverged(self, position: Position, rows: list[int]) -> None:
        """Stop with an error that names the rows."""
        raise RaydrgnError(divergence_message(position, rows))


class ActorLink:
    """To the run's writer and progress board, each an actor somewhere in the cluster.

    What was sent is held here until the writer has it on disk: a call that a killed writer was busy
    with is sent again by Ray to the restarted one. Training waits for a call only when the next one
    of its kind is due, so one state at most is under way.
    """

    def __init__(self, writer: Any, board: Any) -> None:
        self._writer = writer
        self._board = board
        self._pending: dict[str, ray.ObjectRef[Any]] = {}
        self._answer: ray.ObjectRef[Any] | None = None

    def put_state(self, state: TrainingState) -> None:
        """Keep a state; wait for the one before."""
        content = state.to_bytes()
        self._send("state", lambda: self._writer.put_state.remote(content, state.position))

    def put_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep this worker's latents of an epoch; wait for those of the one before."""
        self._send("latents", lambda: self._writer.put_latents.remote(epoch, start, mean, logvar))

    def pulse(self, progress: Progress) -> bool:
        """Show the progress, and add it to the metrics; return the board's latest answer."""
        row = asdict(progress)
        self._send("metrics", lambda: self._writer.add_metrics.remote(row))
        stop = False
        if self._answer is not None:
            ready, _ = ray.wait([self._answer], timeout=0)
            if not ready:
                return False
            stop = bool(ray.get(self._answer))
        self._answer = self._board.update.remote(row)
        return stop

    def diverged(self, position: Position, rows: list[int]) -> None:
        """End the run; nothing is gained by trying again."""
        if rows:
            ray.get(self._board.fail.remote(divergence_message(position, rows)))

    def flush(self) -> None:
        """Wait until everything sent is on disk."""
        for kind in list(self._pending):
            self._settle(kind)

    def _send(self, kind: str, call: Callable[[], "ray.ObjectRef[Any]"]) -> None:
        self._settle(kind)
        self._pending[kind] = call()

    def _settle(self, kind: str) -> None:
        if kind not in self._pending:
            return
        try:
            ray.get(self._pending.pop(kind))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RaydrgnError):  # a full disk, most likely
                raise error.cause from error
            raise


def divergence_message(position: Position, rows: list[int]) -> str:
    """Say that the loss is not finite, with which particles, and what may help."""
    named = ", ".join(map(str, rows[:20])) + (", …" if len(rows) > 20 else "")
    return (
        f"The loss is not finite before {position}: the batch of table rows {named}. The last good "
        "state is kept. Look at these images (rows of particles.parquet), or go on with a lower "
        "rate: --resume --set train.learning_rate=1e-4."
    )
