"""A table of occupancies with the run that it was scored from, and what of it is clustered."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raydrgn.io.indices import read_indices, read_original_numbers
from raydrgn.io.storage import Uri
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.occupancy.classes import OccupancyClasses, find_classes
from raydrgn.occupancy.membership import (
    ClassParticles,
    ClusteredVolumes,
    class_particles,
    membership,
)
from raydrgn.occupancy.options import ClassOptions
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.occupancy.table_origin import TableOrigin
from raydrgn.reporting.latent_plane import Plane, latent_plane
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Bool, Int


class ChosenParticles(NamedTuple):
    """Particles that are clustered again, and the rows of a table that are their volumes."""

    numbers: Int[np.ndarray, " q"]
    rows: Int[np.ndarray, " k"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredTable:
    """A table of occupancies, and what it was scored from."""

    table: OccupancyTable
    origin: TableOrigin
    run: RunReader | None
    """The run whose volumes were scored; None for a table of maps."""

    @classmethod
    def read(cls, uri: Uri) -> "ScoredTable":
        """Read a table, given as its folder or as a file, and open its run.

        Raises:
            InputError: If the table, or the settings beside it, cannot be read.
            RunDirectoryError: If the run is gone, or was trained again since.
        """
        origin, table = TableOrigin.of(uri), OccupancyTable.read(uri)
        return cls(table=table, origin=origin, run=origin.open_run())

    @property
    def title(self) -> str:
        """What was scored, in a report."""
        if self.run is None:
            return self.origin.folder
        return f"{self.run.files.root}, epoch {self.origin.epoch}"

    def chosen(self, uri: Uri | None) -> ChosenParticles | None:
        """Return the particles of a file of their numbers; None without one.

        Raises:
            InputError: If it cannot be read, or one of them has no volume in the table.
        """
        if uri is None:
            return None
        if self.run is not None:
            known = self.run.original_numbers(len(self.run.latents(self.origin.epoch)))
            numbers = read_original_numbers(uri, known)
        else:
            numbers = read_indices(uri)
        return ChosenParticles(numbers, self.table.rows_of(numbers, uri))

    def find_classes(
        self, options: ClassOptions, chosen: ChosenParticles | None
    ) -> tuple[OccupancyClasses, ClassParticles | None]:
        """Cluster the table, or the volumes of chosen particles on the scale of the whole table.

        Returns:
            Classes and blocks; and the class of each particle, None for a table of maps.
        """
        volumes = self._clustered(chosen)
        whole = None if chosen is None else self.table.select(volumes.whole)
        found = find_classes(self.table.select(volumes.rows), options, whole=whole)
        if volumes.members is None:
            return found, None
        return found, class_particles(found.classes.labels, volumes.members)

    def embedding(self, particles: ClassParticles | None) -> Plane | None:
        """Return two dimensions to show the particles in, if the run is known."""
        if self.run is None or particles is None:
            return None
        return latent_plane(self.run, self.origin.epoch, particles.members.z)

    def _clustered(self, chosen: ChosenParticles | None) -> ClusteredVolumes:
        """Return the volumes to cluster: those chosen, but for images without a particle."""
        if self.run is not None:
            epoch, labels = self.origin.epoch, self.origin.labels()
            members = membership(self.table, self.run, epoch, labels=labels)
            null = _images_without_particle(self.run, epoch)
            return members.clustered(null, *(chosen or (None, None)), count=len(self.table))
        every = np.arange(len(self.table))
        return ClusteredVolumes(every if chosen is None else chosen.rows, every, None)


def _images_without_particle(run: RunReader, epoch: int | None) -> Bool[np.ndarray, " p"] | None:
    """Mark images that show no particle, where a mixture has looked for them."""
    return run.estimates(epoch)["null_probability"] > SHOWS_NOTHING if run.is_mixture else None
