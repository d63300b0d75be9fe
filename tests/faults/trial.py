"""A trial of a fault: what is done to a command, what it logs, and what of its outputs is lost."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.05

REPORT_DATE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC</footer>")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a trial; times in seconds after the fault, None for what never happened."""

    noticed: float | None
    recovered: float | None
    lost: str
    """What is missing or differs from an undisturbed run; empty if nothing is."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One fault of one command. ``run`` is given an empty folder."""

    name: str
    fault: str
    command: str
    run: Callable[[Path], Result]


class Command:
    """A command in a process of its own, on a cluster; knows when each line was printed."""

    def __init__(self, words: list[str], *, address: str) -> None:
        environment = {**os.environ, "RAY_ADDRESS": address, "COLUMNS": "500"}
        self.lines: list[tuple[float, str]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "raydrgn", *words],
            env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    @property
    def text(self) -> str:
        """Everything that it has printed."""
        return "\n".join(line for _, line in self.lines)

    def wait_until(self, condition: Callable[[], object], *, timeout: float = 300) -> object:
        """Wait for something to be true while the command runs; return it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if found := condition():
                return found
            if self._process.poll() is not None:
                raise AssertionError(f"the command ended before the fault:\n{self.text}")
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"nothing happened within {timeout:g} s:\n{self.text}")

    def wait(self, *, timeout: float = 600) -> int:
        """Wait for its end; return its exit code."""
        code = self._process.wait(timeout)
        self._reader.join()
        self._process.stdout.close()
        return code

    def seconds_until(self, text: str, *, after: float) -> float | None:
        """Return the time from a moment to the first line with some text."""
        return next((when - after for when, line in self.lines if when > after and text in line),
                    None)  # fmt: skip

    def kill(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self.wait()


@contextmanager
def running(words: list[str], *, address: str) -> Iterator[Command]:
    """Run a command; it has ended after the block."""
    command = Command(words, address=address)
    try:
        yield command
    finally:
        command.kill()


def differences(one: Path, other: Path) -> list[str]:
    """Return the files that only one of two folders has, or that differ in a byte."""
    files = {path.relative_to(root) for root in (one, other) for path in _files(root)}
    return sorted(str(file) for file in files if _content(one / file) != _content(other / file))


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def _content(path: Path) -> bytes | None:
    """Return what a file holds, but for the date of a report."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return REPORT_DATE.sub(b"", content) if path.suffix == ".html" else content


def table(rows: list[tuple[Trial, Result]]) -> list[str]:
    """Return the results as a table in Markdown."""
    lines = [
        "| fault | command | noticed after | recovered after | lost |",
        "|---|---|---|---|---|",
    ]
    for trial, result in rows:
        times = [
            "–" if seconds is None else f"{seconds:.1f} s"
            for seconds in (result.noticed, result.recovered)
        ]
        cells = [trial.fault, f"`{trial.command}`", *times, result.lost or "nothing"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
