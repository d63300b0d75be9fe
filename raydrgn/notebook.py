"""A run and its particles as notebooks use them: arrays in memory, in this process.

``raydrgn.open_run`` and ``raydrgn.open_particles`` are these.
"""

import shlex
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from raydrgn.decoding.options import VolumeOptions
from raydrgn.errors import ConfigError, RaydrgnError, RunDirectoryError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.row_numbers import chosen_rows
from raydrgn.io.sources import open_particles as read_particles
from raydrgn.io.storage import Uri
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.run.metrics import read_losses
from raydrgn.run.reader import RunReader
from raydrgn.run.reader import open_run as read_run
from raydrgn.settings import typed, typed_path
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted


class Run:
    """A run of raydrgn or cryoDRGN, opened for reading.

    Epochs are given by their number; without one, the last finished epoch is meant. Rows of all
    arrays are the particles of the run, in the order of ``particles()``.
    """

    def __init__(self, reader: RunReader) -> None:
        self.reader = reader
        """The same run as the workflows read it."""

    def __repr__(self) -> str:
        epochs = self.epochs()
        last = "no finished epoch"
        if epochs:
            last = f"{counted(len(epochs), 'epoch')}, the last is {epochs[-1]}"
        elif self.reader.is_finished():
            last = "the last epoch alone"
        return f"Run({self.path!r}: zdim {self.zdim}, box {self.box} px, {last})"

    def __len__(self) -> int:
        return len(self.particles())

    @property
    def path(self) -> Uri:
        """The run directory."""
        return self.reader.files.root

    @property
    def zdim(self) -> int:
        """Dimension of the latents."""
        return self.reader.zdim

    @property
    def box(self) -> int:
        """Box of images and volumes, pixels."""
        return self.reader.box

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size at that box; 0 if the run does not have it."""
        return self.reader.pixel_size_angstrom

    def epochs(self) -> list[int]:
        """Return the finished epochs."""
        return self.reader.files.epochs()

    def latents(self, epoch: int | None = None) -> Float[np.ndarray, "n zdim"]:
        """Return the latent of every particle."""
        return self.reader.latents(self._epoch(epoch, latents_only=True))

    def weights(self, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return the decoder's weights by name."""
        tensors = self.reader.decoder(
            self._epoch(epoch), pixel_size_angstrom=self.pixel_size_angstrom or 1.0
        ).tensors
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def estimates(self, epoch: int | None = None) -> dict[str, np.ndarray]:
        """Return what ``train --method mfa`` has estimated of every particle, by column.

        ``contrast``, ``null_probability``, ``shift_x_px`` and ``shift_y_px`` (how far a particle
        lies from where its given shift has it), and ``rotation_x``, ``_y`` and ``_z`` (a rotation
        vector in the frame of the image, radians, after the given rotation).

        Raises:
            RunDirectoryError: If the run is an autoencoder.
        """
        return self.reader.estimates(self._epoch(epoch, latents_only=True))

    def losses(self) -> dict[str, np.ndarray]:
        """Return ``epoch``, ``total``, ``reconstruction`` and ``kl``, one value per epoch."""
        rows = read_losses(self.reader.files)
        names = rows[0] if rows else ("epoch", "total", "reconstruction", "kl")
        return {name: np.array([row[name] for row in rows]) for name in names}

    def particles(self) -> ParticleTable:
        """Return the particles; ``.column(name)`` gives an array, ``.table`` the Arrow table.

        Which columns there are is in ``.column_names``.
        """
        return self.reader.particles()

    def original_numbers(self) -> Int[np.ndarray, " n"]:
        """Return the number of every particle in the set before any selection, from 0."""
        return self.reader.original_numbers(len(self.latents()))

    def images(self, rows: ArrayLike) -> Float[np.ndarray, "k h w"]:
        """Return images of particles as they are on disk.

        Args:
            rows: Rows of the particles, from 0, or one boolean for each particle of the run.

        Raises:
            ConfigError: If they are neither.
        """
        from raydrgn.data.particle_images import read_images

        table = self.reader.particles(need_images=True)
        return read_images(table, chosen_rows(rows, len(table))).astype(np.float32)

    def decode(
        self,
        z: ArrayLike,
        epoch: int | None = None,
        *,
        options: VolumeOptions | None = None,
        executor: Executor = IN_PROCESS,
    ) -> Float[np.ndarray, "..."]:
        """Return the volumes of latents: (d, d, d) of one latent, (n, d, d, d) of several.

        Args:
            z: One latent, or one per row.
            epoch: Epoch of the weights.
            options: Smaller box, handedness, sign, low-pass filter.
            executor: Several workers, for many volumes.

        Raises:
            ConfigError: If ``z`` has not the run's dimension, or values that are not numbers.
        """
        from raydrgn.decoding.pool import DecoderPool

        latents = np.atleast_2d(_finite(z))
        if latents.ndim != 2 or latents.shape[1] != self.zdim:
            raise ConfigError(
                f"z should have {self.zdim} numbers per latent, the run's zdim; its shape is "
                f"{np.shape(z)}."
            )
        state = self.reader.decoder(self._epoch(epoch))
        with DecoderPool(state, options or VolumeOptions(), executor) as pool:
            volumes = pool.volumes(latents)
        return volumes[0] if np.ndim(z) == 1 else volumes

    def umap(self, epoch: int | None = None) -> Float[np.ndarray, "n 2"]:
        """Return the UMAP embedding that ``analyze`` has made of an epoch.

        Raises:
            RunDirectoryError: If it has not.
        """
        number = self._epoch(epoch, latents_only=True)
        found = AnalysisResults(self.reader, number).umap(len(self.latents(number)))
        if found is None:
            raise RunDirectoryError(
                f"{self.path} has no UMAP embedding of epoch {number}. Make it: "
                f"raydrgn analyze {shlex.quote(self.path)}{'' if number is None else f' {number}'}"
            )
        return found

    def clusters(
        self, ksample: int | None = None, epoch: int | None = None
    ) -> Int[np.ndarray, " n"]:
        """Return the cluster of every particle in the k-means of ``analyze``, from 0.

        Args:
            ksample: Number of clusters; that of the latest k-means by default.
            epoch: Epoch of the latents.

        Raises:
            RunDirectoryError: If ``analyze`` has not made this many clusters of the epoch.
        """
        number = self._epoch(epoch, latents_only=True)
        analysis = AnalysisResults(self.reader, number)
        wanted = typed(int | None, "ksample", ksample)
        count = analysis.ksample() if wanted is None else wanted
        return analysis.labels(count, len(self.latents(number)))

    def write_selection(
        self, chosen: ArrayLike, path: Uri | PathLike[str], *, rows_of_table: bool | None = None
    ) -> int:
        """Write chosen particles as a file for --ind; return how many there are.

        The file has their numbers in the original set, which select the same particles from the
        original file, from the run, and from the particle file that the run was trained on. Only if
        that is a table (.parquet) of a selection, its rows have other numbers, and
        ``rows_of_table`` chooses between them.

        Args:
            chosen: True for every particle of the run to take.
            path: File to write: .pkl, as cryoDRGN reads it, .npy, or .txt with one number per line.
            rows_of_table: Whether the rows of that table are written, for --ind of the table, or
                the numbers in the original set.

        Raises:
            ConfigError: If ``chosen`` is not one boolean per particle, or selects none; if the path
                is empty or has another suffix; or if the numbers differ and ``rows_of_table`` is
                not given.
        """
        from raydrgn.io.cryodrgn import write_indices

        numbers = self.original_numbers()
        mask = np.asarray(chosen)
        if mask.dtype != np.bool_ or mask.shape != numbers.shape:
            raise ConfigError(
                f"A selection is one boolean for each of the {len(numbers):,} particles; got "
                f"{mask.dtype} of shape {mask.shape}."
            )
        if not mask.any():
            raise ConfigError("The selection has no particle.")
        write_indices(typed_path("path", path), self._numbers_for_ind(numbers[mask], rows_of_table))
        return int(mask.sum())

    def _epoch(self, epoch: int | None, *, latents_only: bool = False) -> int | None:
        """Return an epoch of the run; the last finished one, if none is given."""
        return self.reader.epoch(typed(int | None, "epoch", epoch), latents_only=latents_only)

    def _numbers_for_ind(
        self, numbers: Int[np.ndarray, " k"], rows_of_table: bool | None
    ) -> Int[np.ndarray, " k"]:
        """Return numbers in the original set, or the rows that have them in the run's file."""
        from raydrgn.io.selection import counts_as_original, rows_of

        source = self.reader.source
        if source is None and rows_of_table:
            raise ConfigError(
                f"{self.path} does not name the particle file that it was trained on; leave out "
                "rows_of_table=True for the numbers in the original set."
            )
        if source is None or rows_of_table is False:
            return numbers
        choice = (
            "Give rows_of_table=True for --ind of this table, or rows_of_table=False for --ind of "
            "the run and of the original file."
        )
        try:
            if counts_as_original(source, numbers):
                return numbers
            if rows_of_table:
                return rows_of(source, numbers)
        except RaydrgnError as error:
            raise ConfigError(f"{error} {choice}") from error
        raise ConfigError(
            f"{self.path} was trained on {source.particles}, a table of a selection: its rows have "
            f"other numbers than the particles have in the original set. {choice}"
        )


def _finite(z: ArrayLike) -> Float[np.ndarray, "..."]:
    """Return latents as an array of their own.

    Raises:
        ConfigError: If a value is not a finite real number.
    """
    given = np.asarray(z)
    if given.dtype.kind not in "fiub":
        raise ConfigError(f"z takes numbers, got an array of {given.dtype}.")
    latents = np.array(given, dtype=np.float32)
    if not np.isfinite(latents).all():
        raise ConfigError("z has values that are not finite.")
    return latents


def open_run(path: Uri | PathLike[str]) -> Run:
    """Open a run directory of raydrgn, or of cryoDRGN from 0.3 to 4.

    Raises:
        RaydrgnError: If there is no run, or its configuration cannot be read.
        ConfigError: If the path is empty.
    """
    return Run(read_run(typed_path("path", path)))


def open_particles(
    particles: Uri | ParticleSource, *, need_images: bool = True, **source: Any
) -> ParticleTable:
    """Read particles of any format into one table; its ``.select(rows)`` are some of them.

    Args:
        particles: A .star, .cs, .mrcs, .txt or .parquet, or a whole ``ParticleSource``.
        need_images: Whether the stacks must be there.
        source: Fields of ``ParticleSource``, such as ``poses``, ``ctf``, ``ind``, ``datadir``.

    Raises:
        RaydrgnError: If a file is missing, or does not fit the others.
    """
    if not isinstance(particles, ParticleSource):
        particles = ParticleSource(particles=particles, **source)
    elif source:
        raise ConfigError(f"{', '.join(source)}: set this in the ParticleSource.")
    return read_particles(particles, need_images=need_images)
