"""Which particles are in which class, and which particle is the centroid of each class."""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from raydrgn.clustering.clusters import nearest_rows
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.indices import rows_of_numbers
from raydrgn.io.storage import Uri
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Bool, Float, Int

log = logging.getLogger(__name__)

FEWEST_VOLUMES = 2

SAME_LATENT = 1e-4
"""Largest difference that single precision explains."""

_AGAIN = "Score again with --overwrite."


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """The volume that stands for each particle of a run."""

    z: Float[np.ndarray, "p zdim"]
    numbers: Int[np.ndarray, " p"]
    """Number of each particle in the original set."""

    volume: Int[np.ndarray, " p"]
    """Row of the table; −1 where a particle has none."""

    volume_kind: str
    """Which volume that is, in words."""

    def particles_of(self, volumes: Int[np.ndarray, " m"]) -> Int[np.ndarray, " q"]:
        """Return the particles (rows of the run) for which some volumes stand."""
        return np.flatnonzero(np.isin(self.volume, volumes))

    def among(
        self, rows: Int[np.ndarray, " k"], chosen: Int[np.ndarray, " q"], *, count: int
    ) -> "Membership":
        """Return the same for some volumes of the table, in their order, and some particles.

        Args:
            rows: The volumes, as rows of the table.
            chosen: Numbers of the particles in the original set; the others have no volume then.
            count: Volumes of the table.
        """
        position = np.full(count + 1, -1)  # the last one for particles without a volume
        position[rows] = np.arange(len(rows))
        is_chosen = np.isin(self.numbers, chosen)
        return replace(self, volume=np.where(is_chosen, position[self.volume], -1))

    def without_volume(self, chosen: Int[np.ndarray, " q"] | None = None) -> tuple[int, int]:
        """Return how many particles have no volume, and of how many.

        Args:
            chosen: Numbers of the particles in the original set that count; all by default.
        """
        counts = slice(None) if chosen is None else np.isin(self.numbers, chosen)
        volume = self.volume[counts]
        return int((volume < 0).sum()), len(volume)

    def without(self, particles: Bool[np.ndarray, " p"]) -> "Membership":
        """Return the same with no volume for some particles."""
        return replace(self, volume=np.where(particles, -1, self.volume))

    def clustered(
        self,
        null: Bool[np.ndarray, " p"] | None,
        chosen: Int[np.ndarray, " q"] | None,
        rows: Int[np.ndarray, " k"] | None,
        *,
        count: int,
    ) -> "ClusteredVolumes":
        """Return the volumes that are clustered, and which of them stands for each particle.

        Images that show no particle are in no class: they have the latents of the mean, and its
        occupancies. Volumes of such images alone are not clustered.

        Args:
            null: Which images show no particle; None where nothing has looked for such.
            chosen: Numbers of the particles in the original set that count; all by default.
            rows: Their volumes; all by default.
            count: Volumes of the table.

        Raises:
            InputError: If fewer than two volumes are left.
        """
        numbers = self.numbers if chosen is None else chosen
        wanted = np.arange(count) if rows is None else rows
        _report_unscored(self.among(wanted, numbers, count=count), chosen)
        if null is None or not null.any():
            members = self.among(wanted, numbers, count=count)
            return ClusteredVolumes(wanted, np.arange(count), members)
        log.info("%s images show no particle, and are in no class", f"{null.sum():,}")
        has_volume = self.volume >= 0
        of_null = np.bincount(self.volume[has_volume & null], minlength=count)
        of_others = np.bincount(self.volume[has_volume & ~null], minlength=count)
        whole = np.flatnonzero((of_null == 0) | (of_others > 0))
        left = wanted[np.isin(wanted, whole)]
        if len(left) < FEWEST_VOLUMES:
            raise InputError(
                f"{len(left)} of {len(wanted):,} volumes stand for images that show a particle; "
                "two or more are needed to cluster them."
            )
        members = self.without(null).among(left, numbers, count=count)
        return ClusteredVolumes(left, whole, members)

    def centroid(self, particles: Int[np.ndarray, " q"]) -> int:
        """Return the particle, of some, that is nearest to the median of their latents."""
        median = np.median(self.z[particles], axis=0, keepdims=True)
        return int(particles[nearest_rows(self.z[particles], median)[0]])


class ClusteredVolumes(NamedTuple):
    """Volumes of a table that are clustered, as rows, and the particles that they stand for."""

    rows: Int[np.ndarray, " k"]

    whole: Int[np.ndarray, " n"]
    """The whole table, but for volumes of images without a particle."""

    members: Membership | None
    """Volumes by their position in ``rows``; None for a table of maps."""


def _report_unscored(members: Membership, chosen: Int[np.ndarray, " q"] | None) -> None:
    """Log how many particles, of those chosen, are in no class since no volume stands for them."""
    count, total = members.without_volume(chosen)
    if count:
        log.info(
            "%s of %s particles have no scored volume of their own, and are in no class",
            f"{count:,}",
            f"{total:,}",
        )


def membership(
    table: OccupancyTable, run: RunReader, epoch: int | None, *, labels: Uri | None
) -> Membership:
    """Return which volume of a table stands for each particle of the run that it was scored from.

    The volume of its k-means cluster, where volumes stand for clusters; its own volume, where every
    particle was scored; else the volume of the nearest latent.

    Args:
        table: Occupancies.
        run: The run they were scored from.
        epoch: The epoch.
        labels: File of the cluster of every particle, where volumes stand for clusters.

    Raises:
        RunDirectoryError: If the table is not of this run and epoch.
    """
    z = run.finite_latents(epoch)
    numbers = run.original_numbers(len(z))
    where = f"{run.files.root}, epoch {epoch}"
    _check_latents(table, z, numbers, where)
    original = table.original
    if labels is not None and table.clusters is not None:
        cluster = cryodrgn.read_labels(labels)
        if len(cluster) != len(z):
            raise RunDirectoryError(
                f"{labels} has {len(cluster):,} labels, but {where} has {len(z):,} particles: the "
                f"table was scored from another run. {_AGAIN}"
            )
        row_of = np.full(max(int(cluster.max()), int(table.clusters.max())) + 1, -1)
        row_of[table.clusters] = np.arange(len(table))
        return Membership(
            z=z, numbers=numbers, volume=row_of[cluster], volume_kind="its k-means cluster"
        )
    if original is not None:
        volume = rows_of_numbers(original, numbers)
        return Membership(z=z, numbers=numbers, volume=volume, volume_kind="its own volume")
    if table.latents is None:
        raise RunDirectoryError(
            f"The table has no latents of its volumes, so that particles of {where} cannot be "
            f"assigned to them: a .csv file never has. Give the folder of `raydrgn occupancy "
            "score`, whose occupancies.parquet has them."
        )
    return Membership(
        z=z,
        numbers=numbers,
        volume=nearest_rows(table.latents, z),
        volume_kind="the volume of the nearest latent",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassParticles:
    """Particles of the run by class."""

    members: Membership
    labels: Int[np.ndarray, " p"]
    """Class of each particle; 0 where its volume is not in the table."""

    centroids: list[int | None]
    """For each class, the particle nearest to the median of its particles' latents, as a row."""

    def counts(self) -> list[int]:
        """Return the number of particles of each class."""
        return np.bincount(self.labels, minlength=len(self.centroids) + 1)[1:].tolist()


def class_particles(classes: Int[np.ndarray, " n"], members: Membership) -> ClassParticles:
    """Return the class of each particle, which is that of its volume.

    Args:
        classes: Class of each volume of the table, from 1.
        members: Which volume stands for each particle.
    """
    labels = np.append(classes, 0)[members.volume]  # the last one for particles without a volume
    centroids = []
    for number in range(1, int(classes.max()) + 1):
        rows = np.flatnonzero(labels == number)
        centroids.append(members.centroid(rows) if len(rows) else None)
    return ClassParticles(members=members, labels=labels, centroids=centroids)


def _check_latents(
    table: OccupancyTable,
    z: Float[np.ndarray, "p zdim"],
    numbers: Int[np.ndarray, " p"],
    where: str,
) -> None:
    if table.latents is not None and table.latents.shape[1] != z.shape[1]:
        raise RunDirectoryError(
            f"The latents of the table have dimension {table.latents.shape[1]}, those of the run "
            f"{z.shape[1]}: the table was not scored from {where}. {_AGAIN}"
        )
    if table.original is None or table.latents is None:
        return
    row = rows_of_numbers(numbers, table.original)
    if (row < 0).any() or np.abs(z[row] - table.latents).max() > SAME_LATENT:
        raise RunDirectoryError(
            f"Particles of the table have other latents in the run: the table was not scored from "
            f"{where}. {_AGAIN}"
        )
