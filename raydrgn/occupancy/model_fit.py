"""An atomic model in a map: the motion that is found, taken where the correlation gains by it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from raydrgn.io.storage import Uri
from raydrgn.occupancy import fitting
from raydrgn.occupancy.alignment import alignment
from raydrgn.occupancy.atomic_models import read_model
from raydrgn.occupancy.fitting import Placement, RigidFit
from raydrgn.occupancy.masking import MapGrid
from raydrgn.occupancy.molmap import density_of_atoms
from raydrgn.remote.progress import Progress
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

LEAST_GAIN = 0.005
"""Correlation by which a motion must be better, for the model to be moved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFit:
    """How a model was moved into a map."""

    motion: Placement
    correlation_before: float
    """Of the map and the model where it was."""

    def shift_angstrom(self, origin_angstrom: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        """Return the shift after a rotation about the model's own origin.

        Args:
            origin_angstrom: Position of the map's first voxel in the model's frame.
        """
        centre = self.motion.centre_angstrom + origin_angstrom
        return centre + self.motion.shift_angstrom - self.motion.rotation @ centre


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInMap:
    """The atoms of one or several models, which are moved as one body, and a map."""

    grid: MapGrid
    positions_angstrom: Float[np.ndarray, "n 3"]
    """Of the atoms, from the map's first voxel."""

    atomic_numbers: Int[np.ndarray, " n"]
    resolution_angstrom: float
    """Of the density of the atoms."""

    @classmethod
    def read(
        cls, uris: Sequence[Uri], grid: MapGrid, *, resolution_angstrom: float
    ) -> "ModelInMap":
        """Read the models.

        Raises:
            InputError: If one cannot be read.
        """
        models = [read_model(uri) for uri in uris]
        positions = np.concatenate([model.positions_angstrom for model in models])
        return cls(
            grid=grid,
            positions_angstrom=positions - np.array(grid.origin_angstrom),
            atomic_numbers=np.concatenate([model.atomic_numbers for model in models]),
            resolution_angstrom=resolution_angstrom,
        )

    def fit(self, progress: Progress) -> ModelFit:
        """Find where the models fit the map; warn of what makes the fit doubtful."""
        volume = self.grid.volume
        if problem := fitting.opposite_sign(volume):
            log.warning("%s", problem)
        mirror = np.roll(volume[::-1], 1, axis=0)  # the centre voxel stays where it is
        found = self._fit_to(volume, partial(progress, "fitting"))
        mirrored = self._fit_to(mirror, partial(progress, "fitting the mirrored map"))
        for warning in (found.warning(), fitting.opposite_hand(found, mirrored)):
            if warning:
                log.warning("%s", warning)
        motion = found.best
        before = self._correlation(self.positions_angstrom)
        after = self._correlation(motion.moved(self.positions_angstrom))
        if after < before + LEAST_GAIN:
            motion = motion.none()
        return ModelFit(motion=motion, correlation_before=before)

    def _fit_to(
        self, volume: Float[np.ndarray, "d d d"], progress: Callable[..., None]
    ) -> RigidFit:
        return fitting.fit_model(
            self.positions_angstrom,
            self.atomic_numbers,
            volume,
            pixel_size_angstrom=self.grid.pixel_size_angstrom,
            resolution_angstrom=self.resolution_angstrom,
            progress=progress,
        )

    def _correlation(self, positions_angstrom: Float[np.ndarray, "n 3"]) -> float:
        """Return the correlation of the map with the density of the atoms at some positions."""
        pixel_size = self.grid.pixel_size_angstrom
        density = density_of_atoms(
            positions_angstrom,
            self.atomic_numbers,
            resolution_angstrom=self.resolution_angstrom,
            box=self.grid.box,
            pixel_size_angstrom=pixel_size,
        )
        found = alignment(self.grid.volume[None], density, pixel_size_angstrom=pixel_size)
        return found.correlation
