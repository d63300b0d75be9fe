"""What a user sees: messages, tables and progress, on a terminal or in a job's log.

Text is printed as it is. Neither console reads markup, so that a folder named ``[run7]`` keeps its
name in every message, table and bar; and a terminal without a character gets a replacement.
"""

import _thread
import codecs
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from raydrgn.cli.exit_codes import EXIT_FAILED
from raydrgn.remote.progress_line import ProgressLine

AGAIN_SECONDS = 0.05
"""From an interrupt that was lost in a callback until it is raised again."""

console = Console(markup=False, emoji=False, highlight=False)
"""Results."""

messages = Console(stderr=True, markup=False, emoji=False, highlight=False)
"""Progress, warnings and errors."""

SUBSTITUTES = {
    "→": "->", "…": "...", "−": "-", "–": "-", "×": "x", "Å": "A", "°": " deg", "≥": ">=",
    "≤": "<=", "±": "+-", "²": "2", "³": "3", "·": "-", "•": "*", "’": "'", "“": '"', "”": '"',
}  # fmt: skip
"""What is printed where the terminal's encoding lacks a character of raydrgn's own messages."""


def set_up_streams() -> None:
    """Let standard output and error take any text, whatever the terminal's encoding."""
    codecs.register_error("raydrgn", _substitute)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="raydrgn")


def set_up_interrupts() -> None:
    """Raise Ctrl-C again where it came within a callback from C, which Python only prints.

    Numba calls Python so while it compiles, as the first UMAP of a process does for seconds.
    """
    before = sys.unraisablehook

    def raise_again(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # not at once: it would be raised within this function, and be lost again
            again = threading.Timer(AGAIN_SECONDS, _thread.interrupt_main)
            again.daemon = True
            again.start()
        else:
            before(lost)

    sys.unraisablehook = raise_again


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded: known characters by similar ones, others by their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (sign.encode("ascii", "backslashreplace").decode() for sign in text)
    return "".join(map(SUBSTITUTES.get, text, escaped)), error.end


def result(*lines: str) -> None:
    """Print lines of a result."""
    for line in lines:
        console.print(line, soft_wrap=True)


def message(*lines: str, style: str | None = None) -> None:
    """Print lines for the person at the terminal, on standard error."""
    for line in lines:
        messages.print(line, soft_wrap=True, style=style)


def warning(text: str) -> None:
    """Print a warning on standard error."""
    messages.print(Text.assemble(("warning:", "bold yellow"), " ", text), soft_wrap=True)


def error(text: str) -> None:
    """Print an error on standard error."""
    messages.print(Text.assemble(("error:", "bold red"), " ", text), soft_wrap=True)


def columns(rows: Sequence[Sequence[str]], *, least: int = 0) -> list[str]:
    """Return rows of text as lines with aligned columns; the last one is as long as it is.

    Unlike tables, they do not fold where the screen is narrow, and can be read by programs.
    """
    widths = [max(least, *map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = []
    for *cells, last in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([*padded, last]).rstrip())
    return lines


def end_with(failures: Sequence[str]) -> None:
    """List what failed, and end with code 1 if anything has."""
    message(*failures)
    if failures:
        message(f"{len(failures)} failed; repeat the same command to make what is missing.")
        raise typer.Exit(EXIT_FAILED)


LINE_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal."""


class _MessageHandler(logging.Handler):
    """Shows a record of the log as one line, which the terminal folds, and no log does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record; above the bar of progress, if one is shown."""
        try:
            style = f"logging.level.{record.levelname.lower()}"
            text = Text.assemble((f"{record.levelname:<8}", style), " ", self.format(record))
            messages.print(text, soft_wrap=True)
        except Exception:
            self.handleError(record)


def set_up_logging() -> None:
    """Show raydrgn's log from INFO on, that of other libraries from ERROR on."""
    handler = _MessageHandler()
    logging.basicConfig(level="ERROR", handlers=[handler], format="%(message)s", force=True)
    logging.getLogger("raydrgn").setLevel("INFO")


class ProgressDisplay:
    """Progress of counted work with its rate and the time left: a bar, or lines in a log."""

    def __init__(self) -> None:
        self._is_terminal = messages.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn("left", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[extra]}", markup=False),
            console=messages,
            transient=True,
        )
        self._tasks: dict[str, tuple[TaskID, float, float]] = {}
        self._last_line = 0.0
        self._current = ""

    def __enter__(self) -> "ProgressDisplay":
        if self._is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:  # else it prints an empty line
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
        if what != self._current:  # work may come back: after a failure, particles are read again
            self._current, self._last_line = what, 0.0
            for other, _, _ in self._tasks.values():
                self._progress.update(other, visible=False)
            task = self._tasks[what][0] if what in self._tasks else None
            if task is None:
                task = self._progress.add_task(what, total=total, rate="", extra="")
            self._progress.update(task, visible=True)
            self._tasks[what] = (task, now, done)
        task, began, first = self._tasks[what]
        elapsed = now - began
        speed = rate or ((done - first) / elapsed if elapsed > 0 else 0.0)
        line = ProgressLine(what=what, done=done, total=total, unit=unit, rate=speed, extra=extra)
        self._progress.update(task, completed=done, total=total, rate=line.rate_text, extra=extra)
        due = now - self._last_line >= LINE_SECONDS or done >= total
        if not self._is_terminal and due and self._last_line != float("inf"):
            message(line.text())
            self._last_line = float("inf") if done >= total else now


@contextmanager
def progress_display() -> Iterator[ProgressDisplay]:
    """Show progress for the length of a block."""
    with ProgressDisplay() as display:
        yield display


def ask(question: str) -> bool:
    """Ask a person a yes-or-no question; without a terminal the answer is no."""
    if not (sys.stdin.isatty() and messages.is_terminal):
        return False
    answer = messages.input(f"{question} [Y/n] ", markup=False, emoji=False)
    return answer.strip().lower() in ("", "y", "yes")
