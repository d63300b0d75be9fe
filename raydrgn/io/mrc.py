"""MRC files: headers, ranges of a stack without reading all of it, volumes.

The layout is MRC2014. Pixels are read as they are stored (modes 0, 1, 2, 6, 12; either byte order)
and given out as float32 or in their own type. A machine stamp without meaning, or a wrong one, is
replaced by the byte order in which the header makes sense.

References:
    Cheng et al. (2015), J. Struct. Biol. 192:146 (MRC2014).
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.file_ranges import read_range
from raydrgn.io.filetypes import check_type
from raydrgn.io.storage import Uri
from raydrgn.settings import typed_path
from raydrgn.shapes import Float, Int

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
IMOD_SIGNED_BYTES = 1

BIG_ENDIAN = b"\x11\x11"
"""Machine stamp."""

ABSURD_ANGSTROM = 1e6
"""Origins farther away than this are what was in the file's memory, not positions."""

SAME_VOXEL = 2e-3
"""Relative difference up to which edges of a voxel are the same."""

MODES: dict[int, str] = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Pixel types by MRC mode, without byte order."""

VOLUME_NAME = re.compile(r"vol_(\d{3,})\.mrc")
"""Files that ``volume_name`` names."""

OTHER_MODES = {3: "complex int16", 4: "complex float32", 16: "RGB", 101: "4-bit"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MrcHeader:
    """What is needed to read pixels of one file, checked against the file's size."""

    uri: Uri
    shape: tuple[int, int, int]
    """Slices, rows, columns."""

    dtype: np.dtype[np.generic]
    """Type of a stored pixel, with byte order."""

    data_start: int
    """First byte of the pixels."""

    voxel_angstrom: tuple[float, float, float]
    """Distance of columns, rows and slices; 0 where the header has none, or has it of another
    number of them."""

    stored_origin_angstrom: tuple[float, float, float]
    """Origin (x, y, z) that the header has; 0 where it has none, or an absurd one."""

    start_px: tuple[int, int, int]
    """Number (x, y, z) of the first voxel, which some programs write instead of the origin."""

    is_volume: bool
    """Whether the file calls itself a volume rather than a stack."""

    axes: tuple[int, int, int]
    """Which of x, y and z (1, 2, 3) columns, rows and slices are; 0 where it has none."""

    @property
    def pixel_size_angstrom(self) -> float:
        """Distance of columns: 0 where the header has none."""
        return self.voxel_angstrom[0]

    @property
    def origin_angstrom(self) -> tuple[float, float, float]:
        """Position (x, y, z) of the first voxel: the origin, or the start where that is zero."""
        return self.origin_at(self.pixel_size_angstrom)

    def origin_at(self, pixel_size_angstrom: float) -> tuple[float, float, float]:
        """Return the position of the first voxel where voxels have another size than the header's.

        The rule is ChimeraX's: a start counts in voxels, an origin in Å.
        """
        if any(self.stored_origin_angstrom):
            return self.stored_origin_angstrom
        x, y, z = (_plausible(number * pixel_size_angstrom) for number in self.start_px)
        return x, y, z

    @property
    def slice_bytes(self) -> int:
        """Bytes of one image or plane."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def volume_name(number: int) -> str:
    """Return the file name of a volume of a numbered set, as cryoDRGN has it."""
    return f"vol_{number:03d}.mrc"


def volume_number(name: str) -> int | None:
    """Return the number in the name of a file that ``volume_name`` names; None of other files."""
    match = VOLUME_NAME.fullmatch(name)
    return int(match[1]) if match else None


def read_header(uri: Uri) -> MrcHeader:
    """Read the header of a stack or volume, and check that the file holds what it promises.

    Raises:
        InputError: If it is no MRC file, has a mode that is no density, or is shorter than its
            header promises.
        StorageError: If it cannot be read.
    """
    raw = storage.read_bytes(uri, 0, HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        check_type(raw, uri, wanted="an MRC file")
        raise InputError(f"{uri} has {len(raw):,} bytes; an MRC header alone has {HEADER_BYTES:,}.")
    header = _header_in_byte_order(uri, raw)
    mode = int(header["mode"])
    if mode not in MODES:
        kind = OTHER_MODES.get(mode, "unknown")
        raise InputError(
            f"{uri} has MRC mode {mode} ({kind}); images and maps have one of the modes "
            f"{', '.join(map(str, MODES))}."
        )
    kind = "u1" if mode == 0 and _has_unsigned_bytes(header) else MODES[mode]
    found = MrcHeader(
        uri=uri,
        shape=(int(header["nz"]), int(header["ny"]), int(header["nx"])),
        dtype=np.dtype(header.dtype["mode"].byteorder + kind),
        data_start=HEADER_BYTES + max(int(header["nsymbt"]), 0),
        voxel_angstrom=_voxel(header),
        stored_origin_angstrom=_origin(header),
        start_px=(int(header["nxstart"]), int(header["nystart"]), int(header["nzstart"])),
        is_volume=int(header["ispg"]) >= 1,
        axes=(int(header["mapc"]), int(header["mapr"]), int(header["maps"])),
    )
    _check_size(found)
    return found


def _header_in_byte_order(uri: Uri, raw: bytes) -> np.void:
    stamp = raw[212:214]
    for order in "><" if stamp == BIG_ENDIAN else "<>":  # some stamps are wrong
        header = np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder(order))[0]
        sizes = [int(header[name]) for name in ("nx", "ny", "nz")]
        known = int(header["mode"]) in MODES or int(header["mode"]) in OTHER_MODES
        if known and all(0 < size < 2**24 for size in sizes):
            return header
    check_type(raw, uri, wanted="an MRC file")
    raise InputError(
        f"{uri} is not an MRC file: its first words are not a size and a mode in either byte order."
    )


def _has_unsigned_bytes(header: np.void) -> bool:
    """Return whether IMOD wrote mode 0 as unsigned bytes, against the standard, and flags it."""
    extra = header["extra2"].tobytes()
    order = header.dtype["mode"].byteorder
    stamp, flags = np.frombuffer(extra, dtype=f"{order}i4", count=2, offset=152 - 112)
    return bool(stamp == IMOD_STAMP and not flags & IMOD_SIGNED_BYTES)


def _voxel(header: np.void) -> tuple[float, float, float]:
    sizes = []
    for axis in "xyz":
        length, samples = float(header["cella"][axis]), int(header[f"m{axis}"])
        size = length / samples if samples > 0 else 0.0
        is_of_box = axis == "x" or samples == int(header[f"n{axis}"])
        sizes.append(size if np.isfinite(size) and size > 0 and is_of_box else 0.0)
    x, y, z = sizes
    return x, y, z


def _origin(header: np.void) -> tuple[float, float, float]:
    """Return the origin that the header has; 0 for what is absurd."""
    origin = [float(header["origin"][axis]) for axis in "xyz"]
    if not np.isfinite(origin).all() or np.abs(origin).max() > ABSURD_ANGSTROM:
        return 0.0, 0.0, 0.0
    x, y, z = origin
    return x, y, z


def _plausible(position_angstrom: float) -> float:
    """Return a position; 0 for what is absurd."""
    return position_angstrom if abs(position_angstrom) <= ABSURD_ANGSTROM else 0.0


def _check_size(header: MrcHeader) -> None:
    expected = header.data_start + header.shape[0] * header.slice_bytes
    found = storage.file_size(header.uri)
    if found < expected:
        whole = max(found - header.data_start, 0) // header.slice_bytes
        raise InputError(
            f"{header.uri} is truncated: its header promises {header.shape[0]} slices "
            f"({expected} bytes), but it has {found} bytes, {whole} whole slices. "
            "Copy or extract it again."
        )
    if found > expected:
        raise InputError(
            f"{header.uri} has {found} bytes, but its header promises {header.shape[0]} slices of "
            f"{header.shape[1]}×{header.shape[2]} ({expected} bytes). Header and data disagree; "
            "write the file again."
        )


def read_slices(
    header: MrcHeader, start: int, count: int
) -> Float[np.ndarray, "count h w"] | np.ndarray:
    """Return consecutive slices in the type in which they are stored, native byte order."""
    with _opened(header) as read:
        return read(start, count)


def read_scattered_slices(
    header: MrcHeader, slices: Int[np.ndarray, " k"], *, gap: int = 1
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices in the type in which they are stored, those of one request at a time.

    Args:
        header: Of the file, which is opened once.
        slices: Their numbers, in ascending order.
        gap: Slices no more than this apart are read with one request.

    Yields:
        Which of ``slices`` they are, and their pixels.
    """
    breaks = np.flatnonzero(np.diff(slices) > gap) + 1
    with _opened(header) as read:
        for first, last in itertools.pairwise([0, *breaks.tolist(), len(slices)]):
            start, stop = int(slices[first]), int(slices[last - 1]) + 1
            yield slice(first, last), read(start, stop - start)[slices[first:last] - start]


@contextmanager
def _opened(header: MrcHeader) -> Iterator[Callable[[int, int], np.ndarray]]:
    """Open a file once; yield a function of first slice and count that reads slices of it."""
    if not storage.is_local(header.uri):
        yield partial(_fetched, header)
        return
    with storage.explained(header.uri, action="read"):
        descriptor = os.open(storage.local_path(header.uri), os.O_RDONLY)
    try:
        yield partial(_read, header, descriptor)
    finally:
        os.close(descriptor)


def _read(header: MrcHeader, descriptor: int, start: int, count: int) -> np.ndarray:
    pixels = np.empty((count, *header.shape[1:]), dtype=header.dtype)
    buffer = pixels.data.cast("B")
    with storage.explained(header.uri, action="read"):
        got = read_range(descriptor, buffer, header.data_start + start * header.slice_bytes)
    if got < len(buffer):
        raise InputError(f"{header.uri} ended while it was read; is it being written?")
    return pixels.astype(header.dtype.newbyteorder("="), copy=False)


def _fetched(header: MrcHeader, start: int, count: int) -> np.ndarray:
    first = header.data_start + start * header.slice_bytes
    length = count * header.slice_bytes
    content = storage.read_bytes(header.uri, first, first + length)
    if len(content) < length:
        raise InputError(f"{header.uri} ends within slice {start + count - 1}.")
    pixels = np.frombuffer(bytearray(content), dtype=header.dtype)  # which may be written to
    pixels = pixels.reshape(count, *header.shape[1:])
    return pixels.astype(header.dtype.newbyteorder("="), copy=False)


def read_volume(uri: Uri) -> tuple[Float[np.ndarray, "d d d"], MrcHeader]:
    """Return a cubic map, axes (z, y, x), with its header.

    Raises:
        InputError: If the map or its voxels are not cubic, its box is odd, its axes are stored in
            another order, or it has values that are not finite.
    """
    header = read_header(uri)
    depth, height, width = header.shape
    if not depth == height == width or width % 2:
        raise InputError(f"{uri} has shape {header.shape}; a map must be a cube with an even edge.")
    if header.axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{uri} stores its axes in the order {header.axes}, not x, y, z (1, 2, 3); write it "
            "with x as the fastest axis."
        )
    known = [size for size in header.voxel_angstrom if size]
    if known and max(known) > min(known) * (1 + SAME_VOXEL):
        sizes = " × ".join(f"{size:.4g}" for size in header.voxel_angstrom)
        raise InputError(
            f"{uri} has voxels of {sizes} Å; those of a map must be cubes. Resample the map, or "
            "mend its header if that is wrong."
        )
    volume = read_slices(header, 0, depth).astype(np.float32)
    if not np.isfinite(volume).all():
        raise InputError(f"{uri} has voxels that are not finite; repair or leave out this map.")
    return volume, header


def header_bytes(
    shape: tuple[int, int, int],
    *,
    pixel_size_angstrom: float,
    is_volume: bool,
    statistics: tuple[float, float, float, float] | None = None,
    mode: int = 2,
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    start_px: tuple[int, int, int] = (0, 0, 0),
) -> bytes:
    """Return a little-endian MRC2014 header.

    Args:
        shape: Slices, rows, columns.
        pixel_size_angstrom: Edge of a voxel.
        is_volume: Whether the slices are planes of a volume or images of a stack.
        statistics: Minimum, maximum, mean and SD; unknown if not given.
        mode: MRC mode of the pixels.
        origin_angstrom: Position (x, y, z) of the first voxel.
        start_px: Its number (x, y, z), which counts where the origin is zero.
    """
    header = np.zeros(1, dtype=HEADER_DTYPE)[0]
    header["nz"], header["ny"], header["nx"] = shape
    header["mz"], header["my"], header["mx"] = shape if is_volume else (1, *shape[1:])
    header["mode"] = mode
    for axis, samples in zip("zyx", (header["mz"], header["my"], header["mx"]), strict=True):
        header["cella"][axis] = samples * pixel_size_angstrom
    for i, (axis, position) in enumerate(zip("xyz", origin_angstrom, strict=True)):
        header[f"map{'crs'[i]}"] = i + 1
        header["cellb"][("alpha", "beta", "gamma")[i]] = 90
        header["origin"][axis] = position
        header[f"n{axis}start"] = start_px[i]
    header["ispg"] = 1 if is_volume else 0
    # max < min and mean < both mean "unknown"; so does a negative SD
    low, high, mean, sd = statistics or (0.0, -1.0, -2.0, -1.0)
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = low, high, mean, sd
    header["map"] = b"MAP "
    header["machst"] = [0x44, 0x44, 0, 0]
    header["nversion"] = 20140
    header["nlabl"] = 1
    header["label"][0] = b"raydrgn"
    return header.tobytes()


def write_volume(
    uri: Uri | os.PathLike[str],
    volume: Float[np.ndarray, "d d d"],
    *,
    pixel_size_angstrom: float,
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    start_px: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Write a cubic volume, axes (z, y, x), in single precision.

    Where it lies is given as in ``header_bytes``; a pixel size of 0 is one that is not known.

    Raises:
        ConfigError: If the path is empty.
        InputError: If it is no cube of real, finite numbers, or the pixel size is none.
    """
    path = typed_path("uri", uri)
    given = np.asarray(volume)
    if given.ndim != 3 or len(set(given.shape)) > 1 or not given.size:
        raise InputError(f"{uri}: a volume is a cube; got an array of shape {given.shape}.")
    if given.dtype.kind not in "fiub":
        raise InputError(f"{uri}: a volume has real numbers; got an array of {given.dtype}.")
    if not 0 <= pixel_size_angstrom < np.inf:
        raise InputError(f"{uri}: {pixel_size_angstrom} is no pixel size; give it in Å.")
    with np.errstate(over="ignore"):
        data = np.ascontiguousarray(given, dtype="<f4")
    if not np.isfinite(data).all():
        raise InputError(f"{uri}: the volume has values that are NaN or infinite.")
    statistics = (float(data.min()), float(data.max()), float(data.mean()), float(data.std()))
    header = header_bytes(
        data.shape,
        pixel_size_angstrom=pixel_size_angstrom,
        is_volume=True,
        statistics=statistics,
        origin_angstrom=origin_angstrom,
        start_px=start_px,
    )
    with storage.atomic_write(path) as stream:
        stream.write(header)
        stream.write(data.data)
