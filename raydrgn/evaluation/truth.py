"""The truth about simulated particles, as ``simulate`` writes it into ``truth/``."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydrgn.errors import InputError, StorageError
from raydrgn.io import storage
from raydrgn.io.arrays import read_array
from raydrgn.io.metadata import read_metadata
from raydrgn.io.mrc import read_volume, volume_name, volume_number
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.io.verification import quiet
from raydrgn.run.reader import RunReader
from raydrgn.run.same_particles import numbers_in
from raydrgn.shapes import Bool, Float, Int

ARRAYS = ("labels", "shown", "motion_deg")

PARTICLES = "particles.star"
"""File of the simulated set, beside the folder of its truth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """The truth about the particles of one run, in its order."""

    volumes: Float[np.ndarray, "v d d d"]
    """The volume of each state first, then those of motions."""

    pixel_size_angstrom: float
    state_names: list[str]

    labels: Int[np.ndarray, " n"]
    """State of each particle; also the number of the state's volume."""

    shown: Int[np.ndarray, " n"]
    """Number of the volume that each image shows."""

    original: Int[np.ndarray, " n"]
    """Number of each particle in the simulated set."""

    motion_deg: Float[np.ndarray, " n"] | None = None
    """Angle of the motion; NaN for particles that do not move."""

    @property
    def is_junk(self) -> Bool[np.ndarray, " n"]:
        """Whether an image shows no particle: its volume is empty."""
        empty = np.array([not volume.any() for volume in self.volumes])
        return empty[self.shown]

    def mean_volume(self) -> Float[np.ndarray, "d d d"]:
        """Return the plain mean of the particles' volumes."""
        shown = self.shown[~self.is_junk]
        shares = np.bincount(shown, minlength=len(self.volumes)) / len(shown)
        return np.tensordot(shares, self.volumes, axes=1).astype(np.float32)

    def states(self) -> list[int]:
        """Return the states that occur, ascending."""
        return np.unique(self.labels).tolist()


def _simulated_numbers(folder: Uri, table: ParticleTable, particles: str) -> Int[np.ndarray, " n"]:
    """Return the numbers of particles in the simulated set, whatever file they come from.

    Raises:
        InputError: If they come from another file, and are not known in the set.
    """
    numbers = table.column("index").astype(np.int64)
    star = storage.join(storage.parent(storage.absolute(folder)), PARTICLES)
    if not storage.exists(star):
        return numbers
    try:
        with quiet():
            simulated = read_metadata(star, need_images=False)
    except (InputError, StorageError):
        return numbers
    if table.metadata.get("source") == star:
        return numbers
    found = numbers_in(table, simulated, name=particles, other=star)
    other = np.flatnonzero(found > simulated.column("index").max())
    if other.size:
        raise InputError(
            f"{other.size:,} of the particles of {particles} are no images of {star}, whose truth "
            f"{folder} has."
        )
    return found


def read_truth(folder: Uri, run: RunReader, *, num_particles: int) -> Truth:
    """Read the truth about a run's particles.

    ``labels.npy`` and ``vol_NNN.mrc`` must be there; ``shown.npy``, ``motion_deg.npy`` and
    ``states.json`` may be.

    Args:
        folder: The ``truth`` folder of a simulation.
        run: The run, with the numbers of its particles in the simulated set.
        num_particles: Particles of the run.

    Raises:
        InputError: If files are missing or do not fit the run, or all of it is junk.
    """
    volume_paths(folder)  # before the particles
    numbers = run.original_numbers(num_particles)
    if not run.is_foreign:
        numbers = _simulated_numbers(folder, run.particles(), run.root)
    return _truth(folder, numbers, run.box)


def check_truth(folder: Uri, table: ParticleTable, *, particles: str, box: int) -> None:
    """Check that there is a truth about particles, before a run is trained on them.

    Args:
        folder: The ``truth`` folder of a simulation.
        table: The particles.
        particles: What messages call them.
        box: Box of the run.

    Raises:
        InputError: As ``read_truth`` does.
    """
    _truth(folder, _simulated_numbers(folder, table, particles), box)


def _truth(folder: Uri, original: Int[np.ndarray, " n"], box: int) -> Truth:
    """Read the truth about particles of these numbers in the simulated set."""
    names, paths = storage.list_names(folder), volume_paths(folder)
    arrays = {name: _read_array(folder, name) for name in ARRAYS if f"{name}.npy" in names}
    for name, values in arrays.items():
        if original.max() >= len(values):
            raise InputError(
                f"{folder}/{name}.npy has {len(values):,} particles, but there is a particle "
                f"{original.max()}; this is the truth of other particles."
            )
    labels = arrays["labels"][original].astype(np.int64)
    shown = arrays.get("shown", arrays["labels"])[original].astype(np.int64)
    largest = max(shown.max(), labels.max())
    if largest >= len(paths):
        raise InputError(f"{folder} has {len(paths)} volumes, but particles show number {largest}.")
    volumes, pixel_size = _read_volumes(paths, folder, box)
    truth = Truth(
        volumes=volumes,
        pixel_size_angstrom=pixel_size,
        state_names=_state_names(folder, names, int(labels.max()) + 1),
        labels=labels,
        shown=shown,
        original=original,
        motion_deg=arrays["motion_deg"][original] if "motion_deg" in arrays else None,
    )
    if truth.is_junk.all():
        raise InputError(f"According to {folder}, none of the run's images shows a particle.")
    return truth


def volume_paths(folder: Uri) -> list[Uri]:
    """Return the volumes of a folder of truth, by their numbers.

    Raises:
        InputError: If there are none or no labels, or a number is missing.
        StorageError: If there is no such folder.
    """
    if not storage.exists(folder):
        raise StorageError(f"{folder} {storage.absence(folder)}")
    names = storage.list_names(folder)
    numbers = sorted(n for n in map(volume_number, names) if n is not None)
    if "labels.npy" not in names or not numbers:
        raise InputError(f"{folder} has no labels.npy and vol_000.mrc …, which --truth needs.")
    if numbers != list(range(len(numbers))):
        raise InputError(
            f"{folder} has {len(numbers)} volumes up to {volume_name(numbers[-1])}; they must be "
            "numbered from 0 without gaps. Copy those that are missing."
        )
    return [storage.join(folder, volume_name(number)) for number in numbers]


def _read_volumes(
    paths: list[Uri], folder: Uri, box: int
) -> tuple[Float[np.ndarray, "v d d d"], float]:
    """Return the volumes of a folder of truth, in the box of a run, and their pixel size in Å."""
    volumes = [read_volume(path) for path in paths]
    boxes = {volume.shape[-1] for volume, _ in volumes}
    if boxes != {box}:
        raise InputError(
            f"{folder} has volumes of {', '.join(map(str, sorted(boxes)))} px, but the run's box "
            f"is {box} px."
        )
    return np.stack([volume for volume, _ in volumes]), volumes[0][1].pixel_size_angstrom or 1.0


def _read_array(folder: Uri, name: str) -> Any:
    uri = storage.join(folder, f"{name}.npy")
    return read_array(uri)


def _state_names(folder: Uri, names: list[str], count: int) -> list[str]:
    known: list[str] = []
    if "states.json" in names:
        known = list(map(str, json.loads(storage.read_bytes(storage.join(folder, "states.json")))))
    return known + [f"state {number}" for number in range(len(known), count)]
