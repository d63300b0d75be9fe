"""cryoDRGN's pickles: poses, CTF parameters, indices, latents.

Pickles can run code, so every one is read through a sieve that lets through arrays, numbers, text,
lists, tuples and dictionaries, and refuses whatever else it names.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

PICKLE_PROTOCOL = 4  # what cryoDRGN 4 writes, and every Python 3 since 3.4 reads

ARRAY_PARTS = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),  # bytes, in pickles of protocol 2
    }
)

MAX_INDEX = 2**53  # whole numbers up to here are exact as floats too
PARTICLE_NUMBERS, CLUSTER_NUMBERS = "particle numbers from 0", "cluster numbers (−1: of none)"

CTF_PICKLE_COLUMNS = 9
"""Box, pixel size, and then the columns of ``particles.CTF_COLUMNS``."""


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays, and refuses every other class a pickle may name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy.core", "numpy._core"), name) in ARRAY_PARTS:
            return super().find_class(module, name)
        raise InputError(f"it asks for {module}.{name}; only NumPy arrays are read from pickles")


def read_pickles(uri: Uri, *, count: int = 1) -> list[Any]:
    """Return the objects of up to ``count`` pickles that follow each other in one file.

    Raises:
        InputError: If the file is no pickle, or one that names anything but arrays; nothing of
            such a file is run.
    """
    stream = io.BytesIO(storage.read_bytes(uri))
    size = len(stream.getbuffer())
    objects: list[Any] = []
    try:
        while len(objects) < count and stream.tell() < size:
            objects.append(_ArrayUnpickler(stream).load())
    except InputError as error:
        raise InputError(f"{uri} is refused: {error}.") from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        ImportError,
        UnicodeDecodeError,
        MemoryError,
    ) as error:
        raise InputError(f"{uri} is not a whole pickle: {error}. Write it again.") from error
    if not objects:
        raise InputError(f"{uri} is empty.")
    return objects


def write_pickles(uri: Uri, *objects: Any) -> None:
    """Write objects as pickles one after the other in one file."""
    with storage.atomic_write(uri) as stream:
        for item in objects:
            pickle.dump(item, stream, protocol=PICKLE_PROTOCOL)


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
        arrays = [np.asarray(part, dtype=np.float32) for part in parts]
    except (TypeError, ValueError) as error:
        raise InputError(f"{uri} does not contain arrays of numbers: {error}.") from error
    if len(arrays) not in (1, 2) or arrays[0].ndim != 3 or arrays[0].shape[1:] != (3, 3):
        raise InputError(
            f"{uri} should contain rotations (N, 3, 3) and shifts (N, 2), found "
            f"{[array.shape for array in arrays]}."
        )
    rotations = arrays[0]
    shifts = arrays[1] if len(arrays) == 2 else np.zeros((len(rotations), 2), dtype=np.float32)
    if shifts.shape != (len(rotations), 2):
        raise InputError(
            f"{uri} has {len(rotations)} rotations, but shifts of shape {shifts.shape}; "
            f"expected ({len(rotations)}, 2)."
        )
    far = np.flatnonzero(np.abs(shifts).max(axis=1) > 1) if len(shifts) else np.empty(0)
    if far.size:
        raise InputError(
            f"{uri} has shifts larger than the box for {far.size} particles, first at row "
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
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        columns = np.flatnonzero(~np.isfinite(table[bad[0]])).tolist()
        raise InputError(
            f"{uri} has values that are not finite in {bad.size} of {len(table)} rows, first at "
            f"row {bad[0]}, column {columns[0]} (columns: box, pixel size, defocus U, V, angle, "
            "kV, Cs, amplitude contrast, phase shift). Parse the CTF again; `raydrgn parse` fills "
            "what a file lacks."
        )
    return table.astype(np.float32)


def write_ctf(uri: Uri, table: Float[np.ndarray, "n 9"]) -> None:
    """Write the CTF table as cryoDRGN does."""
    write_pickles(uri, np.ascontiguousarray(table, dtype=np.float32))


def read_indices(uri: Uri) -> Int[np.ndarray, " k"]:
    """Read particle numbers from 0: a pickled array or list, ``.npy``, or text, one per line.

    The order is kept as it is, repeated numbers too; of truth values, the places of the true ones.

    Raises:
        InputError: If these are not whole numbers from 0.
    """
    found = _read_numbers(uri, PARTICLE_NUMBERS)
    if found.dtype == bool:
        found = np.flatnonzero(found)
    return _whole(found, uri, least=0, what=PARTICLE_NUMBERS)


def read_labels(uri: Uri) -> Int[np.ndarray, " n"]:
    """Read the cluster of each particle, from files as of ``read_indices``; −1 belongs to none.

    Raises:
        InputError: If these are not whole numbers from −1.
    """
    return _whole(_read_numbers(uri, CLUSTER_NUMBERS), uri, least=-1, what=CLUSTER_NUMBERS)


def _read_numbers(uri: Uri, what: str) -> np.ndarray:
    suffix = PurePosixPath(uri).suffix
    try:
        if suffix == ".npy":
            return np.asarray(np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False))
        if suffix in (".txt", ".csv", ".dat"):
            return np.loadtxt(io.StringIO(storage.read_bytes(uri).decode()), ndmin=1)
        return np.asarray(read_pickles(uri)[0])
    except (UnicodeDecodeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{uri} does not contain {what}: {error}.") from error


def _whole(found: np.ndarray, uri: Uri, *, least: int, what: str) -> Int[np.ndarray, " k"]:
    numbers = found.ndim == 1 and found.dtype.kind in "iufb"
    in_range = numbers and bool(((found >= least) & (found < MAX_INDEX)).all())
    if not in_range or not np.array_equal(found, found.astype(np.int64)):
        raise InputError(f"{uri} should contain a list of {what}.")
    return found.astype(np.int64)


def write_indices(uri: Uri, indices: Int[np.ndarray, " k"]) -> None:
    """Write particle numbers from 0 as ``.npy``, as text, one per line, or as cryoDRGN's pickle."""
    numbers = np.ascontiguousarray(indices, dtype=np.int64)
    suffix = PurePosixPath(uri).suffix
    if suffix == ".npy":
        with storage.atomic_write(uri) as stream:
            np.save(stream, numbers, allow_pickle=False)
    elif suffix == ".txt":
        storage.write_bytes(uri, "".join(f"{number}\n" for number in numbers).encode())
    elif suffix == ".pkl":
        write_pickles(uri, numbers)
    else:
        raise ConfigError(f"-o {uri} should end in .pkl, .npy or .txt.")


def read_latents(
    uri: Uri,
) -> tuple[Float[np.ndarray, "n zdim"], Float[np.ndarray, "n zdim"] | None]:
    """Read latent means and, where the file has them, log-variances.

    Raises:
        InputError: If the file does not contain tables of floats of one shape.
    """
    parts = [np.asarray(part) for part in read_pickles(uri, count=2)]
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
