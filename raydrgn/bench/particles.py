"""What grows with the number of particles: their table, the plan of an epoch, latents, preparation.

Each part runs without Ray in a process of its own, whose largest memory is its cost; nearly half a
gigabyte of it is libraries.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from raydrgn.bench.own_process import in_own_process
from raydrgn.bench.prepare import made_up_stack, made_up_table, peak_megabytes
from raydrgn.bench.settings import ParticlesSettings
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import fill_store, prepared_blocks
from raydrgn.data.store import DiskStore
from raydrgn.geometry.lattice import half_disc
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.particles import ParticleTable
from raydrgn.run.directory import RunDirectory
from raydrgn.run.writer import RunWriter
from raydrgn.training.plan import BatchPlan

ZDIM = 8
BATCH_SIZE = 256
PER_STACK = 1000
"""Particles of one file of images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Cost of one part."""

    name: str
    particles: int
    seconds: float
    peak_megabytes: float


def run(settings: ParticlesSettings) -> list[Part]:
    """Measure each part on made-up particles, in a temporary folder."""
    many, images = settings.num_particles, settings.num_images
    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-", dir=settings.folder) as name:
        folder = Path(name)
        parts = [
            _alone("plan of an epoch, one worker of 64", _plan, many, 64),
            _alone("plan of an epoch, one worker", _plan, many, 1),
            _alone("table: write", _write_table, many, folder),
            _alone("table: read", _read_table, many, folder),
            _alone("latents: write", _write_latents, many, folder),
            _alone("latents: read", _read_latents, many, folder),
        ]
        made_up_stack(str(folder / "stack.mrcs"), settings.box, images).write(
            f"{folder}/images.parquet"
        )
        title = f"prepare images of {settings.box} px"
        parts += [_alone(title, _prepare, count, folder) for count in (max(images // 4, 1), images)]
    return parts


def _alone(name: str, work: Callable[..., float], count: int, *arguments: object) -> Part:
    """Run a part in a fresh process."""
    seconds, peak = in_own_process(_measured, work, count, *arguments)
    return Part(name=name, particles=count, seconds=seconds, peak_megabytes=peak)


def _measured(work: Callable[..., float], count: int, *arguments: object) -> tuple[float, float]:
    return work(count, *arguments), peak_megabytes()


def _plan(count: int, world: int) -> float:
    began = time.perf_counter()
    plan = BatchPlan(
        num_particles=count,
        batch_size=BATCH_SIZE,
        num_points=1,
        points_fraction=1.0,
        seed=0,
        world=world,
    )
    plan.batches(1)
    plan.noise(1, ZDIM)
    return time.perf_counter() - began


def _write_table(count: int, folder: Path) -> float:
    numbers = np.arange(count)
    names = [f"{folder}/stack_{number:06d}.mrcs" for number in range(-(-count // PER_STACK))]
    codes = pa.array((numbers // PER_STACK).astype(np.int32))
    stacks = pa.DictionaryArray.from_arrays(codes, pa.array(names))
    table = made_up_table(stacks, numbers % PER_STACK, box=128)
    began = time.perf_counter()
    table.write(f"{folder}/particles.parquet")
    return time.perf_counter() - began


def _read_table(count: int, folder: Path) -> float:
    began = time.perf_counter()
    ParticleTable.read(f"{folder}/particles.parquet")
    return time.perf_counter() - began


def _write_latents(count: int, folder: Path) -> float:
    means = np.random.default_rng(0).standard_normal((count, ZDIM), dtype=np.float32)
    writer = RunWriter(str(folder / "run"), num_particles=count)
    began = time.perf_counter()
    writer.save_latents(1, 0, means, means)
    return time.perf_counter() - began


def _read_latents(count: int, folder: Path) -> float:
    began = time.perf_counter()
    read_latents(RunDirectory(str(folder / "run")).latents(1))
    return time.perf_counter() - began


def _prepare(count: int, folder: Path) -> float:
    """Read and transform images into a store on the disk."""
    torch.set_num_threads(1)
    table = ParticleTable.read(f"{folder}/images.parquet").slice_rows(0, count)
    config = ImageConfig(box=table.single_box())
    store = DiskStore((count, len(half_disc(config.box)), 2), config.precision, folder)
    began = time.perf_counter()
    fill_store(store, prepared_blocks(table, config))
    return time.perf_counter() - began
