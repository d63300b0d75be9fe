"""What ``occupancy classes`` leaves: tables, particles of each class, centroid volumes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raydrgn.decoding.pool import DecoderPool
from raydrgn.decoding.volume_sets import (
    MadeSets,
    Progress,
    VolumeSet,
    copy_maps,
    make_sets,
)
from raydrgn.errors import InputError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import is_model
from raydrgn.occupancy.classes import TwoWay, class_rows, pair_rows
from raydrgn.occupancy.heat_map import class_colours
from raydrgn.occupancy.membership import Membership
from raydrgn.reporting.result_folder import SETTINGS, ResultFolder
from raydrgn.shapes import Int

CENTROIDS = "centroids"
IND, LABELS = "ind.pkl", "labels.pkl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a table of occupancies came from."""

    folder: Uri
    """That holds the table."""

    settings: dict[str, Any]
    """What ``occupancy score`` says it did; empty for a table of another program."""

    @classmethod
    def of(cls, table: Uri) -> "Source":
        """Return what is known of a table, given as its folder or as a file.

        Raises:
            InputError: If the settings beside it are no JSON.
        """
        folder = table if storage.is_folder(table) else storage.parent(storage.absolute(table))
        return cls(folder=folder, settings=_read_settings(storage.join(folder, SETTINGS)))

    @property
    def run(self) -> Uri | None:
        """The run whose volumes were scored."""
        return self.settings.get("run")

    @property
    def volumes(self) -> Uri | None:
        """The folder whose maps were scored."""
        return self.settings.get("volumes")

    def models(self) -> tuple[list[Uri], Uri | None]:
        """The atomic models that the masks were made of, and the YAML file of their selections.

        None are returned where ``occupancy masks`` did not make the masks, or one is gone.
        """
        masks = self.settings.get("masks")
        for folder in (masks, storage.parent(masks)) if masks else ():
            said = _read_settings(storage.join(folder, SETTINGS))
            uris = [uri for uri in said.get("models", []) if is_model(uri)]
            by = said.get("by")
            by = by if by not in (None, "chain", "file") else None
            if uris and all(map(storage.exists, [*uris, *([by] if by else [])])):
                return uris, by
        return [], None

    def labels(self) -> Uri | None:
        """The cluster of every particle, where volumes stand for clusters."""
        uri = storage.join(self.folder, LABELS)
        return uri if storage.exists(uri) else None


def _read_settings(uri: Uri) -> dict[str, Any]:
    if not storage.exists(uri):
        return {}
    try:
        found = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise InputError(f"{uri} is damaged ({error}); make the folder again.") from error
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassParticles:
    """Particles of the run by class."""

    members: Membership
    labels: Int[np.ndarray, " p"]
    """Class of each particle; 0 where its volume is not in the table."""

    centroids: list[int | None]
    """For each class, the particle nearest to the median of its particles' latents."""

    def counts(self) -> list[int]:
        """Return the number of particles of each class."""
        return np.bincount(self.labels, minlength=len(self.centroids) + 1)[1:].tolist()


def by_class(found: TwoWay, members: Membership) -> ClassParticles:
    """Return the class of each particle: that of the volume that stands for it."""
    of_volume = np.append(found.classes.labels, 0)  # the last one: of no volume
    labels = of_volume[members.volume]
    centroids = []
    for number in range(1, found.classes.count + 1):
        rows = np.flatnonzero(labels == number)
        centroids.append(members.centroid(rows) if len(rows) else None)
    return ClassParticles(members=members, labels=labels, centroids=centroids)


def class_labels(found: TwoWay, particles: ClassParticles | None) -> list[str]:
    """Return what to write beside each class: its share of the particles, or of the volumes."""
    rows = class_rows(found, particles.counts() if particles else None)
    share = 4 if particles else 2
    return [f"{row[0]}  {100 * row[share]:.1f} %" for row in rows]


def write_tables(found: TwoWay, particles: ClassParticles | None, folder: ResultFolder) -> None:
    """Write classes, blocks, volumes, means, limits of scaling and correlations as CSV."""
    counts = particles.counts() if particles else None
    head = ["class", "volumes", "share_of_volumes"]
    head += ["particles", "share_of_particles"] if particles else []
    folder.write_table("classes.csv", (*head, "occupied_blocks"), class_rows(found, counts))
    names, order = found.table.labels, found.blocks.tree.point_order.tolist()
    means = found.means()
    folder.write_table(
        "blocks.csv",
        ("subunit", "block", "occupancy_at_0", "occupancy_at_1"),
        [
            (
                _cell(names[i]),
                f"B{found.blocks.labels[i]}",
                found.limits.low[i],
                found.limits.high[i],
            )
            for i in order
        ],
    )
    folder.write_table(
        "class_means.csv",
        ("class", *(_cell(names[i]) for i in order)),
        [(f"C{c}", *means[c - 1, order]) for c in range(1, found.classes.count + 1)],
    )
    selected = found.selected
    folder.write_table(
        "volumes.csv",
        ("volume", "class", *(("selected",) if selected is not None else ())),
        [
            (_cell(name), f"C{label}", *((int(selected[i]),) if selected is not None else ()))
            for i, (name, label) in enumerate(
                zip(found.table.volumes, found.classes.labels, strict=True)
            )
        ],
    )
    folder.write_table(
        "correlations.csv",
        ("subunit", "other", "r", "p_adjusted", "called"),
        [(_cell(row[0]), _cell(row[1]), *row[2:]) for row in pair_rows(found)],
    )


def _cell(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name


def write_particles(found: TwoWay, particles: ClassParticles, folder: ResultFolder) -> int:
    """Write the particles of each class, and those of the selection; return how many these are.

    Numbers are those of the set before any selection. ``labels.pkl`` has the class of each
    particle of the run, as ``filter --labels`` takes it.
    """
    members = particles.members
    cryodrgn.write_pickles(folder.at(LABELS), particles.labels)
    for number in range(1, len(particles.centroids) + 1):
        rows = np.flatnonzero(particles.labels == number)
        cryodrgn.write_indices(folder.at(f"C{number}", IND), members.numbers[rows])
    if found.selected is None:
        return 0
    chosen = members.particles_of(np.flatnonzero(found.selected))
    cryodrgn.write_indices(folder.at(IND), members.numbers[chosen])
    return len(chosen)


def centroid_set(
    particles: ClassParticles, labels: Sequence[str], folder: ResultFolder
) -> tuple[VolumeSet, list[int]]:
    """Return the volumes to make, and which class each is of.

    ``centroids.csv`` says the particle of each.
    """
    rows = [(c, row) for c, row in enumerate(particles.centroids, start=1) if row is not None]
    members = particles.members
    folder.write_table(
        f"{CENTROIDS}/centroids.csv",
        ("volume", "class", "particle"),
        [(f"vol_{i:03d}.mrc", f"C{c}", members.numbers[row]) for i, (c, row) in enumerate(rows)],
    )
    colours = class_colours(len(particles.centroids))
    one = VolumeSet(
        name="class centroids",
        folder=folder.at(CENTROIDS),
        z=members.z[[row for _, row in rows]],
        colours=[colours[c - 1] for c, _ in rows],
        titles=[labels[c - 1] for c, _ in rows],
    )
    return one, [c for c, _ in rows]


def decode_centroids(
    pool: DecoderPool, one: VolumeSet, *, progress: Progress | None = None
) -> MadeSets:
    """Decode the centroid volume of each class."""
    return make_sets(pool, [one], progress=progress)


def nearest_maps(found: TwoWay) -> list[int]:
    """Return for each class the volume whose occupancies are nearest to the class's median."""
    clipped, chosen = found.clipped, []
    for number in range(1, found.classes.count + 1):
        rows = found.rows_of(number)
        distance = np.linalg.norm(clipped[rows] - np.median(clipped[rows], axis=0), axis=1)
        chosen.append(int(rows[distance.argmin()]))
    return chosen


def copy_centroids(
    found: TwoWay, maps: dict[str, Uri], labels: Sequence[str], folder: ResultFolder
) -> tuple[VolumeSet, MadeSets]:
    """Write beside each other the map that stands for each class, out of those scored.

    Raises:
        InputError: If a map is not there any more.
    """
    rows = nearest_maps(found)
    names = [found.table.volumes[row] for row in rows]
    for name in names:
        if name not in maps:
            raise InputError(f"The map of volume {name} is gone; restore it, or --skip-volumes.")
    folder.write_table(
        f"{CENTROIDS}/centroids.csv",
        ("volume", "class", "map"),
        [
            (f"vol_{i:03d}.mrc", f"C{i + 1}", PurePosixPath(maps[name]).name)
            for i, name in enumerate(names)
        ],
    )
    one = VolumeSet(
        name="class centroids",
        folder=folder.at(CENTROIDS),
        z=np.empty((len(rows), 0), dtype=np.float32),
        colours=class_colours(len(rows)),
        titles=labels,
    )
    return one, copy_maps(one, [maps[name] for name in names])
