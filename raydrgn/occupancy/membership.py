"""Which particles are in which class, and the particle that stands for each class."""

from dataclasses import dataclass

import numpy as np

from raydrgn.clustering.clusters import nearest_rows
from raydrgn.errors import RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.storage import Uri
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

SAME_LATENT = 1e-4
"""Difference that storage in single precision explains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """The volume that stands for each particle of a run."""

    z: Float[np.ndarray, "p zdim"]
    numbers: Int[np.ndarray, " p"]
    """Of the particles, in the set before any selection."""

    volume: Int[np.ndarray, " p"]
    """Row of the table; −1 where a particle has none."""

    how: str
    """In words."""

    def particles_of(self, volumes: Int[np.ndarray, " m"]) -> Int[np.ndarray, " q"]:
        """Return the particles (rows of the run) for which some volumes stand."""
        return np.flatnonzero(np.isin(self.volume, volumes))

    def centroid(self, particles: Int[np.ndarray, " q"]) -> int:
        """Return the particle, of some, that is nearest to the median of their latents."""
        median = np.median(self.z[particles], axis=0, keepdims=True)
        return int(particles[nearest_rows(self.z[particles], median)[0]])


def membership(
    table: OccupancyTable, run: RunReader, epoch: int | None, *, labels: Uri | None
) -> Membership:
    """Return which volume stands for each particle of the run that a table was scored from.

    That of its k-means cluster, where volumes stand for clusters; its own, where every particle
    was scored; else that of the nearest latent.

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
    if labels is not None and table.clusters is not None:
        cluster = cryodrgn.read_indices(labels)
        if len(cluster) != len(z):
            raise RunDirectoryError(
                f"{labels} has {len(cluster)} labels, but {where} has {len(z)} particles: the "
                "table was scored from another run. Score again with --overwrite."
            )
        row_of = np.full(max(int(cluster.max()), int(table.clusters.max())) + 1, -1)
        row_of[table.clusters] = np.arange(len(table))
        return Membership(z=z, numbers=numbers, volume=row_of[cluster], how="its k-means cluster")
    if table.particles is not None:
        order = np.argsort(table.particles, kind="stable")
        place = np.searchsorted(table.particles[order], numbers).clip(max=len(order) - 1)
        row = order[place]
        volume = np.where(table.particles[row] == numbers, row, -1)
        return Membership(z=z, numbers=numbers, volume=volume, how="its own volume")
    if table.latents is None:
        raise RunDirectoryError(
            f"The table says of none of its volumes which latent of {where} it has; score again."
        )
    return Membership(
        z=z,
        numbers=numbers,
        volume=nearest_rows(table.latents, z),
        how="the volume of the nearest latent",
    )


def _check_latents(
    table: OccupancyTable,
    z: Float[np.ndarray, "p zdim"],
    numbers: Int[np.ndarray, " p"],
    where: str,
) -> None:
    other = f"the table was not scored from {where}, or that was trained again since"
    if table.latents is not None and table.latents.shape[1] != z.shape[1]:
        raise RunDirectoryError(
            f"The table has latents of {table.latents.shape[1]} numbers, the run of {z.shape[1]}: "
            f"{other}. Score again with --overwrite."
        )
    if table.particles is None or table.latents is None:
        return
    order = np.argsort(numbers, kind="stable")
    row = order[np.searchsorted(numbers[order], table.particles).clip(max=len(numbers) - 1)]
    known = numbers[row] == table.particles
    if not known.all() or np.abs(z[row] - table.latents).max() > SAME_LATENT:
        raise RunDirectoryError(
            f"The table's particles have other latents in the run: {other}. Score again with "
            "--overwrite."
        )
