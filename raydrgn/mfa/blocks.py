"""Work on particles that takes slices of a grid: on one batch, or on several for each reading.

The work on a batch is a generator. It yields what it has to take of the grid, gets it back, and
returns its result. All batches of a block are taken as far as that before the next slab of the grid
is read, so that a grid in a file is read once for the whole block.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.mfa.slice_grid import SliceGrid, SliceGridFile
from raydrgn.shapes import Int

T = TypeVar("T")

Take = Callable[[SliceGrid, Tensor | None], Tensor]
"""Takes values at the points that lie in a slab, into those from the slabs before."""

Work = Generator[Take, Tensor, T]

Rows = Int[Tensor, " b"]
"""Numbers of the particles of a batch within the worker's."""

HELD = 16
"""Numbers for each point of an image that a block holds beside its slices: image and slopes."""

BLOCK_SHARE = 1 / 6
"""Of the bytes of a grid in a file, what a block of particles holds."""


def particles_of_block(grid_bytes: int, *, num_volumes: int, num_points: int) -> int:
    """Return how many particles are worked on for each reading of a grid in a file."""
    return int(BLOCK_SHARE * grid_bytes) // (4 * num_points * (2 * num_volumes + HELD))


def worked(
    grid: SliceGrid | SliceGridFile,
    work: Callable[[Rows, ParticleBatch], Work[T]],
    batches: Iterable[tuple[Rows, ParticleBatch]],
    *,
    num_points: int,
) -> Iterator[tuple[Rows, T]]:
    """Yield the result of the work on each batch.

    Args:
        grid: That slices are taken of.
        work: On a batch.
        batches: Of particles.
        num_points: Of their images.
    """
    for block in _blocks(grid, batches, num_points):
        results = _finish(grid, [work(*batch) for batch in block])
        yield from zip((rows for rows, _ in block), results, strict=True)


def _blocks(
    grid: SliceGrid | SliceGridFile,
    batches: Iterable[tuple[Rows, ParticleBatch]],
    num_points: int,
) -> Iterator[list[tuple[Rows, ParticleBatch]]]:
    count = 0
    if isinstance(grid, SliceGridFile):
        count = particles_of_block(
            grid.num_bytes, num_volumes=grid.num_volumes, num_points=num_points
        )
    block: list[tuple[Rows, ParticleBatch]] = []
    for batch in batches:
        block.append(batch)
        if sum(len(rows) for rows, _ in block) >= count:
            yield block
            block = []
    if block:
        yield block


def _finish(grid: SliceGrid | SliceGridFile, works: list[Work[T]]) -> list[T]:
    """Return the results of some works, all of which take as often of the grid."""
    takes = [next(work) for work in works]
    while True:
        taken: list[Tensor | None] = [None] * len(works)
        for slab in grid.slabs():
            taken = [take(slab, values) for take, values in zip(takes, taken, strict=True)]
        takes, results = [], []
        for work, values in zip(works, taken, strict=True):
            assert values is not None
            try:
                takes.append(work.send(values))
            except StopIteration as end:
                results.append(end.value)
        if results:
            return results
