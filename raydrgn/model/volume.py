"""The decoder on a ball of Fourier points: real-space density of a latent."""

import torch
from torch import Tensor

from raydrgn.fourier.transforms import volumes_from_half
from raydrgn.geometry.lattice import half_ball
from raydrgn.model.decoder import Decoder
from raydrgn.shapes import Float

ROWS_PER_PASS = 1 << 15
"""Points × latents evaluated at once: about 32 MB per activation at width 256."""


@torch.inference_mode()
def decode_volumes(
    decoder: Decoder,
    z: Float[Tensor, "b zdim"],
    *,
    box: int,
    small_box: int | None = None,
    corners: bool = False,
) -> Float[Tensor, "b d d d"]:
    """Return the real-space volumes of latents, on the decoder's normalised scale.

    Half of the points are evaluated; the others are their Friedel mates.

    Args:
        decoder: Values at Fourier points.
        z: Latents, on the device where the decoder is.
        box: Box the decoder was trained at, in pixels.
        small_box: Smaller even box to decode at; frequencies beyond it are left out, pixels grow.
        corners: Also evaluate the cube's corners beyond Nyquist, which no image has trained.
    """
    out = small_box or box
    lattice = half_ball(out, radius=box if corners else None).to(z.device)
    parts = [
        decoder.values(chunk.to(torch.float32)[None] / box, z)
        for chunk in lattice.split(max(ROWS_PER_PASS // len(z), 1))
    ]
    return volumes_from_half(torch.cat(parts, dim=1), lattice, box=out)
