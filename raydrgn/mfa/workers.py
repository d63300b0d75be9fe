"""The particles of one worker: their batches, and random choices that all workers agree on."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.data.shard import ResidentShard
from raydrgn.mfa.images import FourierPoints
from raydrgn.shapes import Bool, Float, Int

T = TypeVar("T")

BATCH_BYTES = {"cpu": 4_000_000, "cuda": 64_000_000}
"""Slices of a batch of particles, which are the most that a pass holds.

On a CPU about what caches hold; a GPU needs more at a time for all of its cores.
"""

LEAST_BATCH = 16
"""Particles of a batch at least, for several threads."""

LATENT_BLOCK = 4096

MEAN, PASS, SAMPLE, LATENTS, HALVES = range(11, 16)  # a stream of random numbers for each purpose


def batch_size(*, num_volumes: int, num_points: int, device: torch.device) -> int:
    """Return how many particles a batch has, of slices of some volumes at some points."""
    return max(BATCH_BYTES[device.type] // (8 * num_volumes * num_points), LEAST_BATCH)


@runtime_checkable
class Group(Protocol):
    """The workers of a fit."""

    def add_up(self, tensors: list[Tensor]) -> None:
        """Add up tensors over all workers, in place, on the first worker at least."""
        ...

    def from_first(self, value: T) -> T:
        """Return what the first worker gives."""
        ...

    def all_of(self, value: T) -> list[T]:
        """Return what each worker gives, in their order."""
        ...

    @property
    def size(self) -> int:
        """Number of workers."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker."""
        ...


@dataclass(frozen=True, kw_only=True)
class WorkerParticles:
    """Consecutive rows of the particle table, of which each worker has some."""

    shard: ResidentShard
    group: Group

    num_particles: int
    """Of all workers."""

    first_row: int
    """Row of the shard's first particle in the table."""

    seed: int
    """Of everything random."""

    optics_groups: Int[Tensor, " n"]
    """Number of the optics group of each of the worker's particles, on the device."""

    optics_shares: Float[Tensor, " groups"]
    """Share of each optics group among all particles."""

    optics_names: list[str]
    """Of the optics groups, one for each number."""

    device: torch.device
    """Where to compute."""

    on_batch: Callable[[int], None]
    """Called with the number of particles after each batch of a pass."""

    @classmethod
    def of_shard(
        cls,
        shard: ResidentShard,
        *,
        group: Group,
        num_particles: int,
        first_row: int,
        seed: int,
        device: torch.device,
        on_batch: Callable[[int], None],
    ) -> "WorkerParticles":
        """Take the particles of a shard, and number the optics groups of all workers' shards."""
        counts = group.all_of(Counter(shard.optics_groups))
        total = sum(counts, Counter())
        names = sorted(total)
        numbers = {name: number for number, name in enumerate(names)}
        mine = torch.tensor([numbers[name] for name in shard.optics_groups])
        shares = torch.tensor([total[name] / num_particles for name in names])
        return cls(
            shard=shard,
            group=group,
            num_particles=num_particles,
            first_row=first_row,
            seed=seed,
            optics_groups=mine.to(device),
            optics_shares=shares.to(device),
            optics_names=names,
            device=device,
            on_batch=on_batch,
        )

    def __len__(self) -> int:
        return len(self.shard)

    def all_batches(
        self, at: FourierPoints, *, num_volumes: int
    ) -> Iterator[tuple[Int[Tensor, " b"], ParticleBatch]]:
        """Yield the batches of all of the worker's particles."""
        return self.batches(torch.arange(len(self)), at, num_volumes=num_volumes)

    def batches(
        self, rows: Int[Tensor, " n"], at: FourierPoints, *, num_volumes: int
    ) -> Iterator[tuple[Int[Tensor, " b"], ParticleBatch]]:
        """Yield the batches of some particles, with their numbers within the shard.

        Args:
            rows: Particles.
            at: Points of their slices.
            num_volumes: Volumes that slices are taken of.
        """
        size = batch_size(num_volumes=num_volumes, num_points=len(at.points), device=self.device)
        selections = [part for part in rows.split(size) if len(part)]
        for where, batch in zip(selections, self.shard.batches(selections), strict=True):
            yield where, replace(batch, optics_group=self.optics_groups[where])
            self.on_batch(len(where))

    def rotations(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
        """Return the given rotations of some particles, on the device."""
        return self.shard.rotations(rows)

    def ranks(self, purpose: int, *place: int) -> Int[np.ndarray, " n"]:
        """Return the place of each of the worker's particles in a random order of all."""
        order = np.random.default_rng((self.seed, purpose, *place)).permutation(self.num_particles)
        return order[self.first_row : self.first_row + len(self)]

    def chosen(self, purpose: int, *place: int, count: int) -> Bool[np.ndarray, " n"]:
        """Return which of the worker's particles are among ``count`` random ones of all."""
        return self.ranks(purpose, *place) < count

    def random_latents(self, dim: int) -> Float[Tensor, "n k"]:
        """Return standard normal latents of the worker's particles."""
        first, stop = self.first_row, self.first_row + len(self)
        blocks = [
            np.random.default_rng((self.seed, LATENTS, block)).standard_normal(
                (LATENT_BLOCK, dim), dtype=np.float32
            )
            for block in range(first // LATENT_BLOCK, -(-stop // LATENT_BLOCK))
        ]
        offset = first // LATENT_BLOCK * LATENT_BLOCK
        drawn = np.concatenate(blocks)[first - offset : stop - offset]
        return torch.from_numpy(drawn).to(self.device)
