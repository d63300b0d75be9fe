"""RunWriter: the only writer of a run directory.

A plain class; training makes one Ray actor of it. What the manifest records is on the disk before
it is recorded, and every call may be repeated: a caller whose call was cut off sends the same
again. Lines of the log and of the metrics are not recorded; a few may be lost with the writer.
"""

import io
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from raydrgn.errors import RunDirectoryError, StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import write_latents
from raydrgn.io.storage import Uri
from raydrgn.remote import metrics
from raydrgn.run.checkpoint import BATCH_ORDER, Checkpoint, LatestCheckpoint
from raydrgn.run.claim import RECHECK_SECONDS, ClaimTicket
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.estimates import EstimateFiles
from raydrgn.run.lines import LineFile
from raydrgn.run.manifest import FileRecord, Manifest
from raydrgn.run.metrics import MetricsFile
from raydrgn.run.surplus import EpochWeights, weights_of_epochs
from raydrgn.shapes import Float

KEPT_CHECKPOINTS = 2

KEPT_EPOCHS = 2
"""Newest epochs whose weights stay during training, since a command may be reading them."""

CHECKPOINT_NAME = re.compile(r"(\d+)\.(\d+)\.pt")
LATENT_PART_NAME = re.compile(r"z\.(\d+)\.\d+\.npy")


class RunWriter:
    """Writes checkpoints, published epochs, metrics and the log of one run.

    With a claim, nothing is written or deleted once another command has taken the run over.
    """

    def __init__(
        self,
        root: Uri,
        *,
        num_particles: int,
        claim: ClaimTicket | None = None,
        keep_epochs: int = 1,
    ) -> None:
        """Describe what is written; nothing is, yet.

        Args:
            root: The run directory.
            num_particles: Rows of the latents.
            claim: Of the command that writes.
            keep_epochs: Weights of every n-th epoch only are kept (``train.keep_epochs``).
        """
        self._run = RunDirectory(root)
        self._keep_epochs = keep_epochs
        self._num_particles = num_particles
        self._claim = claim
        self._checked = -math.inf
        self._log = LineFile(self._run.log)
        self._metrics = MetricsFile(self._run.metrics)
        self._estimates = EstimateFiles(root, num_particles=num_particles)

    @cached_property
    def _manifest(self) -> Manifest:
        """What was finished when the writer began, and then by it.

        Read by the first call that needs it, before that call writes, and not by the constructor,
        whose errors Ray reports as the death of an actor.
        """
        self._require_claim()
        storage.make_folder(self._run.root)
        manifest = Manifest.read(self._run.manifest)
        self._remove_leftovers(manifest)
        return manifest

    def begin(
        self,
        config: bytes,
        particles: bytes | None,
        held_out: bytes | None = None,
        targets: bytes | None = None,
    ) -> None:
        """Write configuration and particles, and undo the end of a run that is to go on.

        Args:
            config: Text of config.yaml. It is written last: a directory that has it can go on.
            particles: The particle table as Parquet; None keeps the one that is there.
            held_out: The particles kept out of training, likewise.
            targets: Latents that the encoder is pre-trained on, as .npy.
        """
        self._require_claim()
        for uri, content in (
            (self._run.particles, particles),
            (self._run.held_out, held_out),
            (self._run.targets, targets),
        ):
            if content is not None:
                storage.write_bytes(uri, content)
        for name in (self._run.weights, self._run.latents):
            storage.remove(name(None))
        storage.write_bytes(self._run.config, config)

    def replace_source(self, config: bytes, particles: bytes, message: str) -> None:
        """Write the run's particles and configuration anew, and a line about it to the log."""
        self._require_claim()
        storage.write_bytes(self._run.particles, particles)
        storage.write_bytes(self._run.config, config)
        self.log(message)

    def log(self, message: str) -> None:
        """Add a line to the run's log."""
        self._require_claim()
        self._add_log_line(message)
        self._log.flush()

    def add_metrics(self, row: Mapping[str, Any], line: str | None = None) -> None:
        """Add a row to the run's metrics, and a line about it to the log."""
        self._require_claim(within=RECHECK_SECONDS)
        self._metrics.add(row)
        if line is not None:
            self._add_log_line(line)
        if row.get("done"):
            self.flush()

    def flush(self) -> None:
        """Write the lines of log and metrics that were held back."""
        self._require_claim()
        self._log.flush()
        self._metrics.flush()

    def latest_checkpoint(self) -> LatestCheckpoint:
        """Return the newest whole checkpoint, and forget what comes after it.

        Checkpoints, parts of latents and metrics beyond it will be made again.
        """
        self._require_claim()
        content, problems = self._newest_whole_checkpoint()
        position = Checkpoint.from_bytes(content).position if content else Position(1, 0)
        self._forget_after(position)
        return LatestCheckpoint(
            content=content,
            problems=problems,
            lacks_latents=position.epoch - 1 not in [0, *self._manifest.finished_epochs()],
        )

    def checkpoint_at(self, position: Position) -> bytes:
        """Return the checkpoint of a position that ``latest_checkpoint`` has named."""
        return storage.read_bytes(self._run.checkpoint(position))

    def targets(self, start: int, stop: int) -> Float[np.ndarray, "2 n zdim"] | None:
        """Return what the encoder is pre-trained on, of particles in some rows, if it is there."""
        if not storage.exists(self._run.targets):
            return None
        found: np.ndarray = np.load(io.BytesIO(storage.read_bytes(self._run.targets)))
        return found[:, start:stop]

    def save_checkpoint(self, content: bytes, position: Position) -> None:
        """Keep a checkpoint; at the end of an epoch publish its weights too.

        Within an epoch a checkpoint is kept only once the epoch before it is published, so that
        going on from any checkpoint never leaves an epoch without latents.
        """
        self._require_claim()
        began = time.time()
        manifest, before = self._manifest, position.epoch - 1
        if position.step and before not in [0, *manifest.finished_epochs()]:
            return
        self.flush()
        storage.write_bytes(self._run.checkpoint(position), content)
        manifest.checkpoints[position] = FileRecord.of(content)
        if position.step == 0 and before > 0:
            weights = Checkpoint.from_bytes(content).weights_bytes()
            storage.write_bytes(self._run.weights(before), weights)
            self._record(before, "weights", FileRecord.of(weights))
            storage.remove(self._run.targets)
        self._drop_checkpoints(sorted(manifest.checkpoints)[:-KEPT_CHECKPOINTS])
        metrics.record(_checkpoint_gauges(began, len(content)), run=self._run.root)

    def save_latents(
        self,
        epoch: int,
        start: int,
        mean: Float[np.ndarray, "n zdim"],
        logvar: Float[np.ndarray, "n zdim"],
    ) -> None:
        """Keep one worker's latents of an epoch; publish them when those of all rows are there."""
        self._require_claim()
        stream = io.BytesIO()
        np.save(stream, np.stack([mean, logvar]))
        storage.write_bytes(self._run.latent_part(epoch, start), stream.getvalue())
        parts = self._latent_parts(epoch)
        if parts is None:
            return
        uri = self._run.latents(epoch)
        write_latents(uri, *np.concatenate(parts, axis=1))
        self._record(epoch, "latents", FileRecord.of(storage.read_bytes(uri)))
        self._write_manifest()
        self._remove_parts(lambda number: number <= epoch)
        self._thin_out(newest=KEPT_EPOCHS)

    def save_estimates(
        self, position: Position, start: int, table: Float[np.ndarray, "n k"]
    ) -> None:
        """Keep what is estimated of one worker's particles, before the checkpoint of a position."""
        self._require_claim()
        self._estimates.save(position, start, table)

    def estimates_at(self, position: Position) -> Float[np.ndarray, "n k"]:
        """Return what was estimated of all particles at the checkpoint of a position."""
        return self._estimates.at(position)

    def finish(self, epoch: int) -> None:
        """Make the last epoch's weights and latents those of the run."""
        self._require_claim()
        for name in (self._run.weights, self._run.latents):
            storage.write_bytes(name(None), storage.read_bytes(name(epoch)))
        self._thin_out(newest=1)

    def delete_weights(self, surplus: Sequence[EpochWeights]) -> None:
        """Delete weights of epochs that the run need not keep; the manifest still records them."""
        for weights in surplus:
            self._require_claim()
            storage.remove(weights.uri)

    def newest_position(self) -> Position:
        """Return the position of the newest checkpoint; the start of the run without one."""
        return max(self._manifest.checkpoints, default=Position(1, 0))

    def process(self) -> int:
        """Return the number of this process; what was asked of the writer before is done."""
        return os.getpid()

    def _thin_out(self, *, newest: int) -> None:
        """Delete the weights that ``keep_epochs`` does not keep; training goes on if it cannot."""
        if self._keep_epochs == 1:
            return
        try:
            found = weights_of_epochs(self._run, every=self._keep_epochs, newest=newest)
            self.delete_weights(found.surplus)
        except (RunDirectoryError, StorageError) as error:
            self._require_claim()
            self.log(f"the weights of all epochs are kept: {error}")

    def _require_claim(self, *, within: float = 0.0) -> None:
        """Refuse to write for a command that no longer has the run.

        Args:
            within: Seconds for which the last check still counts.
        """
        now = time.monotonic()
        if self._claim is not None and now - self._checked >= within:
            self._claim.check()
            self._checked = now

    def _add_log_line(self, message: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._log.add(f"{stamp}  {message}")

    def _record(self, epoch: int, name: str, record: FileRecord) -> None:
        self._manifest.epochs.setdefault(epoch, {})[name] = record

    def _newest_whole_checkpoint(self) -> tuple[bytes | None, list[str]]:
        problems = []
        for position in sorted(self._manifest.checkpoints, reverse=True):
            uri = self._run.checkpoint(position)
            content = storage.read_if_there(uri)
            if content is None:
                problems.append(f"{uri} {storage.absence(uri)} The checkpoint before it is used.")
                continue
            if not self._manifest.checkpoints[position].matches(content):
                problems.append(
                    f"{uri} is not what was written: its size or checksum differs. The checkpoint "
                    "before it is used."
                )
                continue
            if position.step and Checkpoint.from_bytes(content).batch_order != BATCH_ORDER:
                problems.append(
                    f"{uri} is of an older version of raydrgn, which took the particles in another "
                    f"order; epoch {position.epoch} is trained again from its beginning."
                )
                if position.epoch == 1:
                    return None, problems
                if self._restore_end_of_epoch(position.epoch - 1):
                    return self.checkpoint_at(Position(position.epoch, 0)), problems
                continue
            return content, problems
        return None, problems

    def _restore_end_of_epoch(self, epoch: int) -> bool:
        """Make the checkpoint at the end of an epoch from its published weights, if they hold."""
        record = self._manifest.epochs.get(epoch, {}).get("weights")
        uri = self._run.weights(epoch)
        weights = storage.read_bytes(uri) if record and storage.exists(uri) else b""
        if record is None or not record.matches(weights):
            return False
        checkpoint = Checkpoint.after_epoch(epoch, weights)
        content = checkpoint.to_bytes()
        storage.write_bytes(self._run.checkpoint(checkpoint.position), content)
        self._manifest.checkpoints[checkpoint.position] = FileRecord.of(content)
        return True

    def _forget_after(self, position: Position) -> None:
        self._drop_checkpoints([p for p in self._manifest.checkpoints if p > position])
        self._remove_parts(lambda epoch: epoch >= position.epoch)
        self._estimates.remove(lambda found: found > position)
        self._log.flush()
        self._metrics.forget_after(position)

    def _drop_checkpoints(self, positions: list[Position]) -> None:
        """Write the manifest without some checkpoints, and then delete their files."""
        for position in positions:
            del self._manifest.checkpoints[position]
        self._write_manifest()
        for position in positions:
            storage.remove(self._run.checkpoint(position))
        self._estimates.remove(lambda position: position in positions)

    def _write_manifest(self) -> None:
        """Write the manifest, once all that it records is on the disk under its name."""
        self._require_claim()
        for folder in (self._state_folder, self._run.root):
            if storage.exists(folder):
                storage.sync_folder(folder)
        self._manifest.write(self._run.manifest)
        storage.sync_folder(self._run.root)

    @property
    def _state_folder(self) -> Uri:
        return storage.parent(self._run.latent_part(0, 0))

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
        folder = self._state_folder
        for name in storage.list_names(folder):
            match = LATENT_PART_NAME.fullmatch(name)
            if match and chosen(int(match[1])):
                storage.remove(storage.join(folder, name))

    def _remove_leftovers(self, manifest: Manifest) -> None:
        """Delete what a writer that was killed had begun, or had not deleted yet.

        Checkpoints stay where the manifest records none: then it is rather the manifest that is
        lost.
        """
        for folder in (self._run.root, self._state_folder):
            for name in storage.list_names(folder):
                match = CHECKPOINT_NAME.fullmatch(name)
                is_unknown = (
                    match
                    and manifest.checkpoints
                    and Position(*map(int, match.groups())) not in manifest.checkpoints
                )
                if is_unknown or name.endswith(storage.PART_SUFFIX):
                    storage.remove(storage.join(folder, name))


def _checkpoint_gauges(began: float, size: int) -> dict[str, float]:
    now = time.time()
    return {
        "checkpoint_timestamp_seconds": now,
        "checkpoint_duration_seconds": now - began,
        "checkpoint_bytes": size,
    }
