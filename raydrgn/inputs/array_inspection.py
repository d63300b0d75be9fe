"""What pickles and NumPy arrays contain: poses, CTF, latents, numbers of particles, or weights."""

from typing import Any

import numpy as np

from raydrgn.errors import InputError
from raydrgn.geometry.rotations import orthogonality_error
from raydrgn.inputs.inspection import Inspection
from raydrgn.inputs.particle_inspection import check_shifts, describe_ctf_column, describe_poses
from raydrgn.io import cryodrgn, storage
from raydrgn.io.arrays import read_array
from raydrgn.io.particle_checks import ORTHOGONALITY_TOLERANCE
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.storage import Uri

TORCH_ARCHIVE = b"PK\x03\x04"


def inspect_pickle(uri: Uri) -> Inspection:
    """Describe one of cryoDRGN's pickles."""
    if storage.read_bytes(uri, 0, 4) == TORCH_ARCHIVE:
        found = Inspection(uri, "weights (torch archive)")
        found.add("size", f"{storage.file_size(uri) / 1e6:.1f} MB")
        return found
    parts = cryodrgn.read_pickles(uri, count=2)
    first = parts[0]
    if isinstance(first, tuple | list) and len(first) == 2 and np.ndim(first[0]) == 3:
        return _inspect_poses(uri, np.asarray(first[0]), np.asarray(first[1]))
    return _inspect_values(uri, [_as_array(part, uri) for part in parts])


def _as_array(part: Any, uri: Uri) -> np.ndarray:
    """Return a part of a pickle as an array.

    Raises:
        InputError: If it holds arrays or lists of several shapes.
    """
    try:
        return np.asarray(part)
    except ValueError as error:
        kinds = ", ".join(
            f"{type(item).__name__} of shape {item.shape}"
            if isinstance(item, np.ndarray)
            else type(item).__name__
            for item in list(part)[:5]
        )
        raise InputError(
            f"{uri} holds a {type(part).__name__} of {len(part):,} values that do not form one "
            f"array ({kinds}). Poses are (rotations (N, 3, 3), shifts (N, 2)); other pickles hold "
            "one array."
        ) from error


def inspect_array(uri: Uri) -> Inspection:
    """Describe a NumPy array.

    Raises:
        InputError: If the file is not a NumPy array of numbers.
    """
    return _inspect_values(uri, [read_array(uri)])


def _inspect_poses(uri: Uri, rotations: np.ndarray, shifts: np.ndarray) -> Inspection:
    found = Inspection(uri, "poses")
    found.add("particles", f"{len(rotations):,}")
    if rotations.shape[1:] != (3, 3) or shifts.shape != (len(rotations), 2):
        found.concerns.append(
            f"Shapes are {rotations.shape} and {shifts.shape}; expected (N, 3, 3) and (N, 2)."
        )
        return found
    describe_poses(rotations, shifts, "of the box", found)
    wrong = int((orthogonality_error(rotations) > ORTHOGONALITY_TOLERANCE).sum())
    if wrong:
        found.concerns.append(f"{wrong} matrices are not rotations.")
    outside = int((np.abs(shifts) > 1).any(axis=1).sum())
    if outside:
        found.concerns.append(f"{outside} shifts are larger than the box: are they in pixels?")
    else:
        check_shifts(shifts, found)
    return found


def _inspect_values(uri: Uri, parts: list[np.ndarray]) -> Inspection:
    first = parts[0]
    if first.ndim == 3 and first.shape[1:] == (3, 3):
        return _inspect_poses(uri, first, np.zeros((len(first), 2)))
    if (
        first.ndim == 2
        and first.shape[1] == cryodrgn.CTF_PICKLE_COLUMNS
        and len(parts) == 1
        and (first[:, 0] > 1).all()
    ):
        found = Inspection(uri, "CTF parameters")
        found.add("particles", f"{len(first):,}")
        found.add_range("box (px)", first[:, 0])
        found.add_range("pixel size (Å)", first[:, 1])
        for i, name in enumerate(CTF_COLUMNS):
            describe_ctf_column(name, first[:, 2 + i], found)
        return found
    if first.ndim == 1 and first.dtype.kind in "iub":
        return _inspect_numbers(uri, first)
    found = Inspection(uri, "latents" if first.ndim == 2 and first.dtype.kind == "f" else "array")
    found.add("shape", " × ".join(map(str, first.shape)) + f", {first.dtype.name}")
    if len(parts) > 1:
        found.add("parts", "means and log-variances")
    for part in parts:
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            found.concerns.append("Some values are not finite.")
    if first.size and first.dtype.kind in "iuf":
        found.add_range("values", first)
    return found


def _inspect_numbers(uri: Uri, numbers: np.ndarray) -> Inspection:
    found = Inspection(uri, "particle numbers or labels")
    found.add("numbers", f"{len(numbers):,}")
    if not len(numbers):
        found.concerns.append("The list is empty.")
        return found
    found.add_range("range", numbers.astype(np.int64))
    distinct = len(np.unique(numbers))
    found.add("distinct", f"{distinct:,}")
    found.add("ascending", "yes" if (np.diff(numbers.astype(np.int64)) >= 0).all() else "no")
    if numbers.dtype.kind == "i" and numbers.min() < 0:
        found.concerns.append("Some numbers are negative.")
    return found
