"""What a user sees: messages, tables and progress, on a terminal or in a job's log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console()
"""Results."""

messages = Console(stderr=True)
"""Progress, warnings and errors."""

LINE_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal."""


def set_up_logging() -> None:
    """Show what raydrgn says, from INFO on; other libraries speak from ERROR on."""
    handler = RichHandler(console=messages, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level="ERROR", handlers=[handler], format="%(message)s", force=True)
    logging.getLogger("raydrgn").setLevel("INFO")


class Meter:
    """Progress of counted work with its rate and the time left: a bar, or lines in a log."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._is_terminal = messages.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[extra]}"),
            console=messages,
            transient=True,
        )
        self._tasks: dict[str, tuple[TaskID, float, float]] = {}
        self._last_line = 0.0

    def __enter__(self) -> "Meter":
        if self._is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(
        self, what: str, done: float, total: float, *, rate: float | None = None, extra: str = ""
    ) -> None:
        """Show how much of something is done.

        Args:
            what: Name of the work; a new name begins a new bar.
            done: Units done.
            total: Units in all.
            rate: Units per second; measured here if not given.
            extra: More to say, such as a loss.
        """
        now = time.monotonic()
        if what not in self._tasks:
            for task, _, _ in self._tasks.values():
                self._progress.update(task, visible=False)
            task = self._progress.add_task(what, total=total, rate="", extra="")
            self._tasks[what] = (task, now, done)
            self._last_line = 0.0
        task, began, first = self._tasks[what]
        elapsed = now - began
        speed = rate or ((done - first) / elapsed if elapsed > 0 else 0.0)
        said = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2f}"
        said = f", {said} {self._unit}/s" if speed > 0 else ""
        self._progress.update(task, completed=done, total=total, rate=said[2:], extra=extra)
        due = now - self._last_line >= LINE_SECONDS or done >= total
        if not self._is_terminal and due and self._last_line != float("inf"):
            left = f", {clock((total - done) / speed)} left" if speed > 0 and done < total else ""
            messages.print(
                f"{what}: {done:,.0f}/{total:,.0f} {self._unit}{said}{left}  {extra}".rstrip(),
                highlight=False,
                soft_wrap=True,
            )
            self._last_line = float("inf") if done >= total else now

    def callback(self, what: str) -> Callable[[int, int], None]:
        """Return a function of (done, total) that shows one piece of work."""
        return lambda done, total: self.show(what, done, total)


@contextmanager
def metering(unit: str) -> Iterator[Meter]:
    """Show progress for the length of a block."""
    with Meter(unit) as meter:
        yield meter


def show_training(
    meter: Meter, config: Any, num_particles: int
) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that shows what the progress board of a training run knows."""
    total = num_particles * config.train.epochs
    seen: dict[str, Any] = {}

    def show(latest: Mapping[str, Any]) -> None:
        if latest == seen:
            return
        seen.clear()
        seen.update(latest)
        if latest.get("phase") == "reading":
            meter.show("reading particles", latest["done"], latest["of"])
            return
        done = (latest["epoch"] - 1) * num_particles + latest["particles"]
        meter.show(
            "training",
            done,
            total,
            rate=latest["rate"],
            extra=f"epoch {latest['epoch']}/{config.train.epochs} loss {latest['total']:.4f} "
            f"KL {latest['kl']:.2f}",
        )

    return show


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
