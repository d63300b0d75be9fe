"""Isosurfaces of the volumes of a set, and the movie of a path."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from raydrgn.decoding.volume_sets import Preview, VolumeSet
from raydrgn.io import storage
from raydrgn.io.mrc import read_volume, volume_name
from raydrgn.reporting.figures import Tile, sheet
from raydrgn.reporting.isosurface import VIEWS, Pictures, render, write_movie
from raydrgn.shapes import Float

COLUMNS = 10
"""Volumes in a row."""

MARGIN_PX = 2
"""Voxels about the surfaces of a set."""

PALE = 0.4
"""White in the colours of surfaces, so that shading is visible on dark ones."""


def surfaces(volumes: VolumeSet, previews: Sequence[Preview | None]) -> list[tuple[str, Pictures]]:
    """Return title and pictures of each volume that was made, by view.

    All have the level of the set's ChimeraX script, the median of half of their peaks, and the
    colours of the figures.
    """
    levels = [shown.level for shown in previews if shown]
    if not levels or (level := float(np.median(levels))) <= 0:
        return []
    uris = {
        number: storage.join(volumes.folder, volume_name(number))
        for number, shown in enumerate(previews)
        if shown is not None
    }
    reach = max(_reach(read_volume(uri)[0], level) for uri in uris.values())
    found = []
    for number, uri in uris.items():
        part = _centre(read_volume(uri)[0], reach + MARGIN_PX)
        colour = np.array(mpl.colors.to_rgb(volumes.colours[number]))
        pale = tuple((PALE + (1 - PALE) * colour).tolist())
        found.append((volumes.titles[number], render(part, level=level, colour=pale)))
    return found


def _reach(volume: Float[np.ndarray, "d d d"], level: float) -> int:
    """Return how far density of a level is from the centre voxel, along any axis."""
    places = np.argwhere(volume >= level) - len(volume) // 2
    return int(np.abs(places).max(initial=0))


def _centre(volume: Float[np.ndarray, "d d d"], reach: int) -> Float[np.ndarray, "s s s"]:
    """Return the cube of some voxels to either side of the centre; all where there are fewer."""
    middle = len(volume) // 2
    part = slice(max(middle - reach, 0), middle + min(reach, middle))
    return np.ascontiguousarray(volume[part, part, part])


def surface_sheet(
    found: Sequence[tuple[str, Pictures]],
) -> Figure:
    """Draw the pictures of ``surfaces`` in rows, a row for each view."""
    rows = []
    for start in range(0, len(found), COLUMNS):
        part = found[start : start + COLUMNS]
        for number, view in enumerate(VIEWS):
            tiles = [
                Tile(image=pictures[view], title=title if number == 0 else "")
                for title, pictures in part
            ]
            rows.append((view, tiles))
    return sheet(rows)


def write_path_movie(
    found: Sequence[tuple[str, Pictures]],
    volumes: VolumeSet,
) -> None:
    """Write ``movie.gif`` of the volumes along a path, both views side by side."""
    if len(found) > 1:
        frames = [np.concatenate(list(pictures.values()), axis=1) for _, pictures in found]
        write_movie(storage.join(volumes.folder, "movie.gif"), frames)
