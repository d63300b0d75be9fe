"""States of a run, found again in the latent spaces of its two halves.

The latent spaces of separate trainings have nothing to do with each other. What they share are
particles: a state is a cluster of the whole run's latents, and in a half it is at the mean of that
half's latents over the particles of the cluster which the half has.
"""

from dataclasses import dataclass

import numpy as np

from raydrgn.errors import InputError
from raydrgn.shapes import Float, Int

LEAST_PARTICLES = 10
"""Particles of a state in each half, below which its volumes are not compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """States that both halves have enough particles of."""

    numbers: Int[np.ndarray, " k"]
    """Clusters of the whole run."""

    sizes: Int[np.ndarray, "k 2"]
    """Particles of each state in each half."""

    z: tuple[Float[np.ndarray, "k zdim"], Float[np.ndarray, "k zdim"]]
    """Where each state is in the latent space of each half."""

    left_out: Int[np.ndarray, " m"]
    """Clusters with too few particles in one of the halves."""


def find_states(
    labels: Int[np.ndarray, " n"],
    rows: tuple[Int[np.ndarray, " n1"], Int[np.ndarray, " n2"]],
    latents: tuple[Float[np.ndarray, "n1 zdim"], Float[np.ndarray, "n2 zdim"]],
) -> States:
    """Return where the clusters of a run are in the latent spaces of its halves.

    Args:
        labels: Cluster of each particle of the whole run, from 0.
        rows: Of each half's particles in the whole run.
        latents: Theirs.

    Raises:
        InputError: If fewer than two clusters have enough particles in both halves.
    """
    count = int(labels.max()) + 1
    mine = [labels[of_half] for of_half in rows]
    sizes = np.stack([np.bincount(part, minlength=count) for part in mine], axis=1)
    enough = np.flatnonzero(sizes.min(axis=1) >= LEAST_PARTICLES)
    if len(enough) < 2:
        raise InputError(
            f"Only {len(enough):,} of {count:,} clusters have {LEAST_PARTICLES} particles in each "
            "half, and two are needed to compare differences; choose a smaller --ksample."
        )
    first, second = (
        np.stack([z[part == number].mean(axis=0) for number in enough])
        for z, part in zip(latents, mine, strict=True)
    )
    return States(
        numbers=enough,
        sizes=sizes[enough],
        z=(first.astype(np.float32), second.astype(np.float32)),
        left_out=np.flatnonzero(sizes.min(axis=1) < LEAST_PARTICLES),
    )
