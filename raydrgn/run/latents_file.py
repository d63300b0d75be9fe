"""A file of latents in the place of a run, for workflows that need no more than latents."""

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar, NoReturn

import numpy as np

from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.latents import SUFFIXES, read_latents_file
from raydrgn.io.storage import Uri
from raydrgn.run.directory import is_run
from raydrgn.run.identity import SETTINGS, Identity, read_record
from raydrgn.run.reader import RunReader, open_run
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

EMBEDDED_LATENTS, EMBEDDED_PARTICLES = "z.pkl", "particles.parquet"
"""Files of ``embed``: latents, and of the same particles a table with their numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentsFile:
    """Latents of a file, with the methods of ``RunReader`` that concern latents."""

    root: Uri
    """The file."""

    z: Float[np.ndarray, "n zdim"]
    numbers: Int[np.ndarray, " n"]
    """Number of each particle: from the file's own column or ``embed``'s table, or its row."""

    ids: np.ndarray | None = None
    is_foreign: ClassVar[bool] = False
    """Results beside the file are raydrgn's."""

    inverts: ClassVar[bool] = True

    def epoch(self, wanted: int | None, *, latents_only: bool = True) -> None:
        """Return that there are no epochs.

        Raises:
            ConfigError: If one is wanted.
        """
        if wanted is not None:
            raise ConfigError(f"{self.root} is a file of latents and has no epoch {wanted}.")

    def title(self, epoch: int | None) -> str:
        """Return what reports are called."""
        return self.root

    def latents_uri(self, epoch: int | None) -> Uri:
        """Return the file."""
        return self.root

    def finite_latents(self, epoch: int | None) -> Float[np.ndarray, "n zdim"]:
        """Return the latents, which are finite.

        Raises:
            InputError: If they are all equal.
        """
        if len(self.z) > 1 and np.ptp(self.z, axis=0).max() == 0:
            raise InputError(f"{self.root}: all {len(self.z):,} particles have the same latent.")
        return self.z

    def identity(self, epoch: int | None) -> Identity:
        """Return what identifies the file: its checksum."""
        return Identity.of_latents(self.root)

    def original_numbers(self, num_particles: int) -> Int[np.ndarray, " n"]:
        """Return the number of each particle."""
        return self.numbers

    def known_numbers(self, num_particles: int) -> Int[np.ndarray, " n"]:
        """Return the same: a file of latents always has them."""
        return self.original_numbers(num_particles)

    def uids(self) -> np.ndarray | None:
        """Return cryoSPARC's ids, where the file has them."""
        return self.ids

    def results(self, command: str, epoch: int | None = None) -> Uri:
        """Return the folder of results of a command: ``NAME.COMMAND`` beside ``NAME.pkl``.

        Raises:
            ConfigError: If the latents come through a pipe.
        """
        if storage.is_pipe(self.root):
            raise ConfigError(f"{self.root} is a pipe; choose a folder for the results with -o.")
        name = PurePosixPath(self.root).stem
        return storage.join(storage.parent(self.root), f"{name}.{command}")

    def losses(self) -> list[dict[str, float]]:
        """Return no losses."""
        return []

    def particles(self, *, need_images: bool = False) -> NoReturn:
        """Refuse, since there are no particles.

        Raises:
            RunDirectoryError: Always.
        """
        raise RunDirectoryError(f"{self.root} has latents only.")

    def estimates(self, epoch: int | None) -> NoReturn:
        """Refuse, since nothing else of the particles is known.

        Raises:
            RunDirectoryError: Always.
        """
        raise RunDirectoryError(f"{self.root} has latents only.")

    def decoder(self, epoch: int | None, **_: Any) -> NoReturn:
        """Refuse, since there are no weights.

        Raises:
            RunDirectoryError: Always.
        """
        raise RunDirectoryError(f"{self.root} has latents only, and no weights.")


LatentSource = RunReader | LatentsFile
"""Where latents come from."""


def open_latents(uri: Uri) -> LatentSource:
    """Open a run, or a file of latents by its suffix.

    Raises:
        RaydrgnError: If it is neither.
    """
    uri = storage.absolute(uri)
    if suffix_of(uri) not in SUFFIXES or storage.is_folder(uri):
        return open_run(uri)
    found = read_latents_file(uri)
    if _is_embedded(uri):
        found = found._replace(numbers=_embedded_numbers(uri, found.values))
    if found.numbers is None and is_run(storage.list_names(storage.parent(uri))):
        log.warning(
            "%s lies in a run: its particles are numbered by their rows, from 0, as if there had "
            "been no selection; for their numbers in the original set, give the run",
            uri,
        )
    numbers = np.arange(len(found.values)) if found.numbers is None else found.numbers
    return LatentsFile(root=uri, z=found.values, numbers=numbers, ids=found.uids)


def _is_embedded(uri: Uri) -> bool:
    """Return whether ``embed`` has made a file of latents, by the record in its folder."""
    record = storage.join(storage.parent(uri), SETTINGS)
    if PurePosixPath(uri).name != EMBEDDED_LATENTS or not storage.exists(record):
        return False
    return read_record(record).get("command") == "embed"


def _embedded_numbers(uri: Uri, z: Float[np.ndarray, "n zdim"]) -> Int[np.ndarray, " n"] | None:
    """Return the numbers of the particles of ``embed``'s latents, from the table beside them.

    Raises:
        InputError: If the table is not there, or of other particles.
    """
    table = storage.join(storage.parent(uri), EMBEDDED_PARTICLES)
    remedy = "Make both again with `raydrgn embed`."
    if not storage.exists(table):
        raise InputError(
            f"{table} is not there, which has the numbers of the particles of {uri}. {remedy}"
        )
    found = read_latents_file(table)
    if len(found.values) != len(z):
        raise InputError(
            f"{table} has {len(found.values):,} particles, but {uri} beside it has {len(z):,}. "
            f"{remedy}"
        )
    return found.numbers
