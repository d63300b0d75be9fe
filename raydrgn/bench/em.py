"""Passes of a mixture of factor analysers beside the memory bandwidth of this machine.

A slice of all volumes reads eight grid points of 2·(K + 1) numbers for each of its own, and its
adjoint reads and writes them: both are bound by memory where the grid does not fit a cache.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numba
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from raydrgn.bench.settings import EmSettings
from raydrgn.bench.step import device_name
from raydrgn.mfa.grids import PADDING, VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.interpolation import gather, insert
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.mfa.posterior import ImageProducts, image_posterior
from raydrgn.mfa.slice_grid import SliceGrid
from raydrgn.model.device import default_device

ROUNDS = 5
COPIED_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True, slots=True)
class EmRates:
    """What a pass costs; medians over rounds."""

    device: str
    points: int
    """Fourier points of an image."""

    gathered_per_s: float
    """Slices of all volumes."""

    inserted_per_s: float
    posterior_per_s: float
    """Images, of which latent and contrast are integrated."""

    gather_bytes: float
    """Read and written per slice."""

    insert_bytes: float
    limit_bytes_per_s: float
    """Of one large copy, measured between rounds."""

    grid_bytes: int
    sums_bytes: int


def run(settings: EmSettings) -> EmRates:
    """Time slices, their adjoint, and the posterior of made-up images."""
    device = torch.device(settings.device) if settings.device else default_device()
    if settings.threads:
        torch.set_num_threads(settings.threads)
        numba.set_num_threads(settings.threads)
    box, volumes = settings.box, settings.components + 1
    grids = VolumeGrids(box, device=device)
    at = FourierPoints.within(box, box, device=device)
    points, count = len(at.points), settings.batch_size
    grid = SliceGrid.empty(PADDING * box // 2, num_volumes=volumes, device=device)
    grid.values.normal_()
    sums = grids.empty_sums(volumes)
    rotations = Rotation.random(count, random_state=0).as_matrix().astype(np.float32)
    pose = torch.from_numpy(rotations).to(device)
    factors = torch.ones(count, points, device=device)
    values = torch.randn(count, points, 2 * volumes, device=device)
    plane = at.points * PADDING
    products = _products(values, settings.components)
    mixture = Mixture.standard_normal(settings.components, device=device)
    source = torch.zeros(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    works: list[Callable[[], object]] = [
        lambda: target.copy_(source),
        lambda: gather(grid, pose, plane, factors),
        lambda: insert(sums, pose, at.points, factors, values, limit=box / 2),
        lambda: image_posterior(
            products, mixture, ParticlePriors(), has_contrast=True, has_null_class=True
        ),
    ]
    for work in works:  # compilation, caches
        work()
    seconds = np.array([[_seconds(work, device) for work in works] for _ in range(ROUNDS)])
    copy, gathered, inserted, posterior = (median(column) for column in seconds.T.tolist())
    return EmRates(
        device=device_name(device),
        points=points,
        gathered_per_s=count / gathered,
        inserted_per_s=count / inserted,
        posterior_per_s=count / posterior,
        gather_bytes=points * 2 * volumes * 4 * 9,
        insert_bytes=points * 2 * volumes * 4 * 17,
        limit_bytes_per_s=2 * COPIED_BYTES / copy,
        grid_bytes=grid.values.nbytes,
        sums_bytes=sums.nbytes,
    )


def _products(values: torch.Tensor, components: int) -> ImageProducts:
    """Return products of made-up slices and images."""
    slices = values.view(len(values), -1, components + 1) / values.shape[1] ** 0.5
    image = slices.sum(-1, keepdim=True)
    return ImageProducts(
        gram=2 * slices.mT @ slices,
        image=2 * (slices.mT @ image)[..., 0],
        power=2 * image.square().sum((1, 2)),
        uncertainty=torch.ones(len(values), components, device=values.device),
        null_evidence=torch.zeros(len(values), device=values.device),
    )


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
