"""Pickles of arrays, read through a sieve.

Pickles can run code, so every one is read through a sieve that lets through arrays, numbers, text,
lists, tuples, sets and dictionaries, and refuses whatever else it names.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.filetypes import PICKLE, check_type
from raydrgn.io.storage import Uri

PICKLE_PROTOCOL = 4  # what cryoDRGN 4 writes, and every Python 3 since 3.4 reads

ARRAY_PARTS = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),  # bytes, in pickles of protocol 2
    }
)
MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
CONTAINERS = {"set": set, "frozenset": frozenset, "range": range, "xrange": range}


def _empty_array(*_: object) -> np.ndarray:
    """Return the empty array with which a pickled one begins, whatever size a pickle asks for."""
    return np.ndarray(0, dtype=np.int8)


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays and plain containers, and refuses every other name in a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) in (("numpy", "ndarray"), ("numpy._core.multiarray", "_reconstruct")):
            return _empty_array
        if module in ("builtins", "__builtin__") and name in CONTAINERS:
            return CONTAINERS[name]
        if (module, name) in ARRAY_PARTS:
            return super().find_class(module, name)
        raise InputError(
            f"it asks for {module}.{name}, which may run code; only arrays, numbers, text and "
            "plain containers are read from pickles. Values of your own can be written as an "
            "array: pickle.dump(np.asarray(values), file)"
        )


def read_pickles(uri: Uri, *, count: int = 1) -> list[Any]:
    """Return the objects of up to ``count`` pickles that follow each other in one file.

    Raises:
        InputError: If the file is not a pickle, or one that names anything but arrays; nothing of
            such a file is run.
    """
    content = storage.read_bytes(uri)
    check_type(content, uri, wanted="a pickle", accepted=PICKLE)
    stream = io.BytesIO(content)
    objects: list[Any] = []
    try:
        while len(objects) < count and stream.tell() < len(content):
            start = stream.tell()
            _check_sizes(stream)
            stream.seek(start)
            objects.append(_ArrayUnpickler(stream).load())
    except InputError as error:
        raise InputError(f"{uri} is refused: {error}.") from error
    except Exception as error:  # whatever NumPy or pickle raise of damaged bytes
        raise InputError(
            f"{uri} is not a whole pickle ({_reason(error)}); copy or write it again."
        ) from error
    return objects


def _check_sizes(stream: io.BytesIO) -> None:
    """Walk through a pickle without building anything, so that no length asks for memory.

    Raises:
        ValueError: If a value is longer than the file, or remembered out of order.
    """
    for seen, (opcode, argument, _) in enumerate(pickletools.genops(stream), start=1):
        if opcode.name in MEMO_OPCODES and int(argument or 0) > seen:
            raise ValueError(f"{opcode.name} of {argument} is out of order")


def _reason(error: Exception) -> str:
    """Return an exception's own words as one phrase."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def write_pickles(uri: Uri, *objects: Any) -> None:
    """Write objects as pickles one after the other in one file."""
    with storage.atomic_write(uri) as stream:
        for item in objects:
            pickle.dump(item, stream, protocol=PICKLE_PROTOCOL)
