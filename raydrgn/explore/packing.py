"""An answer of numbers by name and arrays, without turning arrays into text.

Four bytes with the length of a JSON text, the text, then the arrays one after the other, each at a
multiple of eight bytes from the beginning. The text has the type, shape and offset of each array
under ``arrays``. All is little-endian.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

ALIGNMENT = 8
TYPES = {"f4": "float32", "f2": "float16", "u1": "uint8", "u4": "uint32", "i4": "int32"}
"""Types that the page can read."""


def packed(values: Mapping[str, Any], /, **arrays: np.ndarray) -> bytes:
    """Return values and named arrays as one body.

    Raises:
        KeyError: If an array has a type that the page does not read.
    """
    parts, listed, offset = [], {}, 0
    for name, array in arrays.items():
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        listed[name] = {
            "type": TYPES[content.dtype.str[1:]],
            "shape": list(content.shape),
            "offset": offset,
        }
        padding = b"\0" * (-content.nbytes % ALIGNMENT)
        parts += [content.tobytes(), padding]
        offset += content.nbytes + len(padding)
    text = json.dumps({**values, "arrays": listed}, allow_nan=False).encode()
    text += b" " * (-(4 + len(text)) % ALIGNMENT)
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])
