"""Centroid volumes of classes: decoded at a particle, or the map nearest to the class's median."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

import numpy as np

from raydrgn.decoding.pool import DecoderPool
from raydrgn.decoding.volume_sets import (
    MadeSets,
    VolumeSet,
    common_level,
    copy_maps,
    levels_of,
    make_sets,
    set_script,
)
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.mrc import volume_name
from raydrgn.io.storage import Uri
from raydrgn.occupancy.classes import OccupancyClasses
from raydrgn.occupancy.colours import class_colours
from raydrgn.occupancy.membership import ClassParticles
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting.result_folder import ResultFolder

CENTROIDS = "centroids"
TABLE = f"{CENTROIDS}/centroids.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Centroids:
    """Centroid volumes, in the folder ``centroids``, with previews of them."""

    volumes: VolumeSet
    made: MadeSets
    classes: Sequence[int]
    """Class of each volume."""


def decode_centroids(
    pool: DecoderPool,
    particles: ClassParticles,
    titles: Sequence[str],
    folder: ResultFolder,
    *,
    progress: Progress = silent,
) -> Centroids:
    """Decode the centroid volume of each class that has particles.

    ``centroids.csv`` has the particle of each.
    """
    rows = [(c, row) for c, row in enumerate(particles.centroids, start=1) if row is not None]
    members = particles.members
    folder.write_table(
        TABLE,
        ("volume", "class", "particle", "original"),
        [(volume_name(i), f"C{c}", row, members.numbers[row]) for i, (c, row) in enumerate(rows)],
    )
    colours = class_colours(len(particles.centroids))
    volumes = VolumeSet(
        name="class centroids",
        folder=folder.at(CENTROIDS),
        z=members.z[[row for _, row in rows]],
        colours=[colours[c - 1] for c, _ in rows],
        titles=[titles[c - 1] for c, _ in rows],
    )
    made = make_sets(pool, [volumes], progress=progress)
    return Centroids(volumes=volumes, made=made, classes=[c for c, _ in rows])


def copy_centroids(
    found: OccupancyClasses, maps: dict[str, Uri], titles: Sequence[str], folder: ResultFolder
) -> Centroids:
    """Copy, for each class, the map whose occupancies are nearest to the class's median.

    Raises:
        InputError: If a map is gone.
    """
    names = [found.table.volumes[row] for row in found.nearest_to_median()]
    for name in names:
        if name not in maps:
            raise InputError(
                f"The map of volume {name} is gone. Restore it, or use --skip-volumes."
            )
    folder.write_table(
        TABLE,
        ("volume", "class", "map"),
        [
            (volume_name(i), f"C{i + 1}", PurePosixPath(maps[name]).name)
            for i, name in enumerate(names)
        ],
    )
    volumes = VolumeSet(
        name="class centroids",
        folder=folder.at(CENTROIDS),
        z=np.empty((len(names), 0), dtype=np.float32),
        colours=class_colours(len(names)),
        titles=titles,
    )
    made = copy_maps(volumes, [maps[name] for name in names])
    _write_class_scripts(found, maps, common_level(levels_of(made.previews[0])), folder)
    return Centroids(volumes=volumes, made=made, classes=range(1, len(names) + 1))


def _write_class_scripts(
    found: OccupancyClasses, maps: dict[str, Uri], level: float, folder: ResultFolder
) -> None:
    """Write, for each class, a ChimeraX script that opens all of its maps where they are.

    All classes have one contour level, that of their centroids. ChimeraX opens files only.
    """
    if not all(map(storage.is_local, [folder.uri, *maps.values()])):
        return
    for number, colour in enumerate(class_colours(found.classes.count), start=1):
        rows = found.rows_of(number)
        own = [maps[name] for row in rows if (name := found.table.volumes[row]) in maps]
        script = folder.at(f"C{number}", "open.cxc")
        base = storage.local_path(storage.parent(script))
        text = set_script(
            f"class C{number}",
            [PurePath(os.path.relpath(storage.local_path(uri), base)).as_posix() for uri in own],
            colours=[colour] * len(own),
            titles=[PurePosixPath(uri).stem for uri in own],
            level=level,
        )
        storage.write_bytes(script, text.encode())
