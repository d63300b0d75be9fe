"""What stacks of images and maps contain, and what looks wrong in a sample of the images."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from raydrgn.data.image_statistics import ImageStatistics, group_numbers
from raydrgn.data.source import ImageSource, rows_by_box
from raydrgn.fourier.density import CLEAR_SKEWNESS, measure_density
from raydrgn.inputs.inspection import Inspection
from raydrgn.io.mrc import MODES, MrcHeader, read_header, read_slices
from raydrgn.io.particles import ParticleTable
from raydrgn.io.stacks import read_headers
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

SAMPLE = 64
"""Images of a stack that are examined."""

PIXEL_SIZE_TOLERANCE = 0.01


def describe_stacks(table: ParticleTable, found: Inspection) -> None:
    """Describe the stacks of particles, and a sample of the images."""
    headers = read_headers(table.stacks)
    modes = Counter(_pixel_type(header) for header in headers)
    found.add("pixels", ", ".join(f"{kind}: {n}" for kind, n in modes.items()))
    size = sum(header.slice_bytes * header.shape[0] for header in headers)
    found.add("stacks' size", f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB")
    unused = sum(header.shape[0] for header in headers) - len(table)
    if unused > 0:
        found.add("images not listed", f"{unused:,}")
    in_headers = {round(h.pixel_size_angstrom, 4) for h in headers if h.pixel_size_angstrom}
    if in_headers and "pixel_size_angstrom" in table.table.column_names:
        known = table.column("pixel_size_angstrom")
        if min(np.abs(known / size - 1).min() for size in in_headers) > PIXEL_SIZE_TOLERANCE:
            found.concerns.append(
                f"The pixel size is {', '.join(map(str, sorted(in_headers)))} Å in the headers of "
                f"the stacks, and {known[0]:.4f} Å in the particle file."
            )
    source = ImageSource(headers, table.stack_codes, table.column("slice"))
    sample = _evenly(len(table))
    alike = [sample[rows] for rows in rows_by_box(table.column("box")[sample])]
    groups = group_numbers(table)
    examined = [(source.read(rows), groups[rows]) for rows in alike]
    _describe_images(examined, table.column("index")[np.concatenate(alike)], found)


def _pixel_type(header: MrcHeader) -> str:
    order = ", big-endian" if header.dtype.byteorder == ">" else ""
    modes = {kind: mode for mode, kind in MODES.items()} | {"u1": 0}
    mode = modes[f"{header.dtype.kind}{header.dtype.itemsize}"]
    return f"{header.dtype.newbyteorder('=').name} (mode {mode}{order})"


def inspect_stack(uri: Uri) -> Inspection:
    """Describe a stack of images, or a map."""
    header = read_header(uri)
    depth, height, width = header.shape
    is_map = header.is_volume and depth == height == width
    found = Inspection(uri, "map" if is_map else "stack of images")
    found.add("slices", f"{depth:,}")
    found.add("box (px)", f"{width}" if height == width else f"{width} × {height}")
    found.add("pixels", _pixel_type(header))
    if header.pixel_size_angstrom:
        found.add("pixel size (Å)", f"{header.pixel_size_angstrom:.6g}")
    else:
        found.concerns.append("The header has no pixel size.")
    if is_map:
        found.add("origin (Å)", ", ".join(f"{value:g}" for value in header.origin_angstrom))
    elif header.is_volume:
        found.concerns.append(
            "The header calls it a map, but it is not a cube: it is read as images."
        )
    if height != width:
        found.concerns.append("The images are not square.")
    if width % 2:
        remedy = "an even one is needed" if is_map else "`raydrgn downsample` makes it even"
        found.concerns.append(f"The box is odd; {remedy}.")
    if is_map:
        _describe_map(header, found)
    else:
        rows = _evenly(depth)
        images = np.concatenate([read_slices(header, int(row), 1) for row in rows])
        _describe_images([(images.astype(np.float32), np.zeros(len(rows), int))], rows, found)
    return found


def _describe_map(header: MrcHeader, found: Inspection) -> None:
    volume = read_slices(header, 0, header.shape[0]).astype(np.float32)
    _describe_intensities(volume, found)
    if np.isfinite(volume).all() and len(volume) % 2 == 0 and np.ptp(volume) > 0:
        third_moment = measure_density(volume).skewness
        found.add("skewness of the density", f"{third_moment:.2f}")
        if third_moment < -CLEAR_SKEWNESS:
            found.concerns.append(
                "The density is negative: its contrast is inverted. `raydrgn invert MAP -o OUT` "
                "changes the sign of a map; of a reconstruction, see `raydrgn backproject`."
            )


def _describe_images(
    examined: Sequence[tuple[Float[np.ndarray, "_ _ _"], Int[np.ndarray, " _"]]],
    numbers: Int[np.ndarray, " k"],
    found: Inspection,
) -> None:
    """Describe images of a sample, and name those that cannot be used or are outliers.

    Args:
        examined: Images of each box, and their optics groups.
        numbers: Of all images, in this order.
        found: What is added to.
    """
    statistics = ImageStatistics.joined(
        [ImageStatistics.of(images, group=group) for images, group in examined]
    )
    if statistics.bad.any():
        found.concerns.append(
            f"{int(statistics.bad.sum())} of {len(numbers):,} images examined are constant or have "
            "pixels that are not finite."
        )
    _describe_intensities(np.concatenate([images.ravel() for images, _ in examined]), found)
    found.concerns += statistics.warnings(numbers)


def _describe_intensities(values: np.ndarray, found: Inspection) -> None:
    finite = values[np.isfinite(values)]
    if len(finite) < values.size:
        found.concerns.append(f"{values.size - len(finite)} values are not finite.")
    if len(finite):
        found.add_range("intensities", finite)
        mean, sd = finite.mean(dtype=np.float64), finite.std(dtype=np.float64)
        found.add("mean, SD", f"{mean:.4g}, {sd:.4g}")


def _evenly(count: int) -> Int[np.ndarray, " k"]:
    """Return the rows of a sample."""
    return np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(np.int64))
