"""Latents of other particles, by a network that has been trained, and how well each fits."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from raydrgn.data.ingest import bad_images_message, prepared_blocks
from raydrgn.data.shard import ResidentShard
from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.model.loss import kl_divergence, reconstruction_error
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.model.volume import decode_slices
from raydrgn.remote.progress import Progress
from raydrgn.run.config import RunConfig
from raydrgn.shapes import Float
from raydrgn.training.assembly import batch_plan, own_store
from raydrgn.training.step import SliceLattice, ctf_values, encoder_input

BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Latents and losses of particles."""

    mean: Float[np.ndarray, "n zdim"]
    logvar: Float[np.ndarray, "n zdim"]
    reconstruction: Float[np.ndarray, " n"]
    """Mean squared error of each image's coefficients, decoded at the latent's mean."""

    correlation: Float[np.ndarray, " n"]
    """Of each image's coefficients with those that its latent decodes to, from −1 to 1."""

    kl: Float[np.ndarray, " n"]
    """KL divergence of each latent from the prior, nats."""


def encode_particles(
    config: RunConfig,
    tensors: dict[str, torch.Tensor],
    table: ParticleTable,
    *,
    device: torch.device,
    progress: Progress,
) -> Encoded:
    """Encode particles, and compare each image with what its latent decodes to.

    Args:
        config: Of the run; images are prepared as its own were.
        tensors: Weights of the network.
        table: Particles with poses, in the run's box.
        device: Where it computes.
        progress: Called with how many are done.

    Raises:
        InputError: If an image cannot be used.
    """
    shard, count = _read_images(config, table, device, progress), len(table)
    lattice = SliceLattice.of_box(config.data.box, device=device)
    vae = HeterogeneousVAE(config.model, box=config.data.box, num_pixels=2 * lattice.num_points)
    vae.load_state_dict({name: tensors[name].float() for name in vae.state_dict()})
    vae.to(device).eval()
    parts, done = [], 0
    with torch.inference_mode():
        for batch in shard.batches(torch.arange(count).split(BATCH)):
            ctf = ctf_values(batch, lattice)
            mean, logvar = vae.encoder.encode(encoder_input(batch, ctf))
            values = decode_slices(vae.decoder, lattice.plane @ batch.rotations, mean)
            decoded = ctf[..., None] * values
            error = reconstruction_error(decoded, batch.coefficients)
            agreement = cosine_similarity(decoded.flatten(1), batch.coefficients.flatten(1))
            found = (mean, logvar, error, agreement, kl_divergence(mean, logvar))
            parts.append([part.cpu() for part in found])
            done += len(batch)
            progress("encoding", done, count, unit="particles")
    columns = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
    return Encoded(
        mean=columns[0],
        logvar=columns[1],
        reconstruction=columns[2],
        correlation=columns[3],
        kl=columns[4],
    )


def _read_images(
    config: RunConfig, table: ParticleTable, device: torch.device, progress: Progress
) -> ResidentShard:
    """Read and prepare all images.

    Raises:
        InputError: If one cannot be used.
    """
    blocks = prepared_blocks(table, config.data)
    reading = partial(progress, "reading particles", total=len(table), unit="particles")
    plan = batch_plan(config, len(table))
    store, bad = own_store(config, plan, device, blocks, run="", progress=reading)
    if len(bad):
        raise InputError(bad_images_message(table.select(bad)))
    return ResidentShard(
        table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=device
    )
