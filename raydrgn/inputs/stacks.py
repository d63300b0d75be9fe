"""What a downsampling writes, what of it is whole, and what is still to do.

A local stack is reserved at its full size under a temporary name, filled in ranges by any number of
processes, and renamed when every range is there. Elsewhere a stack is written by one process as a
whole. A small state file beside the output records which ranges and stacks are finished; the same
command, run again, does what is not.
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from raydrgn import __version__
from raydrgn.data.config import Precision
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.mrc import HEADER_BYTES
from raydrgn.io.mrc_stacks import reserve_stack
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
BLOCKS_PER_PART = 8  # of 32 MB each: seconds of work, so that little is lost or done twice


@dataclass(frozen=True, kw_only=True, slots=True)
class StackPlan:
    """One stack to write, of consecutive rows of the table."""

    number: int
    uri: Uri
    start: int
    stop: int
    box: int
    pixel_size_angstrom: float
    precision: Precision

    @property
    def size(self) -> int:
        """Bytes of the file."""
        pixels = (self.stop - self.start) * self.box**2
        return HEADER_BYTES + pixels * np.dtype(self.precision).itemsize

    @property
    def unfinished(self) -> Path:
        """Where a local stack is until it is whole."""
        return Path(f"{storage.local_path(self.uri)}{storage.PART_SUFFIX}")


@dataclass(frozen=True, slots=True)
class StackPart:
    """Some rows of the table, and the stack that they go to."""

    stack: StackPlan
    start: int
    stop: int
    source: ImageSource
    taken: Int[np.ndarray, " n"]
    """Edge of the middle of each image that is taken, pixels."""

    scale: Float[np.ndarray, " n"]
    """Factor of the intensities of each image."""


@dataclass(slots=True)
class State:
    """What is finished of one downsampling."""

    uri: Uri
    fingerprint: str
    parts: set[tuple[int, int]] = field(default_factory=set)
    """First and last row of each finished range."""

    stacks: set[int] = field(default_factory=set)
    """Numbers of the stacks that have their name."""

    @classmethod
    def read(cls, uri: Uri, fingerprint: str) -> "State":
        """Read what is known of this very downsampling; nothing if the file is about another."""
        fresh = cls(uri, fingerprint)
        if not storage.exists(uri):
            return fresh
        try:
            raw = json.loads(storage.read_bytes(uri))
            if raw["format"] != FORMAT_VERSION or raw["fingerprint"] != fingerprint:
                return fresh
            parts = {(int(a), int(b)) for a, b in raw["parts"]}
            return cls(uri, fingerprint, parts, set(raw["stacks"]))
        except (ValueError, KeyError, TypeError):
            log.warning("%s is damaged; the stacks are made again", uri)
            return fresh

    def write(self) -> None:
        """Write the state, whole or not at all."""
        raw = {
            "format": FORMAT_VERSION,
            "raydrgn_version": __version__,
            "command": sys.argv,
            "fingerprint": self.fingerprint,
            "stacks": sorted(self.stacks),
            "parts": sorted(self.parts),
        }
        storage.write_bytes(self.uri, json.dumps(raw, indent=1).encode())


def fingerprint(
    table: ParticleTable, taken: Int[np.ndarray, " n"], stacks: Sequence[StackPlan]
) -> str:
    """Return what identifies a downsampling: images, their order, and what they become.

    Local stacks count with their size and time of change.
    """
    digest = hashlib.sha256()
    for uri in table.stacks:
        known = [uri]
        if storage.is_local(uri):
            status = os.stat(storage.local_path(uri))
            known += [str(status.st_size), str(status.st_mtime_ns)]
        digest.update("\0".join(known).encode())
    digest.update(np.ascontiguousarray(table.stack_codes, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(table.column("slice"), dtype=np.int64).tobytes())
    if (taken != table.column("box")).any():
        digest.update(np.ascontiguousarray(taken, dtype=np.int64).tobytes())
    digest.update(repr(list(stacks)).encode())
    return digest.hexdigest()


class StackSet:
    """The stacks of one downsampling, and what is finished of them."""

    def __init__(
        self,
        table: ParticleTable,
        taken: Int[np.ndarray, " n"],
        stacks: Sequence[StackPlan],
        state_uri: Uri,
    ) -> None:
        """Find what is finished.

        Args:
            table: The images.
            taken: Edge of the middle of each that is taken, pixels.
            stacks: To write.
            state_uri: Where it is recorded what is finished.
        """
        self._stacks = stacks
        self._table = table
        self._taken = taken
        self._state = State.read(state_uri, fingerprint(table, taken, stacks))
        self._parts: dict[int, list[tuple[int, int]]] = {}
        old_box = int(table.column("box").max())
        for stack in stacks:
            ranges = block_ends(stack.start, stack.stop, box=old_box)
            step = BLOCKS_PER_PART if storage.is_local(stack.uri) else len(ranges)
            self._parts[stack.number] = [
                (ranges[i][0], ranges[min(i + step, len(ranges)) - 1][1])
                for i in range(0, len(ranges), step)
            ]

    def begin(self, *, overwrite: bool = False) -> None:
        """Check that nothing else is in the way and that there is room, and take the room.

        Raises:
            InputError: If an output exists that this downsampling did not write.
            StorageError: If the disk has less room than the stacks need.
        """
        fresh = []
        for stack in self._stacks:
            if self._is_whole(stack):
                self._state.stacks.add(stack.number)
                continue
            if storage.exists(stack.uri) and not overwrite:
                raise InputError(
                    f"{stack.uri} exists, and is not a whole result of this command. Choose "
                    "another name, or replace it with --overwrite."
                )
            self._state.stacks.discard(stack.number)
            if not self._is_reserved(stack):
                self._state.parts.difference_update(self._parts[stack.number])
                fresh.append(stack)
        self._check_room(fresh)
        self._state.write()
        for stack in fresh:
            if storage.is_local(stack.uri):
                reserve_stack(
                    stack.unfinished,
                    stack.stop - stack.start,
                    box=stack.box,
                    pixel_size_angstrom=stack.pixel_size_angstrom,
                    precision=stack.precision,
                )

    def _is_whole(self, stack: StackPlan) -> bool:
        """Return whether a stack is finished; one may have its name without that being recorded."""
        has_parts = self._state.parts.issuperset(self._parts[stack.number])
        is_named = stack.number in self._state.stacks or (
            has_parts and storage.is_local(stack.uri) and not stack.unfinished.exists()
        )
        return is_named and storage.exists(stack.uri) and storage.file_size(stack.uri) == stack.size

    def _is_reserved(self, stack: StackPlan) -> bool:
        if not storage.is_local(stack.uri) or not self._state.parts:
            return False
        path = stack.unfinished
        return path.exists() and path.stat().st_size == stack.size

    def _check_room(self, stacks: Sequence[StackPlan]) -> None:
        local = [stack for stack in stacks if storage.is_local(stack.uri)]
        if not local:
            return
        storage.require_room(
            storage.parent(local[0].uri),
            sum(stack.size for stack in local),
            remedy=", a smaller box, or --float16",
            released=sum(s.unfinished.stat().st_size for s in local if s.unfinished.exists()),
        )

    @property
    def rows_done(self) -> int:
        """Rows of the table that need no work."""
        return sum(
            b - a
            for stack in self._stacks
            for a, b in self._parts[stack.number]
            if stack.number in self._state.stacks or (a, b) in self._state.parts
        )

    def parts_to_do(self) -> Iterator[StackPart]:
        """Yield the ranges that are not finished."""
        source = ImageSource.as_stored(self._table)
        scale = (self._taken.max() / self._taken).astype(np.float32)
        for stack in self._stacks:
            if stack.number in self._state.stacks:
                continue
            for start, stop in self._parts[stack.number]:
                if (start, stop) not in self._state.parts:
                    rows = slice(start, stop)
                    yield StackPart(
                        stack, start, stop, source.part(start, stop), self._taken[rows], scale[rows]
                    )

    def finish(self, part: StackPart) -> None:
        """Record that a range is written; a stack that is whole with it gets its name."""
        self._state.parts.add((part.start, part.stop))
        self._state.write()
        self._name(part.stack)

    def finish_stacks(self) -> None:
        """Give their names to stacks that were whole when an earlier run ended."""
        for stack in self._stacks:
            if stack.number not in self._state.stacks:
                self._name(stack)

    def _name(self, stack: StackPlan) -> None:
        if not self._state.parts.issuperset(self._parts[stack.number]):
            return
        if storage.is_local(stack.uri):
            with storage.explained(stack.uri, action="written"):
                stack.unfinished.replace(storage.local_path(stack.uri))
        self._state.stacks.add(stack.number)
        self._state.write()
