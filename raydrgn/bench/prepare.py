"""Downsampling and back-projection beside what disk and Fourier transforms alone give here.

Limits and work are measured in one process, in turn, so that ratios hold on a machine whose speed
drifts. The limit of the disk is reading the stack and writing the small one, that of the transforms
is one forward and one backward transform per image, by the same library on the same cores.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import torch

from raydrgn.bench.settings import PreparationSettings
from raydrgn.data.source import block_ends
from raydrgn.geometry.rotations import random_rotations
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.insertion import Partition, insert_partition
from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_slices
from raydrgn.io.mrc_stacks import StackWriter, reserve_stack, write_slices
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.remote.resources import cores_here
from raydrgn.shapes import Int
from raydrgn.wording import counted

ROUNDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparationRates:
    """Images per second of the work and of its limits; medians over rounds."""

    title: str
    """What was timed."""

    old_megabytes: float
    """Size of an image in the large box."""

    small_megabytes: float
    downsample: float
    disk: float
    transforms: float
    share: float
    """Of the slower limit, median of the rounds' ratios."""

    backproject: float
    growth_megabytes: float
    """Growth of the process's largest memory from a stack to one four times as long."""

    memory_megabytes: float
    """Largest memory of the process, libraries included."""


def run(settings: PreparationSettings) -> PreparationRates:
    """Write a stack of noise, and time downsampling and back-projection of it."""
    box, small, num_particles = settings.box, settings.small, settings.num_particles
    threads = settings.threads or cores_here()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-", dir=settings.folder) as where:
        table = made_up_stack(f"{where}/large.mrcs", box, num_particles)
        quarter = table.slice_rows(0, max(num_particles // 4, 1))
        _downsampled(quarter, where, small)
        before = peak_megabytes()
        _downsampled(table, where, small)
        growth = peak_megabytes() - before
        work, disk, transforms = [], [], []
        for _ in range(ROUNDS):
            disk.append(num_particles / timed(lambda: _copy(table, where, small)))
            transforms.append(_transform_rate(box, small))
            work.append(num_particles / timed(lambda: _downsampled(table, where, small)))
        tiny = _downsampled(table, where, small)
        partition = Partition.of(
            tiny,
            np.arange(0, len(tiny), 2),
            map_pixel_size_angstrom=float(tiny.column("pixel_size_angstrom")[0]),
        )
        seconds = timed(lambda: insert_partition(partition, invert=True))
    return PreparationRates(
        title=f"preparing {num_particles:,} images, {box} → {small} px, "
        f"{counted(threads, 'thread')}",
        old_megabytes=4e-6 * box**2,
        small_megabytes=4e-6 * small**2,
        downsample=median(work),
        disk=median(disk),
        transforms=median(transforms),
        share=median(w / min(d, t) for w, d, t in zip(work, disk, transforms, strict=True)),
        backproject=len(partition.rows) / seconds,
        growth_megabytes=growth,
        memory_megabytes=peak_megabytes(),
    )


def made_up_stack(uri: Uri, box: int, count: int) -> ParticleTable:
    """Write a stack of noise; return particles with random poses and optics."""
    generator = np.random.default_rng(0)
    with StackWriter.open(uri, count, box=box, pixel_size_angstrom=1.0) as writer:
        for start, stop in block_ends(0, count, box=box):
            writer.append(generator.standard_normal((stop - start, box, box), dtype=np.float32))
    return made_up_table([uri] * count, np.arange(count), box=box)


def made_up_table(
    stacks: Sequence[str] | pa.Array, slices: Int[np.ndarray, " n"], *, box: int
) -> ParticleTable:
    """Return particles with random poses and optics, given where their images are."""
    generator, count = np.random.default_rng(0), len(slices)
    ctf = dict(zip(CTF_COLUMNS, (15_000, 14_500, 30, 300, 2.7, 0.1, 0), strict=True))
    return ParticleTable.from_columns(
        {
            "index": np.arange(count),
            "stack": stacks,
            "slice": slices,
            "box": np.full(count, box),
            "rotation": random_rotations(count, generator=generator).reshape(count, 9),
            "shift_angstrom": generator.uniform(-3, 3, (count, 2)),
            "pixel_size_angstrom": np.ones(count),
            **{name: np.full(count, value) for name, value in ctf.items()},
        }
    )


def _downsampled(table: ParticleTable, folder: str, small: int) -> ParticleTable:
    for old in Path(folder).glob("small.mrcs*"):
        old.unlink()
    return downsample(table, DownsamplingOptions(out=f"{folder}/small.mrcs", box=small))


def _copy(table: ParticleTable, folder: str, small: int) -> None:
    """Read the stack and write one of the small size, as downsampling does, and compute nothing."""
    header = read_header(table.stacks[0])
    out, count = Path(folder) / "copy.mrcs", len(table)
    reserve_stack(out, count, box=small, pixel_size_angstrom=1.0, precision="float32")
    for start, stop in block_ends(0, count, box=header.shape[1]):
        images = read_slices(header, start, stop - start)
        cut = images.reshape(len(images), -1)[:, : small**2].reshape(-1, small, small)
        write_slices(out, cut, start=start)
    storage.sync(str(out))
    out.unlink()


def _transform_rate(box: int, small: int) -> float:
    images = torch.randn(len(range(*block_ends(0, 1 << 20, box=box)[0])), box, box)
    spectrum = torch.fft.rfft2(torch.randn(len(images), small, small))

    def both() -> None:
        for _ in range(4):
            torch.fft.rfft2(images)
            torch.fft.irfft2(spectrum)

    both()
    return 4 * len(images) / timed(both)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_megabytes() -> float:
    """Return the largest memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
