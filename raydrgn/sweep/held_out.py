"""The score of a run without a truth: how well it predicts what it has not seen of an image.

Particles are held out of training. The Fourier coefficients of each of their images are divided
into two random halves. The latent is found from one half, and the slice of its volume is compared
with the other; then the other way round. Noise is independent from coefficient to coefficient, so
that a latent that follows the noise of one half gains nothing in the other. The gain is the
difference to the error of one map for all particles, image by image, which takes out how noisy each
image is. There is no KL divergence in it: settings of β can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.data.shard import ResidentShard
from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import hartley_from_disc
from raydrgn.io.particles import ParticleTable
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.model.volume import decode_slices
from raydrgn.run.config import RunConfig
from raydrgn.shapes import Bool, Float
from raydrgn.training.step import SliceLattice, ctf_values

SEED = 20_260_714
"""Of the division of coefficients, the same for every run."""

MOST_SCORED = 2000
"""Held-out particles that are scored; of more, this number is taken evenly."""

SEEN_FACTOR = 2.0
"""By which the half is multiplied that the encoder sees."""

LEAST_RADIUS = 1.5
"""In units of 1/box; coefficients below are not compared. They are those of the background, and one
map cannot be known there: the CTF is nearly zero."""

BATCH = 64
CPU = torch.device("cpu")

Prediction = Callable[
    [ParticleBatch, Float[Tensor, "b n"], Bool[Tensor, "b n"]], Float[Tensor, "b n 2"]
]
"""From images, their CTF and what may be seen of them, to their coefficients."""


@dataclass(frozen=True, slots=True)
class HeldOutImages:
    """Held-out particles, prepared, with the half that each coefficient is in."""

    box: int
    """Edge of the images in pixels."""

    shard: ResidentShard
    lattice: SliceLattice
    in_first: Bool[Tensor, "b n"]

    @classmethod
    def prepare(cls, table: ParticleTable, config: RunConfig) -> "HeldOutImages":
        """Read and prepare held-out particles, at most ``MOST_SCORED``."""
        if len(table) > MOST_SCORED:
            table = table.select(np.linspace(0, len(table) - 1, MOST_SCORED).astype(np.int64))
        lattice = SliceLattice.of_box(config.data.box, device=CPU)
        shard = ResidentShard.in_memory(
            table, config.data, pixel_size_angstrom=config.pixel_size_angstrom
        )
        halves = np.tile(np.arange(lattice.num_points) % 2 == 0, (len(table), 1))
        halves = np.random.default_rng(SEED).permuted(halves, axis=1)
        return cls(config.data.box, shard, lattice, torch.from_numpy(halves))

    def __len__(self) -> int:
        return len(self.shard)

    def errors(self, predict: Prediction) -> Float[np.ndarray, " b"]:
        """Return the mean squared error of each image's coefficients, each predicted unseen."""
        found, is_compared = [], self.lattice.plane.norm(dim=-1) * self.box >= LEAST_RADIUS
        for rows in torch.arange(len(self)).split(BATCH):
            batch, in_first = self.shard.batch(rows), self.in_first[rows]
            ctf = ctf_values(batch, self.lattice)
            error = torch.zeros(len(batch), dtype=torch.float64)
            for seen in (in_first, ~in_first):
                difference = predict(batch, ctf, seen) - batch.coefficients
                error += (difference.square().sum(-1) * (is_compared & ~seen)).double().sum(-1)
            found.append(error / is_compared.sum())
        return torch.cat(found).numpy()

    def errors_of_map(self, volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, " b"]:
        """Return the errors of one map for all particles.

        Args:
            volume: On the scale of the prepared images.
        """
        sampler = SliceSampler(torch.from_numpy(volume))

        def predict(
            batch: ParticleBatch, ctf: Float[Tensor, "b n"], seen: Bool[Tensor, "b n"]
        ) -> Float[Tensor, "b n 2"]:
            points = self.lattice.plane @ batch.rotations * sampler.box
            return ctf[..., None] * sampler.at(points)

        return self.errors(predict)


class EncodedHalf:
    """Predicts coefficients from the latent that the encoder finds in what may be seen.

    What may not be seen is zero, and the rest doubled: the sums over coefficients of the encoder's
    first layer are then on average those of the whole image.
    """

    def __init__(self, vae: HeterogeneousVAE, lattice: SliceLattice) -> None:
        self._vae, self._lattice = vae, lattice

    @torch.inference_mode()
    def __call__(
        self, batch: ParticleBatch, ctf: Float[Tensor, "b n"], seen: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n 2"]:
        """Return the CTF times the slice of each latent's volume."""
        factor = SEEN_FACTOR * seen * torch.sign(ctf)
        z, _ = self._vae.encoder.encode(hartley_from_disc(batch.coefficients * factor[..., None]))
        points = self._lattice.plane @ batch.rotations
        return ctf[..., None] * decode_slices(self._vae.decoder, points, z)
