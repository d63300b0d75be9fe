"""Shaded pictures of isosurfaces, without display or GPU.

Parallel rays are followed through the volume to where the density first reaches the level; the
surface there is shaded by the gradient of the density. Unlike drawn triangles, this needs no mesh,
and what lies in front always hides what lies behind.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from raydrgn.fourier.resample import resample
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

VIEWS: dict[str, tuple[int, int, int]] = {"from z": (0, 1, 2), "from y": (1, 0, 2)}
"""Axes (z, y, x) of the volume that become depth, rows and columns of a picture."""

Pictures = dict[str, Int[np.ndarray, "_ _ 3"]]
"""Values 0 to 255 by view, rows upwards."""

SIZE = 128
"""Edge of a picture, pixels."""

LIGHT = np.array([-0.75, 0.45, -0.5]) / np.linalg.norm([-0.75, 0.45, -0.5])
"""Direction to the light, (depth, rows, columns): from the viewer's upper left."""

AMBIENT, HAZE = 0.3, 0.35
"""Share of the light that comes from everywhere, and that the farthest surface loses."""

BACKGROUND = 255
FRAME_MS, COLOURS = 150, 256


def render(
    volume: Float[np.ndarray, "d d d"],
    *,
    level: float,
    colour: tuple[float, float, float] = (0.55, 0.68, 0.85),
) -> Pictures:
    """Return pictures of an isosurface, one for each of ``VIEWS``; background is white.

    Args:
        volume: Density, axes (z, y, x).
        level: Density of the surface.
        colour: Red, green and blue of the surface, 0 to 1.
    """
    factor = (SIZE / len(volume)) ** 3
    fine = factor * resample(torch.from_numpy(volume), box=SIZE, ndim=3).numpy()
    return {
        name: _from_front(fine.transpose(axes), level, np.array(colour))
        for name, axes in VIEWS.items()
    }


def _from_front(
    volume: Float[np.ndarray, "s s s"], level: float, colour: Float[np.ndarray, "3"]
) -> Int[np.ndarray, "s s 3"]:
    """Return a picture, rows upwards, of what the first axis points at."""
    inside = volume >= level
    hit = inside.any(axis=0)
    rows, columns = np.nonzero(hit)
    depth = inside.argmax(axis=0)[hit]  # (n)
    slopes = [_slope(volume, axis, depth, rows, columns) for axis in range(3)]
    gradient = np.stack(slopes, axis=-1)  # (n 3), towards higher density
    normal = -gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-30)
    lit = AMBIENT + (1 - AMBIENT) * np.clip(normal @ LIGHT, 0, 1)
    nearest, farthest = (depth.min(), depth.max()) if depth.size else (0, 0)
    near = 1 - HAZE * (depth - nearest) / max(farthest - nearest, 1)
    picture = np.full((*hit.shape, 3), BACKGROUND, dtype=np.int64)
    picture[hit] = 255 * np.clip(1.25 * lit * near, 0, 1)[:, None] * colour
    return picture


def _slope(
    seen: Float[np.ndarray, "s s s"],
    axis: int,
    depth: Int[np.ndarray, " n"],
    rows: Int[np.ndarray, " n"],
    columns: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Return the central difference of the density at some points, along an axis."""
    places = [depth, rows, columns]
    ends = []
    for step in (1, -1):
        moved = [p.copy() for p in places]
        moved[axis] = np.clip(moved[axis] + step, 0, len(seen) - 1)
        ends.append(seen[tuple(moved)])
    return np.asarray(ends[0] - ends[1], dtype=np.float64)


def write_movie(uri: Uri, frames: Sequence[Int[np.ndarray, "h w 3"]]) -> None:
    """Write pictures, rows upwards, as a GIF that goes there and back for ever."""
    upright = [frame[::-1].astype(np.uint8) for frame in frames]
    palette = Image.fromarray(np.concatenate(upright)).quantize(COLOURS)  # one for all frames
    images = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in upright
    ]
    indexed = [*images, *images[-2:0:-1]]
    stream = io.BytesIO()
    indexed[0].save(
        stream, "GIF", save_all=True, append_images=indexed[1:], duration=FRAME_MS, loop=0
    )
    storage.write_bytes(uri, stream.getvalue())
