"""NumPy's own files: ``.npy`` arrays and structured arrays, checked before memory is allocated."""

import ast
import io
from typing import Any

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.filetypes import NUMPY, check_type
from raydrgn.io.storage import Uri

MAX_HEADER = 1_000_000
"""Bytes of a header; tables of cryoSPARC with many fields need more than NumPy's default."""


def read_array(uri: Uri, *, wanted: str = "a NumPy array (.npy)") -> np.ndarray:
    """Read an array of numbers, text or named fields, in native byte order.

    Args:
        uri: The file; its name may end in anything.
        wanted: What is expected, with its article, for the message.

    Raises:
        InputError: If it is no such file, is cut short, or holds Python objects.
    """
    content = storage.read_bytes(uri)
    check_type(content, uri, wanted=wanted, accepted=NUMPY)
    if not content.startswith(NUMPY.beginnings):
        raise InputError(f"{uri} is not {wanted}: it does not begin as NumPy's files do.")
    stream = io.BytesIO(content)
    try:
        shape, fortran_order, dtype = _header(stream)
        if dtype.hasobject:
            raise InputError(
                f"{uri} holds Python objects, which are not read. Save it as numbers: "
                "np.save(file, np.asarray(values))."
            )
        count = int(np.prod(shape, dtype=object))
        size = len(content) - stream.tell()
        if count * dtype.itemsize != size:
            raise InputError(
                f"{uri} is damaged: its header promises {count:,} values of {dtype.itemsize} "
                f"bytes, but {size:,} bytes follow. Copy it again."
            )
        values = np.frombuffer(content, dtype=dtype, offset=stream.tell(), count=count)
        array = values.reshape(shape, order="F" if fortran_order else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)
    except InputError:
        raise
    except Exception as error:  # NumPy raises nearly everything at a damaged header
        raise InputError(
            f"{uri} is not {wanted}: its header is damaged. Copy or write it again."
        ) from error


def to_float32(array: np.ndarray) -> np.ndarray:
    """Return numbers in single precision; what does not fit becomes infinite.

    Raises:
        ValueError: If the array holds anything but real numbers.
    """
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{array.dtype} is no type of real numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type; the layouts 1, 2 and 3 differ in length and encoding only."""
    major, _ = np.lib.format.read_magic(stream)
    length = int.from_bytes(stream.read(2 if major == 1 else 4), "little")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    fields = ast.literal_eval(stream.read(length).decode("utf-8" if major > 2 else "latin1"))
    shape = tuple(int(size) for size in fields["shape"])
    if any(size < 0 for size in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, bool(fields["fortran_order"]), np.lib.format.descr_to_dtype(fields["descr"])
