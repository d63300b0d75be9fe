"""What a user sees: messages, tables and progress, on a terminal or in a job's log."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

console = Console()
"""Results."""

messages = Console(stderr=True)
"""Progress, warnings and errors."""


def result(*lines: str) -> None:
    """Print lines of a result as they are: paths with brackets stay what they are."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def message(*lines: str, style: str | None = None) -> None:
    """Print lines for the person at the terminal, as they are, on standard error."""
    for line in lines:
        messages.print(line, highlight=False, markup=False, soft_wrap=True, style=style)


def end_with(failures: Sequence[str]) -> None:
    """List what failed, and end with code 1 if anything has."""
    message(*failures)
    if failures:
        message(f"{len(failures)} failed; repeat the same command to make what is missing.")
        raise typer.Exit(EXIT_FAILED)


LINE_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal."""


def set_up_logging() -> None:
    """Show what raydrgn says, from INFO on; other libraries speak from ERROR on."""
    handler = RichHandler(console=messages, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level="ERROR", handlers=[handler], format="%(message)s", force=True)
    logging.getLogger("raydrgn").setLevel("INFO")


class ProgressDisplay:
    """Progress of counted work with its rate and the time left: a bar, or lines in a log."""

    def __init__(self) -> None:
        self._is_terminal = messages.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[extra]}", markup=False),
            console=messages,
            transient=True,
        )
        self._tasks: dict[str, tuple[TaskID, float, float]] = {}
        self._last_line = 0.0

    def __enter__(self) -> "ProgressDisplay":
        if self._is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

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
        """Show how much of some work is done (``raydrgn.remote.progress.Progress``)."""
        now = time.monotonic()
        if what not in self._tasks:
            for task, _, _ in self._tasks.values():
                self._progress.update(task, visible=False)
            task = self._progress.add_task(escape(what), total=total, rate="", extra="")
            self._tasks[what] = (task, now, done)
            self._last_line = 0.0
        task, began, first = self._tasks[what]
        elapsed = now - began
        speed = rate or ((done - first) / elapsed if elapsed > 0 else 0.0)
        shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2f}"
        shown = f"{shown} {unit}/s" if speed > 0 else ""
        self._progress.update(task, completed=done, total=total, rate=shown, extra=extra)
        due = now - self._last_line >= LINE_SECONDS or done >= total
        if not self._is_terminal and due and self._last_line != float("inf"):
            counted = f"{what}: {done:,.0f}/{total:,.0f} {unit}".rstrip()
            left = f"{clock((total - done) / speed)} left" if speed > 0 and done < total else ""
            line = ", ".join(part for part in (counted, shown, left) if part)
            message(f"{line}  {extra}".rstrip())
            self._last_line = float("inf") if done >= total else now


@contextmanager
def progress_display() -> Iterator[ProgressDisplay]:
    """Show progress for the length of a block."""
    with ProgressDisplay() as display:
        yield display


metering = show_training = None  # replaced by progress_display


def ask(question: str) -> bool:
    """Ask a person a yes-or-no question; without a terminal the answer is no."""
    if not (sys.stdin.isatty() and messages.is_terminal):
        return False
    answer = messages.input(f"{question} [Y/n] ")
    return answer.strip().lower() in ("", "y", "yes")


def clock(seconds: float) -> str:
    """Return a length of time as minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
