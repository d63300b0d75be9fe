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
from torch import Tensor

from raydrgn.bench.settings import EmSettings
from raydrgn.bench.step import device_name
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.images import FourierPoints
from raydrgn.mfa.interpolation import gather, insert
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.mfa.posterior import ImageProducts, image_posterior
from raydrgn.mfa.slice_grid import PADDING, GridPoints, SliceGrid
from raydrgn.model.device import default_device
from raydrgn.shapes import Float

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """Made-up images, and the grids that slices of them are read from and added to."""

    settings: EmSettings
    points: Float[Tensor, "n 2"]
    rotations: Float[Tensor, "b 3 3"]
    ctf: Float[Tensor, "b n"]
    values: Float[Tensor, "b n f"]
    """Of all volumes, as ``SliceGrid`` has them."""

    grid: SliceGrid
    sums: Float[Tensor, "z y x f"]

    @classmethod
    def random(cls, settings: EmSettings, device: torch.device) -> "_Batch":
        """Draw images, poses and volumes."""
        box, count, volumes = settings.box, settings.batch_size, settings.components + 1
        at = FourierPoints.within(box, box, device=device)
        grid = SliceGrid.empty(
            GridPoints.within(PADDING * box // 2), num_volumes=volumes, device=device
        )
        grid.values.normal_()
        rotations = Rotation.random(count, random_state=0).as_matrix().astype(np.float32)
        return cls(
            settings=settings,
            points=at.points,
            rotations=torch.from_numpy(rotations).to(device),
            ctf=torch.ones(count, len(at.points), device=device),
            values=torch.randn(count, len(at.points), 2 * volumes, device=device),
            grid=grid,
            sums=VolumeGrids(box, device=device).empty_sums(volumes),
        )

    def passes(self) -> list[Callable[[], object]]:
        """Return slices of all volumes, their adjoint, and the posterior of all images."""
        plane, limit = self.points * PADDING, self.settings.box / 2
        products = _products(self.values, self.settings.components)
        mixture = Mixture.standard_normal(self.settings.components, device=self.values.device)
        return [
            lambda: gather(self.grid, self.rotations, plane, self.ctf),
            lambda: insert(
                self.sums, self.rotations, self.points, self.ctf, self.values, limit=limit
            ),
            lambda: image_posterior(
                products, mixture, ParticlePriors(), has_contrast=True, has_null_class=True
            ),
        ]


def run(settings: EmSettings) -> EmRates:
    """Time slices, their adjoint, and the posterior of made-up images."""
    device = torch.device(settings.device) if settings.device else default_device()
    if settings.threads:
        torch.set_num_threads(settings.threads)
        numba.set_num_threads(settings.threads)
    batch = _Batch.random(settings, device)
    source = torch.zeros(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    works = [lambda: target.copy_(source), *batch.passes()]
    for work in works:  # compilation, caches
        work()
    seconds = np.array([[_seconds(work, device) for work in works] for _ in range(ROUNDS)])
    copy, gathered, inserted, posterior = (median(column) for column in seconds.T.tolist())
    count, points, numbers = batch.values.shape
    return EmRates(
        device=device_name(device),
        points=points,
        gathered_per_s=count / gathered,
        inserted_per_s=count / inserted,
        posterior_per_s=count / posterior,
        gather_bytes=points * numbers * 4 * 9,
        insert_bytes=points * numbers * 4 * 17,
        limit_bytes_per_s=2 * COPIED_BYTES / copy,
        grid_bytes=batch.grid.values.nbytes,
        sums_bytes=batch.sums.nbytes,
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
