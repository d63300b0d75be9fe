"""A line of progress in a log: written by a command, and found again by who follows its job."""

import re
from dataclasses import dataclass
from typing import Any

LINE = re.compile(
    r"(?P<what>[^:]+): (?P<done>[\d,]+)/(?P<total>[\d,]+)(?: (?P<unit>[^\s,]+))?"
    r"(?:, (?P<rate>[\d,.]+) \S+/s)?(?:, (?P<left>[\d:]+) left)?(?:  (?P<extra>\S.*))?"
)
WAITING = re.compile(r"(?:^|\s)(waiting (?:for|until) .*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressLine:
    """How much of some work is done."""

    what: str
    """Name of the work, such as ``training``."""

    done: float
    total: float
    unit: str = ""
    """What is counted, such as ``particles``."""

    rate: float = 0.0
    """Units per second; 0 if it is not known."""

    extra: str = ""
    """More to show, such as a loss."""

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at this rate, if it is known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    @property
    def rate_text(self) -> str:
        """The rate with its unit; empty if it is not known or nothing is counted."""
        if self.rate <= 0 or not self.unit:
            return ""
        number = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2f}"
        return f"{number} {self.unit}/s"

    @property
    def left_text(self) -> str:
        """The time left; empty if it is not known or the work is done."""
        if self.seconds_left is None or self.done >= self.total:
            return ""
        return clock(self.seconds_left)

    def text(self) -> str:
        """Return the line: ``training: 30/80 particles, 10 particles/s, 0:05 left  loss 0.3``."""
        counted = f"{self.what}: {self.done:,.0f}/{self.total:,.0f} {self.unit}".rstrip()
        left = f"{self.left_text} left" if self.left_text else ""
        line = ", ".join(part for part in (counted, self.rate_text, left) if part)
        return f"{line}  {self.extra}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for programs."""
        return {
            "what": self.what,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": self.rate or None,
            "seconds_left": self.seconds_left,
            "extra": self.extra,
        }


def last_progress(log: str) -> ProgressLine | str | None:
    """Return the last line of progress in a log, or what the command waits for since then."""
    for line in reversed(log.splitlines()):
        if match := LINE.fullmatch(line.rstrip()):
            return _progress(match)
        if match := WAITING.search(line):
            return match[1].rstrip()
    return None


def clock(seconds: float) -> str:
    """Return a length of time as minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _progress(match: re.Match[str]) -> ProgressLine:
    done, total, rate = (
        float((match[name] or "0").replace(",", "")) for name in ("done", "total", "rate")
    )
    return ProgressLine(
        what=match["what"],
        done=done,
        total=total,
        unit=match["unit"] or "",
        rate=rate,
        extra=match["extra"] or "",
    )
