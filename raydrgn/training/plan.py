"""Which particles, noise and Fourier points each step takes.

Everything random in training is drawn here, from the seed and the place in the run alone. So a run
can go on from any step, states hold no random generators, and noise belongs to a particle and not
to a worker: the gradient of a global batch does not depend on how many workers share it.
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

    Worker r holds consecutive rows of the table, the numbers of rows differing by one at most. The
    particles of all workers' permutations, dealt in turn, make one sequence, of which each step
    takes ``batch_size``: the last step takes what is left, and no particle is left out or doubled.
    """

    num_particles: int
    batch_size: int
    num_points: int
    points_fraction: float
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def rows(self) -> tuple[int, int]:
        """First row of this worker's part of the table, and the one after its last."""
        each, extra = divmod(self.num_particles, self.world)
        start = self.rank * each + min(self.rank, extra)
        return start, start + each + (self.rank < extra)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.num_particles // self.batch_size)

    def batch_count(self, step: int) -> int:
        """Return the number of particles of a step over all workers."""
        return min(self.batch_size, self.num_particles - step * self.batch_size)

    def order(self, epoch: int) -> Int[Tensor, " rows"]:
        """Return this worker's particles in the order of an epoch, numbered within its part."""
        start, stop = self.rows
        generator = np.random.default_rng((self.seed, _ORDER, epoch, self.rank))
        return torch.from_numpy(generator.permutation(stop - start))

    def share(self, step: int) -> tuple[int, int]:
        """Return the ends of this worker's share of a step, as positions in its order."""
        first = step * self.batch_size
        last = first + self.batch_count(step)
        start, stop = (max(-(-(end - self.rank) // self.world), 0) for end in (first, last))
        return start, stop

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
        if not blocks:
            return torch.empty(0, zdim)
        offset = first * NOISE_BLOCK
        return torch.from_numpy(np.concatenate(blocks)[start - offset : stop - offset])

    @cached_property
    def num_chosen(self) -> int:
        """Points at which each step compares slices."""
        return max(round(self.points_fraction * self.num_points), 1)

    def points(self, epoch: int, step: int) -> Int[Tensor, " m"] | None:
        """Return the points of a step, the same for all workers; None means all."""
        if self.num_chosen == self.num_points:
            return None
        generator = np.random.default_rng((self.seed, _POINTS, epoch, step))
        chosen = generator.choice(self.num_points, self.num_chosen, replace=False, shuffle=False)
        return torch.from_numpy(np.sort(chosen))
