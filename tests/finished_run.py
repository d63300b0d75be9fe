"""A finished run with random weights, for tests that only read runs."""

from pathlib import Path

import numpy as np
import torch

from phantoms import table_of
from raydrgn.data.config import ImageConfig
from raydrgn.io.cryodrgn import write_latents
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.reader import RunReader, open_run

MODEL = ModelConfig(zdim=2, encoder_width=8, decoder_width=8)


def make_run(
    folder: Path, latents: np.ndarray, *, box=8, pixel_size=2.0, table=None, source=None
) -> RunReader:
    """Write a run of one epoch with these latents."""
    run = RunDirectory(str(folder))
    folder.mkdir(parents=True)
    config = RunConfig(
        source=source or ParticleSource(particles="/data/p.star"),
        data=ImageConfig(box=box, scale=2.5),
        pixel_size_angstrom=pixel_size,
        model=MODEL,
    )
    (folder / "config.yaml").write_text(config.to_yaml())
    if table is None:
        table = table_of(len(latents), box=box, pixel_size=pixel_size)
    table.write(run.particles)
    torch.manual_seed(0)
    vae = HeterogeneousVAE(MODEL, box=box, num_pixels=20)
    torch.save({"epoch": 1, "model_state_dict": vae.state_dict()}, run.weights(1))
    latents = latents.astype(np.float32)
    write_latents(run.latents(1), latents, np.zeros_like(latents))
    return open_run(run.root)
