"""The memory that a fit takes beside its particles."""

import math
import tempfile
from pathlib import Path

import torch

from raydrgn.mfa.blocks import BLOCK_SHARE
from raydrgn.mfa.grids import TRANSFORMED
from raydrgn.mfa.slice_grid import PADDING, GridPoints, SliceGridFile, slabs_of
from raydrgn.mfa.workers import batch_size

UPDATE_COPIES = 3
"""Of all volumes, that an update holds at a time, of two beside the sums."""

BATCH_COPIES = 8
"""Of the slices of a batch: residuals, derivatives, and what is inserted."""

SINGLE_VOLUMES = 16
"""As many volumes are held beside: envelopes, shells, weights, and what one transform takes."""


def grid_bytes(box: int, components: int) -> int:
    """Return the size of the grid that slices are taken of."""
    return 8 * (components + 1) * len(GridPoints.within(PADDING * box // 2))


def fit_bytes(box: int, components: int, *, device: torch.device, is_in_slabs: bool = False) -> int:
    """Return the memory of a worker's fit where it computes.

    A pass holds the volumes, the grid of their slices, and sums or what the grid is made of; an
    update holds the volumes before and after, and sums or other volumes between them.

    Args:
        box: Of the images.
        components: Number of them.
        device: Where it computes.
        is_in_slabs: Whether the grid of slices is in a file, of which a pass holds a slab, and
            slices of a block of particles.
    """
    count = components + 1
    volumes, sums = 4 * count * box**3, 8 * count * (box // 2 + 1) * (box + 1) ** 2
    slices = grid_bytes(box, components)
    points = math.ceil(math.pi / 2 * (box / 2) ** 2)
    size = batch_size(num_volumes=count, num_points=points, device=device)
    batch = BATCH_COPIES * 8 * count * points * size
    columns = 8 * min(count, TRANSFORMED) * (box + 1) * box**2
    beside_columns = slices
    if is_in_slabs:
        rows = [slab.rows for slab in slabs_of(GridPoints.within(PADDING * box // 2))]
        batch += int(BLOCK_SHARE * slices)
        slices = 8 * count * max(part.stop - part.start for part in rows)
        beside_columns = 0
    a_pass = volumes + max(slices + sums + batch, beside_columns + columns)
    an_update = (UPDATE_COPIES - 1) * volumes + max(sums, volumes)
    return max(a_pass, an_update) + SINGLE_VOLUMES * 4 * box**3


def needs_grid_file(box: int, components: int, *, device: torch.device, free: float) -> bool:
    """Return whether memory has no room for the grid of slices, and the device can do without it.

    Args:
        box: Of the images.
        components: Number of them.
        device: Where a fit computes; a GPU takes no file.
        free: Bytes of memory that it may take there.
    """
    return device.type == "cpu" and fit_bytes(box, components, device=device) > free


def grid_file_where_needed(
    box: int, components: int, *, device: torch.device, free: float
) -> SliceGridFile | None:
    """Return a file for the grid of slices where there has to be one; arguments are the same.

    Raises:
        StorageError: If the local disk has no room for the grid.
    """
    if not needs_grid_file(box, components, device=device, free=free):
        return None
    return SliceGridFile(Path(tempfile.gettempdir()), box=box, num_volumes=components + 1)
