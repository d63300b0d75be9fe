"""Numbers in sentences."""


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, such as ``1 epoch`` and ``7 epochs``."""
    digits = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{digits} {noun}{'' if number == 1 else 's'}"
