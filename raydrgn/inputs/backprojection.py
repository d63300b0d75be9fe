"""Maps from particles with poses: whole, and of its even and odd halves, with a verdict.

Particles are split into lanes, each all even or all odd. A task sums the slices of one lane, close
to where it reads; sums are added in pairs, as a tree.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raydrgn.data.ingest import bad_images_message
from raydrgn.errors import ConfigError, InputError, RaydrgnError
from raydrgn.inputs.insertion import InsertionOptions, Lane, SliceSums, sum_lane
from raydrgn.inputs.reconstruction import full_map, half_maps
from raydrgn.inputs.resolution import Resolution, measure_resolution
from raydrgn.inputs.verdict import Verdict, compare, judge
from raydrgn.io import storage
from raydrgn.io.mrc import MrcHeader, read_volume, write_volume
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import require_poses
from raydrgn.io.storage import Uri
from raydrgn.remote.fanout import fan_out
from raydrgn.remote.progress import Counter
from raydrgn.remote.session import Allocation
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

LANE_PARTICLES = 25_000
"""Particles of a lane at most: what is lost with a worker, and done again."""

SEED = 0  # of the random phases
HALVES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to make of the particles."""

    out: Uri
    """Folder of maps, curves and figures."""

    invert: bool = True
    """Multiply images by −1; not with ``--uninvert-data``."""

    flip: bool = False
    """Change the hand of the maps, by reversing z."""

    reference: Uri | None = None
    """Map to compare with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Maps and what they say."""

    full: Float[np.ndarray, "d d d"]
    halves: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]]
    reference: Float[np.ndarray, "r r r"] | None
    resolution: Resolution
    verdict: Verdict


def back_project(
    table: ParticleTable,
    request: Request,
    *,
    allocation: Allocation | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Back-project particles and judge the maps; nothing is written.

    By the tasks of ``allocation`` on the connected cluster, or by this process if it is None.

    Raises:
        InputError: If particles have no poses, or images are not usable, named by their number.
    """
    require_poses(table)
    box = table.single_box()
    if len(table) < HALVES:
        raise InputError("Half maps need two particles at least.")
    reference, header = read_volume(request.reference) if request.reference else (None, None)
    if header is not None and not header.pixel_size_angstrom:
        raise InputError(f"{request.reference} does not say its pixel size; write it again.")
    if not table.has_ctf:
        log.warning("the particles have no CTF; the maps are not corrected for it")
    pixel_size = float(np.median(table.column("pixel_size_angstrom")))
    options = InsertionOptions(invert=request.invert)
    workers = allocation.num_workers if allocation else 1
    lanes = split_lanes(len(table), workers=workers)
    make = LaneMaker(table, pixel_size)
    if allocation is None:
        sums = _sum_here(lanes, make, options, progress)
    else:
        sums = _sum_on_cluster(lanes, make, options, allocation, progress)
    assert sums[0].box == box
    first, second, correlation = half_maps(*sums)
    full = full_map(*sums, correlation=correlation)
    del sums
    if request.flip:
        full, first, second = (np.ascontiguousarray(v[::-1]) for v in (full, first, second))
    resolution = measure_resolution(
        first,
        second,
        full,
        pixel_size_angstrom=pixel_size,
        generator=torch.Generator().manual_seed(SEED),
    )
    verdict = judge(
        full,
        resolution,
        inverted_images=request.invert,
        flipped=request.flip,
        corrected_ctf=table.has_ctf,
        comparison=_compare(full, reference, header, resolution),
    )
    return Result(
        full=full,
        halves=(first, second),
        reference=reference,
        resolution=resolution,
        verdict=verdict,
    )


def _compare(
    full: Float[np.ndarray, "d d d"],
    reference: Float[np.ndarray, "r r r"] | None,
    header: MrcHeader | None,
    resolution: Resolution,
) -> Any:
    if reference is None or header is None:
        return None
    return compare(
        full, reference, resolution, reference_pixel_size_angstrom=header.pixel_size_angstrom
    )


@dataclass(frozen=True, slots=True)
class LaneRange:
    """Every second particle of a range of rows: the even ones, or the odd."""

    half: int
    start: int
    stop: int

    @property
    def rows(self) -> np.ndarray:
        """Rows of the table."""
        return np.arange(self.start + (self.half - self.start) % HALVES, self.stop, HALVES)


def split_lanes(count: int, *, workers: int) -> list[LaneRange]:
    """Split particles into lanes, as many of each half as there are workers or more."""
    ranges = min(max(workers, -(-count // (HALVES * LANE_PARTICLES))), max(count // HALVES, 1))
    ends = np.linspace(0, count, ranges + 1).astype(int).tolist()
    return [
        LaneRange(half, start, stop)
        for start, stop in itertools.pairwise(ends)
        for half in range(HALVES)
    ]


@dataclass(frozen=True, slots=True)
class LaneMaker:
    """Makes what a task needs to sum a lane."""

    table: ParticleTable
    pixel_size_angstrom: float

    def __call__(self, lane: LaneRange) -> Lane:
        """Return the particles of a lane."""
        return Lane.of(
            self.table,
            lane.rows,
            correct_ctf=self.table.has_ctf,
            map_pixel_size_angstrom=self.pixel_size_angstrom,
        )

    def refuse(self, bad: Sequence[np.ndarray]) -> None:
        """Refuse unusable images, given by their rows.

        Raises:
            InputError: Naming them.
        """
        rows = np.sort(np.concatenate(bad))
        if len(rows):
            raise InputError(bad_images_message(self.table.column("index")[rows]))


def _sum_here(
    lanes: Sequence[LaneRange],
    make: LaneMaker,
    options: InsertionOptions,
    progress: Callable[[int, int], None] | None,
) -> tuple[SliceSums, SliceSums]:
    total, done = len(make.table), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    sums: dict[int, SliceSums] = {}
    bad = []
    for lane in lanes:
        made, unusable = sum_lane(make(lane), options, progress=count)
        bad.append(unusable)
        sums[lane.half] = sums[lane.half] + made if lane.half in sums else made
    make.refuse(bad)
    return sums[0], sums[1]


def _sum_on_cluster(
    lanes: Sequence[LaneRange],
    make: LaneMaker,
    options: InsertionOptions,
    allocation: Allocation,
    progress: Callable[[int, int], None] | None,
) -> tuple[SliceSums, SliceSums]:
    import ray

    counter: Any = ray.remote(Counter).options(num_cpus=0).remote()
    task: Any = ray.remote(_lane_task).options(num_cpus=allocation.cpus, num_returns=2)
    add: Any = ray.remote(_add).options(num_cpus=allocation.cpus)
    pending: dict[LaneRange, Any] = {}
    total = len(make.table)

    def submit(lane: LaneRange) -> Any:
        unusable, sums = task.remote(make(lane), options, counter, allocation.cpus)
        pending[lane] = sums
        return unusable

    def show() -> None:
        if progress:
            progress(min(ray.get(counter.total.remote()), total), total)

    bad = []
    waiting: dict[int, list[Any]] = {half: [] for half in range(HALVES)}
    for outcome in fan_out(submit, lanes, max_in_flight=allocation.num_workers, while_waiting=show):
        if outcome.error:
            if isinstance(outcome.error, RaydrgnError):
                raise outcome.error
            raise RuntimeError(f"a lane could not be summed: {outcome.error}") from outcome.error
        bad.append(outcome.value)
        # Sums of one half are added two by two as they come: a tree over what is there.
        sums = waiting[outcome.item.half]
        sums.append(pending.pop(outcome.item))
        if len(sums) > 1:
            sums.append(add.remote(sums.pop(0), sums.pop(0)))
        show()
    make.refuse(bad)
    return ray.get(_reduce(waiting[0], add)), ray.get(_reduce(waiting[1], add))


def _reduce(refs: list[Any], add: Any) -> Any:
    while len(refs) > 1:
        refs = [
            add.remote(*refs[i : i + 2]) if len(refs[i:]) > 1 else refs[i]
            for i in range(0, len(refs), 2)
        ]
    return refs[0]


def _lane_task(
    lane: Lane, options: InsertionOptions, counter: Any, threads: int
) -> tuple[np.ndarray, SliceSums]:
    torch.set_num_threads(threads)
    sums, bad = sum_lane(lane, options, progress=lambda count: counter.add.remote(count))
    return bad, sums


def _add(first: SliceSums, second: SliceSums) -> SliceSums:
    return first + second


def write_result(result: Result, request: Request) -> None:
    """Write maps, curves, figures and the verdict into the folder of the request."""
    from raydrgn.inputs import figures  # Matplotlib takes a second to load

    def place(name: str) -> Uri:
        return storage.join(request.out, name)

    pixel_size = result.resolution.pixel_size_angstrom
    for name, volume in zip(
        ("map.mrc", "half_map_a.mrc", "half_map_b.mrc", "mask.mrc"),
        (result.full, *result.halves, result.resolution.mask),
        strict=True,
    ):
        write_volume(place(name), volume, pixel_size_angstrom=pixel_size)
    result.resolution.write_csv(place("fsc.csv"))
    storage.write_bytes(place("verdict.txt"), result.verdict.text().encode())
    storage.write_bytes(place("fsc.png"), figures.draw_curves(result.resolution))
    storage.write_bytes(
        place("backproject.png"),
        figures.draw_maps(
            result.full, result.resolution, result.verdict, reference=result.reference
        ),
    )


def check_folder(request: Request, *, box: int) -> None:
    """Refuse an output folder without room for the maps.

    Raises:
        ConfigError: If the output is a file.
        StorageError: If there is no room.
    """
    if storage.exists(request.out) and not storage.is_folder(request.out):
        raise ConfigError(f"-o {request.out} is a file; name a folder.")
    storage.require_room(request.out, 4 * 4 * box**3 + 10_000_000, remedy="")
