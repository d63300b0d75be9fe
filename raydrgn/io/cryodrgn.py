"""cryoDRGN's pickles: poses, CTF parameters, latents; and its selections (``io.indices``)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.arrays import to_float32
from raydrgn.io.indices import read_indices as read_indices
from raydrgn.io.indices import read_labels as read_labels
from raydrgn.io.indices import write_indices as write_indices
from raydrgn.io.pickles import read_pickles as read_pickles
from raydrgn.io.pickles import write_pickles as write_pickles
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

CTF_PICKLE_COLUMNS = 9
"""Box, pixel size, and then the columns of ``particles.CTF_COLUMNS``."""


class Poses(NamedTuple):
    """Contents of a ``poses.pkl``."""

    rotations: Float[np.ndarray, "n 3 3"]
    shifts_fraction: Float[np.ndarray, "n 2"]
    """Shift (x, y) as a fraction of the box."""


def read_poses(uri: Uri) -> Poses:
    """Read rotations and shifts; without shifts in the file they are zero.

    Raises:
        InputError: If shapes are not (N, 3, 3) and (N, 2), or a shift exceeds the box.
    """
    [found] = read_pickles(uri)
    parts: Sequence[Any] = found if isinstance(found, tuple | list) else (found,)
    try:
        arrays = [to_float32(np.asarray(part)) for part in parts]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{uri} should contain rotations (N, 3, 3) and shifts (N, 2), found no such arrays."
        ) from error
    if len(arrays) not in (1, 2) or arrays[0].ndim != 3 or arrays[0].shape[1:] != (3, 3):
        raise InputError(
            f"{uri} should contain rotations (N, 3, 3) and shifts (N, 2), found "
            f"{[array.shape for array in arrays]}."
        )
    rotations = arrays[0]
    shifts = arrays[1] if len(arrays) == 2 else np.zeros((len(rotations), 2), dtype=np.float32)
    if shifts.shape != (len(rotations), 2):
        raise InputError(
            f"{uri} has {len(rotations):,} rotations, but shifts of shape {shifts.shape}; "
            f"expected ({len(rotations)}, 2)."
        )
    far = np.flatnonzero(np.abs(shifts).max(axis=1) > 1) if len(shifts) else np.empty(0)
    if far.size:
        raise InputError(
            f"{uri} has shifts larger than the box for {far.size:,} particles, first at row "
            f"{far[0]} ({shifts[far[0]].tolist()} boxes). Shifts must be fractions of the box; "
            "parse the poses again with the box of the refinement."
        )
    return Poses(rotations, shifts)


def write_poses(uri: Uri, poses: Poses) -> None:
    """Write rotations and shifts as cryoDRGN does."""
    rotations, shifts = (np.ascontiguousarray(part, dtype=np.float32) for part in poses)
    write_pickles(uri, (rotations, shifts))


def read_ctf(uri: Uri) -> Float[np.ndarray, "n 9"]:
    """Read the CTF table: box, Å per pixel, defocus U, V, angle, kV, Cs, contrast, phase shift.

    Raises:
        InputError: If the table has not nine columns or has values that are not finite.
    """
    [table] = read_pickles(uri)
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] != CTF_PICKLE_COLUMNS:
        found = getattr(table, "shape", type(table).__name__)
        raise InputError(f"{uri} should contain a table of 9 columns, found {found}.")
    if table.dtype.kind not in "fiu":
        raise InputError(f"{uri} should contain numbers, found values of type {table.dtype}.")
    table = to_float32(table)
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        columns = np.flatnonzero(~np.isfinite(table[bad[0]])).tolist()
        raise InputError(
            f"{uri} has values that are not finite in {bad.size:,} of {len(table):,} rows, first "
            f"at row {bad[0]}, column {columns[0]} (columns: box, pixel size, defocus U, V, angle, "
            "kV, Cs, amplitude contrast, phase shift). Parse the CTF again; `raydrgn parse` fills "
            "what a file lacks."
        )
    return table


def write_ctf(uri: Uri, table: Float[np.ndarray, "n 9"]) -> None:
    """Write the CTF table as cryoDRGN does."""
    write_pickles(uri, np.ascontiguousarray(table, dtype=np.float32))


def read_latents(
    uri: Uri,
) -> tuple[Float[np.ndarray, "n zdim"], Float[np.ndarray, "n zdim"] | None]:
    """Read latent means and, where the file has them, log-variances.

    Raises:
        InputError: If the file does not contain tables of floats of one shape.
    """
    found = read_pickles(uri, count=2)
    try:
        parts = [np.asarray(part) for part in found]
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{uri} should contain latents (N, zdim), found no table.") from error
    if any(
        part.ndim != 2 or part.dtype.kind != "f" or part.shape != parts[0].shape for part in parts
    ):
        raise InputError(f"{uri} should contain latents (N, zdim), found {parts[0].shape}.")
    return parts[0], parts[1] if len(parts) > 1 else None


def write_latents(
    uri: Uri, mean: Float[np.ndarray, "n zdim"], logvar: Float[np.ndarray, "n zdim"]
) -> None:
    """Write means, then log-variances, as cryoDRGN does."""
    write_pickles(uri, *(np.ascontiguousarray(part, dtype=np.float32) for part in (mean, logvar)))
