"""Cells of text tables as numbers."""


def to_number(cell: str) -> float:
    """Return a cell as a number.

    Raises:
        ValueError: If it is none. ``1_11`` is a name, though Python reads it as 111.
    """
    if "_" in cell:
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


def is_number(cell: str) -> bool:
    """Return whether a cell is a number."""
    try:
        to_number(cell)
    except ValueError:
        return False
    return True
