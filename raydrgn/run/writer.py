"""RunWriter: the only writer of a run directory.

A plain class; training makes one Ray actor of it. Every call returns when what it wrote is durable,
and may be repeated: a caller whose call was cut off sends the same again.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from raydrgn.errors import StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import write_latents
from raydrgn.io.storage import Uri
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.manifest import FileRecord, Manifest
from raydrgn.run.metrics import read_metrics
from raydrgn.run.state import TrainingState
from raydrgn.shapes import Float

KEPT_STATES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePoint:
    """Where a run goes on."""

    state: bytes | None
    """The newest whole state; None at the start of a run."""

    problems: list[str]
    """What is wrong with newer states."""

    lacks_latents: bool
    """Whether the latents of the epoch before are still to be made, from the state's weights."""


class RunWriter:
    """Writes states, published epochs, metrics and the log of one run."""

    def __init__(self, root: Uri, *, num_particles: int) -> None:
        self._run = RunDirectory(root)
        self._num_particles = num_particles
        self._manifest = Manifest.read(self._run.manifest)
        storage.make_folder(self._run.root)
        self._remove_leftovers()

    def write_file(self, uri: Uri, content: bytes) -> None:
        """Write one of the run's small files: its configuration, its particles."""
        storage.write_bytes(uri, content)

    def say(self, message: str) -> None:
        """Add a line to the run's log."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        _append(self._run.log, f"{stamp}  {message}\n")

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a row to the run's metrics."""
        _append(self._run.metrics, json.dumps(row) + "\n")

    def resume_point(self) -> ResumePoint:
        """Return the newest whole state, and forget what comes after it.

        States, parts of latents and metrics beyond it will be made again.
        """
        content, problems = self._newest_whole_state()
        position = TrainingState.from_bytes(content).position if content else Position(1, 0)
        self._forget_after(position)
        return ResumePoint(
            state=content,
            problems=problems,
            lacks_latents=position.epoch - 1 not in [0, *self._manifest.finished_epochs()],
        )

    def state_at(self, position: Position) -> bytes:
        """Return the state of a position that ``resume_point`` has named."""
        return storage.read_bytes(self._run.state(position))

    def put_state(self, content: bytes, position: Position) -> None:
        """Keep a state; at the end of an epoch publish its weights too.

        Within an epoch a state is kept only once the epoch before it is published, so that going on
        from any state never leaves an epoch without latents.
        """
        before = position.epoch - 1
        if position.step and before not in [0, *self._manifest.finished_epochs()]:
            return
        storage.write_bytes(self._run.state(position), content)
        self._manifest.states[position] = FileRecord.of(content)
        if position.step == 0:
            weights = TrainingState.from_bytes(content).weights_bytes()
            storage.write_bytes(self._run.weights(before), weights)
            self._record(before, "weights", FileRecord.of(weights))
        self._keep_newest_states()
        self._manifest.write(self._run.manifest)

    def put_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep one worker's latents of an epoch; publish them when those of all rows are there."""
        stream = io.BytesIO()
        np.save(stream, np.stack([mean, logvar]))
        storage.write_bytes(self._run.latent_part(epoch, start), stream.getvalue())
        parts = self._latent_parts(epoch)
        if parts is None:
            return
        uri = self._run.latents(epoch)
        write_latents(uri, *np.concatenate(parts, axis=1))
        self._record(epoch, "latents", FileRecord.of(storage.read_bytes(uri)))
        self._manifest.write(self._run.manifest)
        self._remove_parts(lambda number: number <= epoch)

    def finish(self, epoch: int) -> None:
        """Make the last epoch's weights and latents those of the run."""
        for name in (self._run.weights, self._run.latents):
            storage.write_bytes(name(None), storage.read_bytes(name(epoch)))

    def _record(self, epoch: int, name: str, record: FileRecord) -> None:
        self._manifest.epochs.setdefault(epoch, {})[name] = record

    def _newest_whole_state(self) -> tuple[bytes | None, list[str]]:
        problems = []
        for position in sorted(self._manifest.states, reverse=True):
            uri = self._run.state(position)
            try:
                content = storage.read_bytes(uri)
            except StorageError as error:
                problems.append(str(error))
                continue
            if self._manifest.states[position].matches(content):
                return content, problems
            problems.append(
                f"{uri} is not what was written: its size or checksum differs. The state before "
                "it is used."
            )
        return None, problems

    def _forget_after(self, position: Position) -> None:
        for later in [known for known in self._manifest.states if known > position]:
            self._drop_state(later)
        self._remove_parts(lambda epoch: epoch >= position.epoch)
        rows = read_metrics(self._run.metrics)
        kept = [row for row in rows if (row["epoch"], row["step"]) <= position]
        if len(kept) < len(rows):
            text = "".join(json.dumps(row) + "\n" for row in kept)
            storage.write_bytes(self._run.metrics, text.encode())
        self._manifest.write(self._run.manifest)

    def _keep_newest_states(self) -> None:
        for position in sorted(self._manifest.states)[:-KEPT_STATES]:
            self._drop_state(position)

    def _drop_state(self, position: Position) -> None:
        del self._manifest.states[position]
        storage.remove(self._run.state(position))

    def _latent_parts(self, epoch: int) -> list[Float[np.ndarray, "2 n zdim"]] | None:
        """Return the parts of an epoch in the order of rows, or None if rows are missing."""
        parts: list[np.ndarray] = []
        row = 0
        while row < self._num_particles:
            uri = self._run.latent_part(epoch, row)
            if not storage.exists(uri):
                return None
            parts.append(np.load(io.BytesIO(storage.read_bytes(uri))))
            row += parts[-1].shape[1]
        return parts

    def _remove_parts(self, chosen: Callable[[int], bool]) -> None:
        folder = storage.parent(self._run.latent_part(0, 0))
        for name in storage.list_names(folder):
            pieces = name.split(".")
            if len(pieces) == 4 and pieces[0] == "z" and chosen(int(pieces[1])):
                storage.remove(storage.join(folder, name))

    def _remove_leftovers(self) -> None:
        """Delete what a writer that was killed had begun."""
        for folder in (self._run.root, storage.parent(self._run.latent_part(0, 0))):
            for name in storage.list_names(folder):
                if name.endswith(storage.PART_SUFFIX):
                    storage.remove(storage.join(folder, name))


def _append(uri: Uri, line: str) -> None:
    if storage.is_local(uri):
        with storage.explained(uri, action="written"), storage.local_path(uri).open("a") as stream:
            stream.write(line)
    else:  # objects in a store cannot grow
        old = storage.read_bytes(uri) if storage.exists(uri) else b""
        storage.write_bytes(uri, old + line.encode())
