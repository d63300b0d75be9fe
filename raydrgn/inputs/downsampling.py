"""Particle stacks and maps in a smaller box, by Fourier cropping.

Each range of rows is read, cropped and written by one task; a task holds one block of images,
whatever the number of particles. The sum of pixels is kept, so intensities grow by
(old box / new box)². Of images of several boxes the middle is taken first; then those of the
largest middle keep their sum, and others are scaled so that noise of one SD per pixel before, as
RELION normalises it, has one power in Fourier space afterwards.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch

from raydrgn.data.ingest import bad_images_message
from raydrgn.data.preprocess import find_bad
from raydrgn.data.source import block_ends
from raydrgn.errors import ConfigError, InputError, RaydrgnError, StorageError, reworded
from raydrgn.fourier.resample import resample
from raydrgn.inputs.common_field import log_taken, middle, taken_boxes
from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.inputs.stacks import StackPart, StackPlan, StackSet
from raydrgn.io import storage
from raydrgn.io.imaging import ORIGINAL_BOX
from raydrgn.io.micrographs import micrograph_cells
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.io.mrc_stacks import StackWriter, write_slices
from raydrgn.io.originals import original_of
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import FRAME, with_frame
from raydrgn.io.relionrows import with_smaller_images
from raydrgn.io.relionwriter import names_for, write_relion
from raydrgn.io.selection import original_star
from raydrgn.io.storage import Uri
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)


def plan_stacks(
    table: ParticleTable, taken: Int[np.ndarray, " n"], options: DownsamplingOptions
) -> list[StackPlan]:
    """Return the stacks to write.

    Args:
        table: Particles.
        taken: Edge of the middle of each image that is taken, pixels.
        options: What is to be made.

    Raises:
        ConfigError: If the box would grow, or a stack is one of those that are read.
    """
    smallest, count = int(taken.min()), len(table)
    if options.box > smallest:
        have = "have" if (taken == table.column("box")).all() else "share a field of view of"
        raise ConfigError(
            f"-D {options.box} is larger than the images, which {have} {smallest} px."
        )
    base, chunk = _without_suffix(options.out), options.chunk or count
    starts = range(0, count, chunk)
    names = [f"{base}.{i}.mrcs" if options.chunk else f"{base}.mrcs" for i in range(len(starts))]
    names = [storage.plain_output(name) for name in names]
    storage.plain_output(options.out)  # the table, which is written last
    for name in (*names, storage.absolute(options.out)):
        storage.refuse_to_replace(name, [*table.stacks, table.metadata.get("source", "")])
    sizes = new_pixel_size(table, taken, box=options.box)
    return [
        StackPlan(
            number=i,
            uri=name,
            start=start,
            stop=min(start + chunk, count),
            box=options.box,
            pixel_size_angstrom=0.0 if sizes is None else float(sizes[start]),
            precision="float16" if options.float16 else "float32",
        )
        for i, (name, start) in enumerate(zip(names, starts, strict=True))
    ]


def _without_suffix(out: Uri) -> Uri:
    return storage.absolute(out).removesuffix(PurePosixPath(out).suffix)


def new_pixel_size(
    table: ParticleTable, taken: Int[np.ndarray, " n"], *, box: int
) -> Float[np.ndarray, " n"] | None:
    """Return the pixel size of each particle in another box, or None if it is not known."""
    if "pixel_size_angstrom" not in table.table.column_names:
        return None
    old = table.column("pixel_size_angstrom").astype(np.float64)
    return old * taken / box


def downsample_volume(uri: Uri, out: Uri, *, box: int) -> float:
    """Write a map in a smaller box; return its pixel size in Å, or 0 where its header has none.

    Raises:
        ConfigError: If the box would grow.
    """
    volume, header = read_volume(uri)
    old = volume.shape[-1]
    if box > old:
        raise ConfigError(f"-D {box} is larger than the map, which has {old} px.")
    pixel_size = header.pixel_size_angstrom * old / box
    small = resample(torch.from_numpy(volume), box=box, ndim=3).numpy()
    write_volume(out, small, pixel_size_angstrom=pixel_size, origin_angstrom=header.origin_angstrom)
    return pixel_size


def write_part(part: StackPart) -> Int[np.ndarray, " bad"]:
    """Read, crop and write one range of rows; return the rows whose images cannot be used.

    Raises:
        InputError: If a value does not fit into half precision.
    """
    stack, bad = part.stack, [np.empty(0, dtype=np.int64)]
    if storage.is_local(stack.uri):
        # Reading and writing wait, so blocks overlap; each is transformed by one core.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool, _single_threaded():
            bad += pool.map(partial(_write_block, part), _blocks(part))
        storage.sync(str(stack.unfinished))
        return np.concatenate(bad)
    with StackWriter.open(
        stack.uri,
        stack.stop - stack.start,
        box=stack.box,
        pixel_size_angstrom=stack.pixel_size_angstrom,
        precision=stack.precision,
    ) as writer:
        for start, stop in _blocks(part):
            images, unusable = _small_block(part, start, stop)
            writer.append(images)
            bad.append(unusable)
    return np.concatenate(bad)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let transforms use one core each, for as long as several run at a time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _blocks(part: StackPart) -> list[tuple[int, int]]:
    return block_ends(part.start, part.stop, box=part.source.headers[0].shape[2])


def _write_block(part: StackPart, ends: tuple[int, int]) -> Int[np.ndarray, " bad"]:
    images, unusable = _small_block(part, *ends)
    write_slices(part.stack.unfinished, images, start=ends[0] - part.stack.start)
    return unusable


def _small_block(
    part: StackPart, start: int, stop: int
) -> tuple[np.ndarray, Int[np.ndarray, " bad"]]:
    """Return the images of some rows in their new box and type, and the rows of unusable ones."""
    rows = slice(start - part.start, stop - part.start)
    source, taken = part.source.part(rows.start, rows.stop), part.taken[rows]
    boxes = np.array([header.shape[2] for header in source.headers])[source.codes]
    bad = np.zeros(len(taken), dtype=bool)
    small = np.empty((len(taken), part.stack.box, part.stack.box), dtype=np.float32)
    for box, edge in np.unique(np.stack([boxes, taken], axis=1), axis=0).tolist():
        alike = np.flatnonzero((boxes == box) & (taken == edge))
        images = source.read(alike)
        bad[alike] = find_bad(images)
        shown = torch.from_numpy(middle(images, edge))
        small[alike] = resample(shown, box=part.stack.box, ndim=2).numpy()
    small *= part.scale[rows, None, None]
    if part.stack.precision == "float16":
        largest = np.abs(small[~bad]).max(initial=0)
        if largest > np.finfo(np.float16).max:
            raise InputError(
                f"Intensities up to {largest:.3g} do not fit into half precision (65504 at most), "
                f"particles {start} to {stop - 1}; leave out --float16."
            )
        with np.errstate(invalid="ignore", over="ignore"):
            small = small.astype(np.float16)
    return small, start + np.flatnonzero(bad)


def downsample(
    table: ParticleTable,
    options: DownsamplingOptions,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ParticleTable:
    """Write the particles of a table in a smaller box, and a file that lists them.

    What an interrupted run with the same options has finished is kept.

    Returns:
        The new particles; ``index`` still counts the rows of the original set.

    Raises:
        InputError: If images are not usable, named by their number, or an output is in the way.
        StorageError: If there is no room, or a part could not be written.
    """
    taken = taken_boxes(table)
    stacks = plan_stacks(table, taken, options)
    original = None
    if PurePosixPath(options.out).suffix == ".star":
        original = original_of(table, ".star")
    if original is not None:
        original_star(table, original)  # refuses what it would after the work
    log_taken(table, taken)
    work = StackSet(table, taken, stacks, f"{storage.absolute(options.out)}.downsample.json")
    work.begin(overwrite=options.overwrite)
    done = work.rows_done
    if done:
        log.info("%s particles are finished already", f"{done:,} of {len(table):,}")
    bad, failures = [np.empty(0, dtype=np.int64)], []
    size = 4 * int((table.column("box").astype(np.int64) ** 2).sum())
    for outcome in executor.map(write_part, work.parts_to_do(), input_bytes=size):
        if outcome.error:
            failures.append(outcome.error)
        elif len(outcome.value):
            bad.append(outcome.value)
        else:
            work.finish(outcome.item)
        done += outcome.item.stop - outcome.item.start
        progress("downsampling", done, len(table), unit="particles")
    _refuse(table, np.sort(np.concatenate(bad)), failures)
    work.finish_stacks()
    small = _new_table(table, taken, stacks)
    _write_listing(small, table, options, stacks)
    return small


def _refuse(table: ParticleTable, bad: Int[np.ndarray, " bad"], failures: list[Exception]) -> None:
    permanent = next((failure for failure in failures if isinstance(failure, InputError)), None)
    if permanent is not None:
        raise permanent
    if failures:
        first = failures[0]
        text = (
            f"{len(failures)} parts could not be made, the first because: {first} What was "
            "finished stays; run the same command again."
        )
        raise reworded(
            first if isinstance(first, RaydrgnError) else StorageError(), text
        ) from first
    if len(bad):
        raise InputError(bad_images_message(table.select(bad)))


def _new_table(
    table: ParticleTable, taken: Int[np.ndarray, " n"], stacks: list[StackPlan]
) -> ParticleTable:
    counts = [stack.stop - stack.start for stack in stacks]
    codes = np.repeat(np.arange(len(stacks)), counts)
    columns: dict[str, Any] = {
        "stack": np.array([stack.uri for stack in stacks], dtype=object)[codes],
        "slice": np.concatenate([np.arange(count) for count in counts]),
        "box": np.full(len(table), stacks[0].box),
    }
    sizes = new_pixel_size(table, taken, box=stacks[0].box)
    if sizes is not None:
        columns["pixel_size_angstrom"] = sizes
    small, boxes = table.with_columns(columns), table.column("box")
    original = table.metadata.get(ORIGINAL_BOX)
    if original is None and (boxes == boxes[0]).all():
        original = str(boxes[0])
    small = small.with_metadata(ORIGINAL_BOX, original)
    if (taken != boxes).any():
        small = with_frame(small.with_metadata(FRAME, None))
    return small


def _write_listing(
    small: ParticleTable,
    table: ParticleTable,
    options: DownsamplingOptions,
    stacks: list[StackPlan],
) -> None:
    suffix = PurePosixPath(options.out).suffix
    if suffix == ".star":
        _write_star(small, table, storage.absolute(options.out))
    elif suffix == ".parquet":
        small.write(options.out)
    elif suffix == ".txt" or options.chunk:
        listed = "".join(f"{PurePosixPath(stack.uri).name}\n" for stack in stacks)
        storage.write_bytes(f"{_without_suffix(options.out)}.txt", listed.encode())


def _write_star(small: ParticleTable, table: ParticleTable, out: Uri) -> None:
    """Write the rows of the original STAR file where there is one; else RELION 3.1 anew."""
    original = original_of(table, ".star")
    if original is None:
        write_relion(out, small, more=micrograph_cells(table, out))
        return
    star, rows = original_star(table, original)
    box = small.single_box()
    taken = rows.column("box")
    if "pixel_size_angstrom" in rows.table.column_names:
        old, new = (one.column("pixel_size_angstrom").astype(float) for one in (rows, small))
        taken = np.rint(box * new / old).astype(np.int64)
    star = with_smaller_images(star, names=names_for(out, small), taken=taken, box=box, table=rows)
    star.write(out)
