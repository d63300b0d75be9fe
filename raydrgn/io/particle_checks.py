"""Whether the values of a particle table make sense: each is there, finite and possible.

What is refused is named by its row.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raydrgn.errors import InputError
from raydrgn.geometry.rotations import orthogonality_error

POSSIBLE = {
    "pixel_size_angstrom": (0.01, 1000.0),
    "voltage_kv": (10.0, 10_000.0),
    "spherical_aberration_mm": (-10.0, 100.0),
    "amplitude_contrast": (0.0, 1.0),
}
"""Between which values a column lies in any microscope; 300,000 is in volts."""

# Rotations written with six decimals are orthogonal to 1e-5; a wrong convention is off by 0.1.
ORTHOGONALITY_TOLERANCE = 1e-3

BLOCK_ROWS = 1 << 18
"""Rotations that are checked at once."""


class RowError(InputError):
    """An error of one row; the reader of a file knows where that row stands in it.

    ``column`` is that of the particle table, or of the file, whose value is at fault, if it is one.
    """

    def __init__(
        self, row: int, problem: str, *, source: str | None = None, column: str | None = None
    ) -> None:
        place = f"row {row} (from 0)"
        super().__init__(f"{source}, {place}: {problem}" if source else f"{place}: {problem}")
        self.row = row
        self.problem = problem
        self.column = column


def values_of(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers (n), or of lists of k numbers (n, k)."""
    values = column.combine_chunks()
    if pa.types.is_fixed_size_list(values.type):
        flat = values.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(values), values.type.list_size)
    return values.to_numpy(zero_copy_only=False)


def check_values(table: pa.Table) -> None:
    """Check the values in a particle table.

    Raises:
        RowError: If a value is empty, not finite or impossible, a rotation is none, or a shift is
            larger than the box.
    """
    names = table.column_names
    for name in names:
        _check_finite(table, name)
    for name in POSSIBLE:
        if name in names:
            _check_possible(table, name)
    if "rotation" in names:
        _check_rotations(table)
    if {"shift_angstrom", "pixel_size_angstrom"} <= set(names):
        _check_shifts(table)


def _check_finite(table: pa.Table, name: str) -> None:
    column = table.column(name)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise _row_error(
            table, row, f"column {name} is empty ({column.null_count} such rows).", column=name
        )
    flat = column.combine_chunks()
    width = 1
    if pa.types.is_fixed_size_list(flat.type):
        width, flat = flat.type.list_size, flat.flatten()
    if pa.types.is_floating(flat.type):
        bad = np.flatnonzero(~np.isfinite(flat.to_numpy(zero_copy_only=False))) // width
        if bad.size:
            rows = np.unique(bad)
            raise _row_error(
                table,
                rows[0],
                f"column {name} is not finite ({len(rows):,} such rows of {len(column)}). Drop "
                "these rows, or repair the file.",
                column=name,
            )


def _check_rotations(table: pa.Table) -> None:
    rotations = values_of(table.column("rotation")).reshape(-1, 3, 3)
    for start in range(0, len(rotations), BLOCK_ROWS):
        error = orthogonality_error(rotations[start : start + BLOCK_ROWS])
        bad = np.flatnonzero(~(error <= ORTHOGONALITY_TOLERANCE))
        if bad.size:
            raise _row_error(
                table,
                start + bad[0],
                "the rotation is not a rotation: its rows are not orthonormal or it mirrors "
                f"({bad.size:,} such rows, or more). Matrices must be those of a refinement, "
                "in cryoDRGN's layout (N, 3, 3).",
            )


def _check_possible(table: pa.Table, name: str) -> None:
    values, (low, high) = values_of(table.column(name)), POSSIBLE[name]
    bad = np.flatnonzero((values < low) | (values > high))
    if bad.size:
        raise _row_error(
            table,
            bad[0],
            f"column {name} is {values[bad[0]]:g} ({bad.size:,} such rows of {len(values)}); it "
            f"should lie between {low:g} and {high:g}. Repair the file, or give one value for "
            "all particles to `raydrgn parse`.",
            column=name,
        )


def _check_shifts(table: pa.Table) -> None:
    shifts = values_of(table.column("shift_angstrom"))
    field = values_of(table.column("box")) * values_of(table.column("pixel_size_angstrom"))
    far = np.flatnonzero(np.abs(shifts).max(axis=1, initial=0) > field)
    if far.size:
        row = far[0]
        x, y = shifts[row]
        raise _row_error(
            table,
            row,
            f"the shift of ({x:.1f}, {y:.1f}) Å is larger than the box of {field[row]:.1f} Å "
            f"({far.size:,} such particles). Check the pixel size of "
            "the shifts and of the images.",
        )


def _row_error(table: pa.Table, row: Any, problem: str, *, column: str | None = None) -> RowError:
    source = (table.schema.metadata or {}).get(b"source")
    return RowError(int(row), problem, source=source and source.decode(), column=column)
