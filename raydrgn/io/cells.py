"""Cells of text tables as numbers."""

from collections.abc import Sequence

import numpy as np

from raydrgn.shapes import Float


def to_number(cell: str) -> float:
    """Return a cell as a number.

    Raises:
        ValueError: If it is none. ``1_11`` is a name, though Python reads it as 111.
    """
    if "_" in cell:
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


def to_numbers(cells: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Return a column of cells as numbers.

    Raises:
        ValueError: If one is none, as of ``to_number``.
    """
    if any("_" in cell for cell in cells):
        raise ValueError("not all cells are numbers")
    return np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))


def is_number(cell: str) -> bool:
    """Return whether a cell is a number."""
    try:
        to_number(cell)
    except ValueError:
        return False
    return True
