"""Progress of work: what a workflow reports, and what workers elsewhere report to it."""

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
        self._failure: str | None = None
        self._is_defect = False
        self._notes: list[str] = []
        self._stop = False

    def update(self, latest: Mapping[str, Any]) -> bool:
        """Replace what is known of the work; return whether it is to stop."""
        self._latest = dict(latest)
        return self._stop

    def note(self, message: str) -> None:
        """Add a message for the user."""
        self._notes.append(message)

    def fail(self, message: str, *, is_defect: bool = False) -> None:
        """End the work for a reason that another try does not remove; the first reason stays."""
        if self._failure is None:
            self._failure, self._is_defect = message, is_defect

    def failure(self) -> tuple[str, bool] | None:
        """Return why the work cannot go on, and whether that is a defect of raydrgn."""
        return None if self._failure is None else (self._failure, self._is_defect)

    def ask_to_stop(self) -> None:
        """Let the work end as soon as it can without losing anything."""
        self._stop = True

    def read(self) -> tuple[dict[str, Any], list[str]]:
        """Return what is known of the work, and the messages since the last call."""
        notes, self._notes = self._notes, []
        return self._latest, notes
