"""Stacks of images of any mode and byte order."""

import numpy as np

from raydrgn.io.mrc import header_bytes

PIXEL_SIZE = 1.5


def write_stack(path, images, *, mode=2, order="<", pixel_size=PIXEL_SIZE):
    """Write a stack of any mode and byte order, header included."""
    kinds = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
    header = bytearray(
        header_bytes(images.shape, pixel_size_angstrom=pixel_size, is_volume=False, mode=mode)
    )
    if order == ">":
        words = np.frombuffer(bytes(header), dtype="<u4").byteswap().tobytes()
        header[: 56 * 4] = words[: 56 * 4]
        header[52 * 4 : 53 * 4] = b"MAP "
        header[212:216] = b"\x11\x11\x00\x00"
    path.write_bytes(bytes(header) + images.astype(f"{order}{kinds[mode]}").tobytes())
    return str(path)
