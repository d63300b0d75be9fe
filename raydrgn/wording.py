"""Numbers, sizes and times as a person reads them."""

import math


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, such as ``1 epoch`` and ``7 epochs``."""
    digits = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{digits} {noun}{'' if number == 1 else 's'}"


def in_bytes(count: float, *, none: str = "–") -> str:
    """Return a size for a person to read, in other words if it is nothing."""
    if count < 1:
        return none
    power = min(int(math.log10(count) // 3), 4)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def in_time(seconds: float | None) -> str:
    """Return a time for a person to read."""
    if seconds is None:
        return "–"
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
