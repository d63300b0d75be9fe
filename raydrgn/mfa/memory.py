"""The memory that a fit takes beside its particles."""

import math

import torch

from raydrgn.mfa.grids import PADDING, TRANSFORMED
from raydrgn.mfa.slice_grid import num_points
from raydrgn.mfa.workers import batch_size

UPDATE_COPIES = 2
"""Of all volumes and of their sums, that an update takes at a time."""

BATCH_COPIES = 8
"""Of the slices of a batch: residuals, derivatives, and what is inserted."""

SINGLE_VOLUMES = 16
"""As many volumes are held beside: envelopes, shells, weights, and what one transform takes."""


def fit_bytes(box: int, components: int, *, device: torch.device) -> int:
    """Return the memory of a worker's fit where it computes.

    A pass holds the volumes, the grid of their slices, and sums or what the grid is made of; an
    update holds sums and volumes, both before and after.
    """
    count = components + 1
    fine, coarse = num_points(PADDING * box // 2), (box // 2 + 1) * (box + 1) ** 2
    volumes, sums, slices = 4 * count * box**3, 8 * count * coarse, 8 * count * fine
    columns = 8 * min(count, TRANSFORMED) * (box + 1) * box**2
    points = math.ceil(math.pi / 2 * (box / 2) ** 2)
    size = batch_size(num_volumes=count, num_points=points, device=device)
    a_pass = volumes + slices + max(sums + BATCH_COPIES * 8 * count * points * size, columns)
    an_update = UPDATE_COPIES * (volumes + sums)
    return max(a_pass, an_update) + SINGLE_VOLUMES * 4 * box**3
