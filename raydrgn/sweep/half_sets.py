"""Agreement of two trainings on half of the particles each, about particles that neither has seen.

Both networks encode and decode the same held-out images. Of each volume the mean of the network's
volumes is taken off, since what all particles have in common agrees whatever the latents are, and
what is left is compared by Fourier shell correlation within a mask.
"""

import numpy as np
import torch

from raydrgn.fourier.resample import resample
from raydrgn.fourier.shells import shell_correlation
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.model.volume import decode_volumes
from raydrgn.shapes import Float
from raydrgn.sweep.held_out import BATCH, HeldOutImages
from raydrgn.training.step import ctf_values, encoder_input

MOST_VOLUMES = 100
"""Held-out particles whose volumes are compared; of more, this number is taken evenly."""

LARGEST_BOX = 64
DECODED_AT_ONCE = 8

NO_DIFFERENCE = 1e-8
"""Share of the power of volumes below which their differences are rounding errors."""


def agreement(
    networks: tuple[HeterogeneousVAE, HeterogeneousVAE],
    images: HeldOutImages,
    mask: Float[np.ndarray, "d d d"],
) -> Float[np.ndarray, " k"]:
    """Return the mean FSC over shells of each particle's two differences from the mean volume.

    Negative correlations count as 0. Entry 1 of a curve is left out: it is the zero frequency
    alone, where a correlation is 1 or −1.
    """
    box = min(mask.shape[-1], LARGEST_BOX)
    soft = resample(torch.from_numpy(mask), box=box, ndim=3) * (mask.shape[-1] / box) ** -3
    first, second = (_differences(network, images, soft) for network in networks)
    return shell_correlation(first, second).clamp(min=0)[:, 2:].mean(-1).numpy()


@torch.inference_mode()
def _differences(
    vae: HeterogeneousVAE, images: HeldOutImages, mask: Float[torch.Tensor, "d d d"]
) -> Float[torch.Tensor, "k d d d"]:
    count = len(images)
    kept = np.linspace(0, count - 1, min(count, MOST_VOLUMES)).astype(np.int64)
    latents = []
    for rows in torch.from_numpy(kept).split(BATCH):
        batch = images.shard.batch(rows)
        mean, _ = vae.encoder.encode(encoder_input(batch, ctf_values(batch, images.lattice)))
        latents.append(mean)
    volumes = torch.cat(
        [
            decode_volumes(vae.decoder, z, box=images.box, small_box=mask.shape[-1])
            for z in torch.cat(latents).split(DECODED_AT_ONCE)
        ]
    )
    differences = volumes - volumes.mean(0)
    if differences.square().mean() < NO_DIFFERENCE * volumes.square().mean():
        return torch.zeros_like(volumes)  # of a network whose volumes are all the same
    return differences * mask
