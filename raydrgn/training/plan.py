"""Which particles, noise and Fourier points each step takes.

Everything random in training is drawn here, from the seed and the place in the run alone. So a run
can go on from any step, checkpoints hold no random generators, and batches, noise and points are
the same for every number of workers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from raydrgn.shapes import Float, Int

NOISE_BLOCK = 4096

_ORDER, _NOISE, _POINTS = 1, 2, 3  # one stream of random numbers for each purpose


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The steps of one worker of ``world``; all workers take the same number of steps.

    The table is divided into strata of consecutive rows, as many as the global batch has particles.
    Step s takes particle s of each stratum, in the stratum's own random order of the epoch, so that
    an epoch takes every particle once. The sizes of strata differ by one at most: where they do,
    the last step is a smaller batch, of the particles that the larger strata have left.

    A worker owns consecutive whole strata, and so consecutive rows. What a batch consists of does
    not depend on the number of workers, which can be as large as the number of strata.
    """

    num_particles: int
    batch_size: int
    num_points: int
    points_fraction: float
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def num_strata(self) -> int:
        """Particles of a whole batch: the batch size, or all particles if there are fewer."""
        return min(self.batch_size, self.num_particles)

    @property
    def strata(self) -> range:
        """Strata that this worker owns."""
        first, stop = (r * self.num_strata // self.world for r in (self.rank, self.rank + 1))
        return range(first, stop)

    @property
    def rows(self) -> tuple[int, int]:
        """First row of this worker's part of the table, and the one after its last."""
        return self._bound(self.strata.start), self._bound(self.strata.stop)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.num_particles // self.num_strata)

    def batch_count(self, step: int) -> int:
        """Return the number of particles of a step over all workers."""
        return min(self.num_strata, self.num_particles - step * self.num_strata)

    def batches(self, epoch: int) -> list[Int[Tensor, " _"]]:
        """Return this worker's particles of each step of an epoch, numbered within its part."""
        orders = [self._stratum_order(epoch, stratum) for stratum in self.strata]
        num_whole = self.num_particles // self.num_strata  # steps in which every stratum has one
        whole = np.stack([order[:num_whole] for order in orders], axis=1)  # (steps strata)
        steps = list(torch.from_numpy(whole).unbind(0))
        if num_whole < self.num_steps:
            steps.append(torch.from_numpy(np.concatenate([order[num_whole:] for order in orders])))
        return steps

    def _bound(self, stratum: int) -> int:
        """Return the first row of a stratum; larger strata are evenly spread over the table."""
        return stratum * self.num_particles // self.num_strata

    def _stratum_order(self, epoch: int, stratum: int) -> Int[np.ndarray, " _"]:
        start, stop = self._bound(stratum), self._bound(stratum + 1)
        generator = np.random.default_rng((self.seed, _ORDER, epoch, stratum))
        return start - self.rows[0] + generator.permutation(stop - start)

    def noise(self, epoch: int, zdim: int) -> Float[Tensor, "rows zdim"]:
        """Return this worker's standard normal draws for the latents of an epoch."""
        start, stop = self.rows
        first = start // NOISE_BLOCK
        blocks = [
            np.random.default_rng((self.seed, _NOISE, epoch, block)).standard_normal(
                (NOISE_BLOCK, zdim), dtype=np.float32
            )
            for block in range(first, -(-stop // NOISE_BLOCK))
        ]
        offset = first * NOISE_BLOCK
        return torch.from_numpy(np.concatenate(blocks)[start - offset : stop - offset])

    @cached_property
    def num_chosen(self) -> int:
        """Fourier points at which each step compares slices."""
        return max(round(self.points_fraction * self.num_points), 1)

    def points(self, epoch: int, step: int) -> Int[Tensor, " m"] | None:
        """Return the points of a step, the same for all workers; None means all."""
        if self.num_chosen == self.num_points:
            return None
        generator = np.random.default_rng((self.seed, _POINTS, epoch, step))
        chosen = generator.choice(self.num_points, self.num_chosen, replace=False, shuffle=False)
        return torch.from_numpy(np.sort(chosen))
