"""Progress of work: what a workflow reports, and what workers elsewhere report to it."""

import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called with how much is done; a command draws a bar, a notebook may ignore it."""

    def __call__(
        self,
        what: str,
        done: float,
        total: float,
        *,
        unit: str = "",
        rate: float | None = None,
        extra: str = "",
    ) -> None:
        """Report progress.

        Args:
            what: Name of the work, such as ``decoding``; a new name begins a new bar.
            done: Units done.
            total: Units in all.
            unit: What is counted, such as ``particles``.
            rate: Units per second; measured by the receiver if not given.
            extra: More to show, such as a loss.
        """
        ...


def silent(
    what: str,
    done: float,
    total: float,
    *,
    unit: str = "",
    rate: float | None = None,
    extra: str = "",
) -> None:
    """Report nothing."""


class TaskCounts:
    """A plain class, made an actor: tasks count what they have done, the driver reads it."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def set(self, number: int, count: int) -> None:
        """Set the count of a task."""
        self._counts[number] = count

    def read(self) -> dict[int, int]:
        """Return the count of each task."""
        return self._counts


class ProgressBoard:
    """A plain class, made an actor: workers write on it, the driver reads it."""

    def __init__(self) -> None:
        self._latest: dict[str, Any] = {}
        self._notes: list[str] = []
        self._stop_through = 0
        self._groups: set[str] = set()

    def update(self, latest: Mapping[str, Any], *, attempt: int) -> bool:
        """Replace what is known of the work; return whether this attempt at it is to stop."""
        self._latest = {**latest, "attempt": attempt}
        return self.is_stopping(attempt)

    def is_stopping(self, attempt: int) -> bool:
        """Return whether an attempt is to end as soon as it can without losing anything."""
        return attempt <= self._stop_through

    def hold(self, placement_group: str) -> None:
        """Note a placement group in which workers are."""
        self._groups.add(placement_group)

    def placement_groups(self) -> list[str]:
        """Return the placement groups in which workers have been."""
        return sorted(self._groups)

    def note(self, message: str) -> None:
        """Add a message for the user."""
        self._notes.append(message)

    def read(self, *, stop_through: int) -> tuple[dict[str, Any], list[str], int]:
        """Return what is known of the work, the messages since the last call, and the process.

        Args:
            stop_through: Last of the attempts that are to stop. The reader repeats it with every
                call, so that a board that was started again knows it too.
        """
        self._stop_through = stop_through
        notes, self._notes = self._notes, []
        return self._latest, notes, os.getpid()
