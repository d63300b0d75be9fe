"""Numbers of each cluster of particles, by which a person can tell junk from particles.

Densities are those of the decoded volumes as they are, on one grey scale. Half sets are the even
and odd particles of a cluster, back-projected, and compared within the mask of the map of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.shells import shell_correlation
from raydrgn.inputs.backprojection import HALVES, Backprojection, back_project
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.inputs.resolution import density_mask
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import reference_pixel_size
from raydrgn.io.verification import quiet
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float, Int

LOW_SHELLS = slice(2, 9)
"""Shells in which half sets are compared: the first is the mean density, and finer ones need more
particles than a cluster may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterNumbers:
    """What can be measured of one cluster."""

    cluster: int
    particles: int
    share: float
    magnitude: float
    """Mean |z| of its particles."""

    peak: float
    """Highest density of the volume at its centre."""

    total: float
    """Sum of that volume's density within the sphere in the box."""

    noise: float
    """SD of that volume within the sphere, outside the mask of the map of all particles."""

    agreement: float
    """Mean FSC of its half sets in ``LOW_SHELLS``, within that mask; 0 of a single particle."""

    resolution_angstrom: float | None
    """Where the FSC of its half sets falls below 0.143; None of a single particle."""

    shows_nothing: float | None
    """Share of its particles that show nothing by the mixture; None by the autoencoder."""


def cluster_numbers(
    table: ParticleTable,
    z: Float[np.ndarray, "n zdim"],
    labels: Int[np.ndarray, " n"],
    volumes: Sequence[Float[np.ndarray, "d d d"]],
    *,
    null: Float[np.ndarray, " n"] | None,
    options: BackprojectionOptions,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> list[ClusterNumbers]:
    """Measure every cluster.

    Args:
        table: The particles.
        z: Their latents.
        labels: Their clusters, from 0.
        volumes: Decoded volume of each cluster.
        null: Probability of each particle to show nothing; None by the autoencoder.
        options: Contrast of the particles, and hand of the volumes.
        executor: Where particles are back-projected.
        progress: Called after each cluster.
    """
    pixel_size = reference_pixel_size(table)
    map_of = partial(back_project, options=replace(options, flip=False), executor=executor)
    whole = map_of(table, progress=progress)
    mask = density_mask(whole.full, pixel_size_angstrom=pixel_size)
    sphere = soft_sphere(len(whole.full)) > 0.5
    outside = sphere & (mask < 0.5)
    size = np.linalg.norm(z.astype(np.float64), axis=1)
    found = []
    for cluster, decoded in enumerate(volumes):
        volume = decoded[::-1] if options.flip else decoded  # as the poses have it, and the mask
        rows = np.flatnonzero(labels == cluster)
        agreement, resolution = 0.0, None
        if len(rows) >= HALVES:
            chosen = table.select(rows)
            with quiet("raydrgn"):  # what is wrong with these images is reported already
                maps = map_of(chosen)
            agreement, resolution = half_set_agreement(maps, mask), maps.resolution.at(0.143)
        found.append(
            ClusterNumbers(
                cluster=cluster,
                particles=len(rows),
                share=len(rows) / len(labels),
                magnitude=float(size[rows].mean()),
                peak=float(volume.max()),
                total=float(volume[sphere].sum(dtype=np.float64)),
                noise=float(volume[outside].std()),
                agreement=agreement,
                resolution_angstrom=resolution,
                shows_nothing=None if null is None else float((null[rows] > 0.5).mean()),
            )
        )
        progress("half sets of clusters", cluster + 1, len(volumes), unit="clusters")
    return found


def half_set_agreement(maps: Backprojection, mask: Float[np.ndarray, "d d d"]) -> float:
    """Return the mean FSC of half maps in ``LOW_SHELLS``, within a mask."""
    first, second = (torch.from_numpy(half * mask) for half in maps.halves)
    curve = shell_correlation(first.float(), second.float())
    return float(curve[LOW_SHELLS].mean())
