"""What a mean explains of images that it was not made from.

A mean fits the noise of its own images: the fewer they are, the more it seems to explain of them,
and to random orientations it gives a volume that fits them. So the particles are halved, and the
images of each half are compared with the mean of the other.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.mfa.expectation import MeanPass
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticleEstimates
from raydrgn.mfa.start import MEAN_PARTICLES, MEAN_PASSES, mean_rows, mean_sums
from raydrgn.mfa.update import Updater
from raydrgn.mfa.workers import HALVES, MEAN, WorkerParticles
from raydrgn.shapes import Bool, Float, Int


class OrientationGain(NamedTuple):
    """What given orientations explain of images by the mean of others, nats for each particle."""

    gain: float
    """Beyond the orientations of other particles; 0 if orientations are random."""

    explained: float
    """In all."""


class HalfMeans:
    """The means of two halves of the particles."""

    def __init__(
        self,
        model: FactorModel,
        particles: WorkerParticles,
        estimates: ParticleEstimates,
        grids: VolumeGrids,
        at: FourierPoints,
        *,
        updater: Updater,
    ) -> None:
        """Make both means, as the mean of all is made.

        Args:
            model: Whose noise, mask and power of the mean are taken.
            particles: Of this worker.
            estimates: What is estimated of them.
            grids: Of the box.
            at: Points to take.
            updater: Of half the particles.
        """
        self._particles, self._grids, self._at = particles, grids, at
        self._half = torch.from_numpy(particles.ranks(HALVES) % 2)
        empty = replace(model, volumes=torch.zeros_like(model.volumes[:1]))
        group = particles.group
        self._means = [empty, empty]
        for number in range(MEAN_PASSES):
            rows = mean_rows(particles, number + 1)
            for half, mean in enumerate(self._means):
                mine = rows[self._half[rows] == half]
                sums = mean_sums(mean, particles, estimates, grids, at, rows=mine)
                group.add_up(sums.tensors())
                if group.is_first:
                    mean = updater.mean(mean, sums, estimate_noise=False)
                volume = group.from_first(mean.volumes.cpu()).to(particles.device)
                self._means[half] = replace(mean, volumes=volume)

    def products(self, estimates: ParticleEstimates) -> Float[Tensor, "n 2"]:
        """Return the products of slices of the other half's mean with themselves and images."""
        particles = self._particles
        found = torch.zeros(len(particles), 2, dtype=torch.float64, device=particles.device)
        everyone = torch.ones_like(self._half, dtype=torch.bool)
        for worker_pass, where, batch in self._compared(everyone):
            found[where] = worker_pass.products(batch, estimates[where]).double()
        return found

    def gain_of_orientations(self, estimates: ParticleEstimates) -> OrientationGain:
        """Return what given orientations explain of some images by the other half's mean."""
        particles = self._particles
        chosen = torch.from_numpy(particles.chosen(MEAN, 0, count=MEAN_PARTICLES))
        total = torch.zeros(3, dtype=torch.float64, device=particles.device)
        for worker_pass, where, batch in self._compared(chosen):
            mine = estimates[where]
            kept = 1 - mine.null_probability
            gain = worker_pass.gain_of_orientations(batch, mine)
            total += torch.cat([kept @ gain, kept.sum()[None]]).double()
        particles.group.add_up([total])
        explained, gained, likely = particles.group.from_first(total.tolist())
        return OrientationGain(gained / max(likely, 1), explained / max(likely, 1))

    def _compared(
        self, chosen: Bool[Tensor, " n"]
    ) -> Iterator[tuple[MeanPass, Int[Tensor, " b"], ParticleBatch]]:
        """Yield batches of chosen particles of each half, with the mean of the other."""
        for half, mean in enumerate(reversed(self._means)):
            worker_pass = MeanPass(mean, self._grids, self._at)
            [rows] = ((self._half == half) & chosen).nonzero(as_tuple=True)
            for where, batch in self._particles.batches(rows, self._at, num_volumes=1):
                yield worker_pass, where, batch
