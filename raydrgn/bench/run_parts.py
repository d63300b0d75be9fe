"""What a run costs beside its steps: preparing particles, checkpoints, latents.

All of it in one process on one core, as a worker does it for its share.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from raydrgn.bench.prepare import made_up_stack
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import fill_store, prepared_blocks
from raydrgn.data.store import MemoryStore
from raydrgn.geometry.lattice import half_disc
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position
from raydrgn.run.writer import RunWriter

ROUNDS = 3
ENCODE_BATCH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class PartCosts:
    """Costs of the parts of a run; medians over rounds."""

    prepared_per_s: float
    """Particles read from a stack and transformed, per second and core."""

    prepared_bytes: int
    """Of one prepared particle."""

    encoded_per_s: float
    """Latents of an epoch, per second and core."""

    gradient_bytes: int
    """What workers exchange in each step: one number for each parameter."""

    checkpoint_bytes: int
    checkpoint_s: float
    """Copying network and optimiser, for which a worker's steps wait."""

    write_s: float
    """Writing a checkpoint to the disk with its checksum, beside the steps."""

    latents_s: float
    """Writing the latents of a million particles."""


def measure_parts(model: ModelConfig, *, box: int, num_particles: int) -> PartCosts:
    """Measure on a made-up stack and an untrained network, in a temporary folder.

    Args:
        model: Network.
        box: Edge of the images in pixels.
        num_particles: Images of the stack.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as folder:
            return _measure(model, box, num_particles, Path(folder))
    finally:
        torch.set_num_threads(threads)


def _measure(model: ModelConfig, box: int, num_particles: int, folder: Path) -> PartCosts:
    num_points = len(half_disc(box))
    vae = HeterogeneousVAE(model, box=box, num_pixels=2 * num_points)
    optimiser = torch.optim.Adam(vae.parameters(), fused=True)
    for parameter in vae.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # its moments belong to a checkpoint

    table = made_up_stack(str(folder / "stack.mrcs"), box, num_particles)
    config = ImageConfig(box=box)
    shape, memory = (num_particles, num_points, 2), torch.device("cpu")
    store = MemoryStore(shape, config.precision, memory)
    prepared = _seconds(lambda: fill_store(store, prepared_blocks(table, config)))

    checkpoint = Checkpoint(
        position=Position(2, 0),
        model=vae.state_dict(),
        optimiser=optimiser.state_dict(),
        sums=[0.0, 0.0, 0.0],
    )
    content = checkpoint.to_bytes()
    million = np.zeros((1_000_000, model.zdim), dtype=np.float32)
    writer = RunWriter(str(folder / "run"), num_particles=len(million))
    return PartCosts(
        prepared_per_s=num_particles / prepared,
        prepared_bytes=int(np.prod(shape[1:])) * np.dtype(config.precision).itemsize,
        encoded_per_s=ENCODE_BATCH / _seconds(_encoding(vae, num_points)),
        gradient_bytes=sum(p.numel() * p.element_size() for p in vae.parameters()),
        checkpoint_bytes=len(content),
        checkpoint_s=_seconds(checkpoint.to_bytes),
        write_s=_seconds(lambda: writer.save_checkpoint(content, checkpoint.position)),
        latents_s=_seconds(lambda: writer.save_latents(1, 0, million, million)),
    )


def _encoding(vae: HeterogeneousVAE, num_points: int) -> Callable[[], object]:
    images = torch.randn(ENCODE_BATCH, 2 * num_points)

    def encode() -> Any:
        with torch.inference_mode():
            return vae.encoder.encode(images)

    encode()
    return encode


def _seconds(work: Callable[[], object]) -> float:
    """Return how long something takes; the median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return median(found)
