"""Latents of a finished mixture of factor analysers, for the encoder of a new run."""

import shlex
from dataclasses import dataclass

import numpy as np

from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.mfa.model import with_density
from raydrgn.run.reader import RunReader
from raydrgn.run.refined_poses import refined_particles, rows_by_number
from raydrgn.run.weights import read_decoder_tensors
from raydrgn.shapes import Float
from raydrgn.training.initial_weights import find_weights

MOST_COMPONENTS = 8
"""Components that are taken where no zdim is given."""

REFINED_DEG, REFINED_PX = 0.1, 0.1
"""RMS changes of poses below which it makes no difference which poses are taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureLatents:
    """What a finished fit has found of its particles; the strongest components are first."""

    run: RunReader
    weights: Uri
    """Weights file of the last epoch, by which a configuration names the fit."""

    num_components: int
    """Components with density; those that have faded are the last, and not counted."""

    @classmethod
    def of_run(cls, text: str) -> "MixtureLatents":
        """Find the fit that ``RUN``, or its weights file, names.

        Raises:
            RunDirectoryError: If it is no mixture of factor analysers, not finished, or without
                components.
        """
        run, _ = find_weights(text)
        if not run.is_mixture:
            raise RunDirectoryError(
                f"{run.root} is an autoencoder; `raydrgn train --init` takes a run of `raydrgn "
                "train --method mfa`. `raydrgn train --load` starts from the weights of an "
                "autoencoder."
            )
        if not run.is_finished():
            raise RunDirectoryError(
                f"{run.root} is not finished; `raydrgn train --init` takes it once `raydrgn train "
                f"-o {shlex.quote(run.root)} --resume` has ended."
            )
        weights = run.files.weights(run.epoch(None))
        count = int(with_density(read_decoder_tensors(weights)["volumes"]).sum())
        if not count:
            raise RunDirectoryError(
                f"{run.root} has found no component beside the mean, so that it has no latents for "
                "`raydrgn train --init` to start from."
            )
        return cls(run=run, weights=weights, num_components=count)

    @property
    def default_zdim(self) -> int:
        """Dimension of the latent where none is given."""
        return min(MOST_COMPONENTS, self.num_components)

    def check(self, table: ParticleTable, *, zdim: int) -> None:
        """Refuse the fit for particles that it lacks, or for a latent of too many dimensions.

        Raises:
            ConfigError: If it has fewer components than the latent has dimensions.
            InputError: If it is of other particles, or lacks some.
        """
        if zdim > self.num_components:
            raise ConfigError(
                f"{self.run.root} has {self.num_components} components with density, fewer than "
                f"the {zdim} dimensions of the latent; choose {self.num_components} or fewer, or "
                "leave the number out."
            )
        rows_by_number(table, self.run.particles(), self.run.root, what="latents")

    def of_particles(self, table: ParticleTable, *, zdim: int) -> Float[np.ndarray, "2 n zdim"]:
        """Return means, and logarithms of variances, of the first dimensions of the latents.

        They are those of the fit itself, which have covariance 1, means and variances together:
        what the prior of an autoencoder asks for.

        Raises:
            InputError: If the fit is of other particles, or lacks some.
        """
        run = self.run
        rows = rows_by_number(table, run.particles(), run.root, what="latents")
        mean, logvar = read_latents(run.files.latents(run.epoch(None)))
        assert logvar is not None
        scale = read_decoder_tensors(self.weights)["latent_scale"].numpy()
        found = np.stack([mean / scale, logvar - 2 * np.log(scale)])
        return found[:, rows, :zdim].astype(np.float32)

    def poses_notes(self, table: ParticleTable) -> list[str]:
        """Return that poses which the fit has refined are not those of the particles, if so."""
        run = self.run
        refined = refined_particles(run)
        chosen = refined.select(rows_by_number(table, refined, run.root, what="poses"))
        traces = np.einsum("nij,nij->n", chosen.rotations, table.rotations)
        angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
        off = chosen.column("shift_angstrom") - table.column("shift_angstrom")
        angle, shift = (
            float(np.sqrt(np.mean(squares)))
            for squares in (angles**2, (off.astype(np.float64) ** 2).sum(axis=1))
        )
        if angle < REFINED_DEG and shift < REFINED_PX * run.pixel_size_angstrom:
            return []
        return [
            f"its refined poses, which differ from those of the particles by {angle:.1f}° and "
            f"{shift:.1f} Å (RMS), are not taken; `raydrgn train --poses-from "
            f"{shlex.quote(run.root)}` takes them"
        ]
