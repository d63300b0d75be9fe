"""A run opened for reading, whether raydrgn or cryoDRGN trained it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raydrgn.errors import RaydrgnError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_indices, read_latents, read_pickles
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.mfa.latents import determine_latents
from raydrgn.model.config import ModelConfig
from raydrgn.run.config import RunConfig, read_yaml
from raydrgn.run.cryodrgn_config import CryodrgnConfig
from raydrgn.run.cryodrgn_particles import check_number, open_named_particles
from raydrgn.run.directory import CONFIG, CRYODRGN_CONFIG, RunDirectory, no_run
from raydrgn.run.estimates import read_estimates
from raydrgn.run.identity import Identity
from raydrgn.run.manifest import Manifest
from raydrgn.run.metrics import read_losses
from raydrgn.run.relocation import require_stacks
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted

if TYPE_CHECKING:
    from raydrgn.run.weights import DecoderState

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReader:
    """What analysis needs to know of a run."""

    files: RunDirectory
    model: ModelConfig | None
    """Shape of the network; None if a mixture of factor analysers was fitted."""

    zdim: int
    """Dimension of the latents."""

    box: int
    pixel_size_angstrom: float
    scale: float
    offset: float = 0.0
    corners: bool = False
    is_foreign: bool = False
    ind: Uri | None = None
    """The selection that cryoDRGN trained on, where it was given one."""

    source: ParticleSource | None = None
    """The particles that it was trained on, where its configuration names them."""

    poses: Uri | None = None
    """File of a pose for each particle, of a run of cryoDRGN's on all of them."""

    inverts: bool = True
    """Whether images were multiplied by −1 for training: particles are bright on disk."""

    @property
    def is_mixture(self) -> bool:
        """Whether the run is a mixture of factor analysers, and no autoencoder."""
        return self.model is None

    @property
    def root(self) -> Uri:
        """The run directory."""
        return self.files.root

    def epoch(self, wanted: int | None, *, latents_only: bool = False) -> int | None:
        """Return the epoch to take: the one wanted, or the last whole one.

        None stands for cryoDRGN's ``weights.pkl`` where no epoch has a number.

        Args:
            wanted: Number of the epoch.
            latents_only: Whether an epoch will do whose weights were deleted, as ``clean`` and
                ``train.keep_epochs`` do.

        Raises:
            RunDirectoryError: If there is no such epoch; lists those there are.
        """
        epochs = self.files.epochs()
        if wanted is None:
            if not epochs and not storage.exists(self.files.weights(None)):
                raise RunDirectoryError(f"{self.files.root} has no finished epoch yet.")
            return epochs[-1] if epochs else None
        if wanted not in epochs:
            listed = ", ".join(map(str, epochs)) or "none"
            if wanted in self.files.latent_epochs():
                if latents_only:
                    return wanted
                raise RunDirectoryError(
                    f"{self.files.root} has no weights of epoch {wanted} any more; those that it "
                    f"has: {listed}. Its latents are there: `raydrgn analyze --skip-volumes` and "
                    "`raydrgn filter --skip-volumes` need no weights."
                )
            raise RunDirectoryError(
                f"{self.files.root} has no epoch {wanted}; those that are finished: {listed}."
            )
        return wanted

    def is_finished(self) -> bool:
        """Return whether training has ended: all epochs of the configuration are done.

        Read anew at each call, since a run may go on with more epochs. cryoDRGN keeps no record of
        it, but writes ``weights.pkl`` when training ends; an older file than that of the last epoch
        is of an earlier end.
        """
        if not self.is_foreign:
            finished = Manifest.read(self.files.manifest).finished_epochs()
            wanted = RunConfig.read(self.files.config).train.epochs
            return bool(finished) and finished[-1] >= wanted
        last, epochs = self.files.weights(None), self.files.epochs()
        if not storage.exists(last):
            return False
        return not epochs or storage.modified(last) >= storage.modified(
            self.files.weights(epochs[-1])
        )

    def title(self, epoch: int | None) -> str:
        """Return what reports of an epoch are called."""
        return f"{self.root}, epoch {epoch}"

    def results(self, command: str, epoch: int | None = None) -> Uri:
        """Return the folder of results of a command on one epoch, or on the run as a whole."""
        return self.files.results(command, epoch)

    def losses(self) -> list[dict[str, float]]:
        """Return the losses of each finished epoch; none where they are not known."""
        return read_losses(self.files)

    def latents_uri(self, epoch: int | None) -> Uri:
        """Return the file of the latents of an epoch."""
        return self.files.latents(epoch)

    def latents(self, epoch: int | None) -> Float[np.ndarray, "n zdim"]:
        """Return the latent mean of every particle after an epoch."""
        mean, _ = read_latents(self.files.latents(epoch))
        if mean.shape[1] != self.zdim:
            raise RunDirectoryError(
                f"{self.files.latents(epoch)} has {counted(mean.shape[1], 'dimension')}, but the "
                f"run's zdim is {self.zdim}."
            )
        return mean.astype(np.float32, copy=False)

    def finite_latents(self, epoch: int | None) -> Float[np.ndarray, "n zdim"]:
        """Return the latents of an epoch, all of them finite and not all equal.

        Raises:
            RunDirectoryError: If they are not.
        """
        z = self.latents(epoch)
        where = self.files.latents(epoch)
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if bad.size:
            again = ", or train again with a lower learning rate (`raydrgn train --lr`)"
            raise RunDirectoryError(
                f"{where}: the latents of {bad.size:,} of {len(z):,} particles are not finite, the "
                f"first in row {bad[0]} (from 0). Training has diverged: use an earlier epoch"
                f"{'' if self.is_mixture else again}."
            )
        if len(z) > 1 and np.ptp(z, axis=0).max() == 0:
            reason = (
                "the encoder ignores the images. Train for more epochs, or with a weaker KL "
                "divergence (`raydrgn train --beta`)."
            )
            if self.is_mixture:
                reason = (
                    "the images determine none. More particles, a higher SNR or better poses may "
                    "show more."
                )
            raise RunDirectoryError(
                f"{where}: all {len(z):,} particles have the same latent: {reason}"
            )
        return z

    def has_latents(self, epoch: int | None) -> bool:
        """Return whether the images determine any latent; those of a mixture may not."""
        if not self.is_mixture:
            return True
        mean, logvar = read_latents(self.files.latents(epoch))
        return logvar is None or determine_latents(mean, logvar)

    def estimates(self, epoch: int | None) -> dict[str, np.ndarray]:
        """Return what was estimated of each particle beside its latent, by column.

        ``contrast``, ``null_probability``, ``shift_x_px`` and ``shift_y_px`` (how far a particle
        lies from where its given shift has it), and ``rotation_x``, ``_y`` and ``_z`` (a rotation
        vector in the image's frame, radians, after the given rotation).

        Raises:
            RunDirectoryError: If the run is no mixture of factor analysers.
        """
        if epoch is None:
            raise RunDirectoryError(f"{self.root} has no estimates of particles.")
        if not self.is_mixture:
            raise RunDirectoryError(
                f"{self.root} is an autoencoder, which estimates no contrasts, null probabilities, "
                "shifts or rotations; a run of `raydrgn train --method mfa` has them."
            )
        return read_estimates(self.files.estimates(epoch))

    def identity(self, epoch: int | None) -> Identity:
        """Return what identifies an epoch of this run: checksums of its weights and latents."""
        return Identity.of(self.files, epoch)

    def decoder(
        self, epoch: int | None, *, pixel_size_angstrom: float | None = None
    ) -> "DecoderState":
        """Return the decoder after an epoch; the pixel size may be given if the run lacks it."""
        from raydrgn.run.weights import DecoderState, read_decoder_tensors  # loads torch

        pixel_size = pixel_size_angstrom or self.pixel_size_angstrom
        if not pixel_size:
            log.warning(
                "the pixel size of %s is not known, and the command was given none; 1 Å is taken%s",
                self.files.root,
                f" ({self.source.ctf}, which its configuration names, cannot be read)"
                if self.source is not None and self.source.ctf
                else "",
            )
        return DecoderState(
            model=self.model,
            box=self.box,
            pixel_size_angstrom=pixel_size or 1.0,
            scale=self.scale,
            offset=self.offset,
            corners=self.corners,
            tensors=read_decoder_tensors(self.files.weights(epoch)),
            run=self.files.root,
        )

    def particles(self, *, need_images: bool = False) -> ParticleTable:
        """Return the particles trained on.

        Args:
            need_images: Whether their stacks must be there.

        Raises:
            RaydrgnError: If those of a run of cryoDRGN's are not where its configuration says, or
                images that are needed are gone.
        """
        if not self.is_foreign:
            table = ParticleTable.read(self.files.particles)
            if need_images:
                require_stacks(table, self.files.root)
            return table
        return open_named_particles(self.source, self.root, need_images=need_images)

    def uids(self) -> np.ndarray | None:
        """Return cryoSPARC's ids of the particles, where the run has them."""
        if self.is_foreign:
            return None
        table = self.particles()
        return table.column("uid") if "uid" in table.table.column_names else None

    def original_numbers(self, num_particles: int) -> Int[np.ndarray, " n"]:
        """Return the number of each particle in the set before any selection.

        Raises:
            RunDirectoryError: If the selection, or the poses of all, are of another number.
        """
        if not self.is_foreign:
            numbers = self.particles().column("index").astype(np.int64)
            if len(numbers) != num_particles:
                raise RunDirectoryError(
                    f"{self.files.particles} has {len(numbers):,} particles, but there are latents "
                    f"of {num_particles}."
                )
            return numbers
        ind = None
        if self.ind is not None:
            places = (storage.absolute(self.ind), storage.absolute(self.ind, base=self.files.root))
            ind = next((place for place in places if storage.is_at_hand(place)), places[0])
        if ind is None and self.poses is not None:
            check_number(self.poses, num_particles, self.root)
        numbers = np.arange(num_particles) if ind is None else read_indices(ind)
        if len(numbers) != num_particles:
            raise RunDirectoryError(
                f"{ind} selects {len(numbers):,} particles, but the run has "
                f"{num_particles}; the file must contain the selection that it was trained on."
            )
        return numbers

    def known_numbers(self, num_particles: int) -> Int[np.ndarray, " n"] | None:
        """Return ``original_numbers`` for tables; None, with a warning, if they are not known.

        They are not if cryoDRGN trained on a selection whose file is gone.
        """
        try:
            return self.original_numbers(num_particles)
        except RaydrgnError as error:
            if not self.is_foreign:
                raise
            log.warning("Tables have no numbers of the original set: %s", error)
            return None


def open_run(root: Uri) -> RunReader:
    """Open a run directory of raydrgn, or of cryoDRGN from 0.3 to 4.

    Raises:
        RunDirectoryError: If there is no run.
        ConfigError: If its configuration cannot be read.
    """
    root = storage.absolute(root)
    files = RunDirectory(root)
    names = storage.list_names(root)
    if CONFIG in names:
        raw = read_yaml(files.config)
        if "raydrgn_version" in raw:
            return _own(files, RunConfig.from_dict(raw, where=files.config))
        return _cryodrgn(files, raw)
    if CRYODRGN_CONFIG in names:
        [raw] = read_pickles(storage.join(root, CRYODRGN_CONFIG))
        if isinstance(raw, dict):
            return _cryodrgn(files, raw)
    raise no_run(root)


def _own(files: RunDirectory, config: RunConfig) -> RunReader:
    return RunReader(
        files=files,
        model=None if config.mfa else config.model,
        zdim=config.zdim,
        box=config.data.box,
        pixel_size_angstrom=config.pixel_size_angstrom,
        scale=config.data.scale,
        source=config.source,
        inverts=config.data.invert,
    )


def _cryodrgn(files: RunDirectory, raw: Mapping[str, Any]) -> RunReader:
    config = CryodrgnConfig.of(raw, files.root)
    return RunReader(
        files=files,
        model=config.model,
        zdim=config.model.zdim,
        box=config.box,
        pixel_size_angstrom=config.pixel_size_angstrom,
        scale=config.sd,
        offset=config.mean,
        corners=config.model.domain == "hartley",
        is_foreign=True,
        ind=config.ind,
        source=config.source,
        poses=config.poses,
        inverts=config.inverts,
    )
