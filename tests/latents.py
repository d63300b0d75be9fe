"""Makers for tests of the analysis: untrained decoders, latents with known structure."""

import numpy as np
import torch

from plain import SMALL, fit, small_run
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.config import ModelConfig
from raydrgn.model.decoder import build_decoder
from raydrgn.run.directory import RunDirectory
from raydrgn.run.weights import DecoderState
from raydrgn.training.prepare_run import RunRequest, begin


def decoder_state(*, box=12, zdim=2, width=16, seed=0):
    """Return an untrained decoder, as it is shipped."""
    model = ModelConfig(
        zdim=zdim, decoder_width=width, decoder_layers=1, encoder_width=8, encoder_layers=1
    )
    torch.manual_seed(seed)
    decoder = build_decoder(model, box)
    return DecoderState(
        model=model,
        box=box,
        pixel_size_angstrom=3.0,
        scale=2.0,
        offset=0.0,
        corners=False,
        tensors=dict(decoder.state_dict()),
    )


def blobs(centres, *, size=100, spread=0.05, seed=0):
    """Return latents about centres, and the centre of each."""
    centres = np.asarray(centres, dtype=np.float64)
    labels = np.repeat(np.arange(len(centres)), size)
    noise = np.random.default_rng(seed).normal(size=(len(labels), centres.shape[1]))
    return (centres[labels] + spread * noise).astype(np.float32), labels


def finished_run(folder, *, epochs=2, ind=None, zdim=2):
    """Train a small run without Ray, and write beside it what the command would; return it."""
    root = folder / "run"
    run = small_run(folder, root, **{"train.epochs": epochs, "model.zdim": zdim})
    if ind is not None:
        source = ParticleSource(particles=str(folder / "particles.star"), ind=ind)
        values = {**SMALL, "train.epochs": epochs, "model.zdim": zdim}
        run = begin(RunRequest(root=str(root), source=source, values=values))
    fit(run)
    files = RunDirectory(str(root))
    storage.write_bytes(files.config, run.config.to_yaml().encode())
    run.table.write(files.particles)
    return root
