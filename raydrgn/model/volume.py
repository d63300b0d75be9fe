"""What a decoder gives without gradients: real-space density of a latent, and slices of it."""

from functools import lru_cache

import torch
from torch import Tensor

from raydrgn.fourier.transforms import volumes_from_half
from raydrgn.geometry.lattice import half_ball
from raydrgn.model.decoder import Decoder
from raydrgn.model.device import autocast
from raydrgn.shapes import Float, Int

ROWS_PER_PASS = 1 << 15
"""Points × latents evaluated at once: about 32 MB per activation at width 256."""


@lru_cache(maxsize=1)
def _lattice(box: int, radius: float | None, device: torch.device) -> Int[Tensor, "n 3"]:
    """Return the points of the half ball; the last ones are kept, for the volumes that follow."""
    return half_ball(box, radius=radius).to(device)


@torch.inference_mode()
def decode_volumes(
    decoder: Decoder,
    z: Float[Tensor, "b zdim"],
    *,
    box: int,
    small_box: int | None = None,
    corners: bool = False,
    amp_dtype: torch.dtype | None = None,
) -> Float[Tensor, "b d d d"]:
    """Return the real-space volumes of latents, on the decoder's normalised scale.

    Half of the points are evaluated; the others are their Friedel mates. Volumes with operands of
    half precision in which a value exceeds its range are decoded again in single precision.

    Args:
        decoder: Values at Fourier points.
        z: Latents, on the device where the decoder is.
        box: Box the decoder was trained at, in pixels.
        small_box: Smaller even box to decode at; frequencies beyond it are left out, pixels grow.
        corners: Also evaluate the cube's corners beyond Nyquist, which no image has trained.
        amp_dtype: Type of the operands of matrix products, if not single precision.
    """
    out = small_box or box
    lattice = _lattice(out, box if corners else None, z.device)
    chunks = lattice.split(max(ROWS_PER_PASS // len(z), 1))
    with autocast(z.device, amp_dtype):
        parts = [decoder.values(chunk.to(torch.float32)[None] / box, z) for chunk in chunks]
    values = torch.cat(parts, dim=1)
    if amp_dtype is not None and not torch.isfinite(values).all():
        return decode_volumes(decoder, z, box=box, small_box=small_box, corners=corners)
    volumes = torch.empty(len(z), out, out, out, device=z.device)
    for volume, of_volume in zip(volumes, values.split(1), strict=True):  # spectra take much memory
        volume.copy_(volumes_from_half(of_volume, lattice, box=out)[0])
    return volumes


@torch.inference_mode()
def decode_slices(
    decoder: Decoder, points: Float[Tensor, "b n 3"], z: Float[Tensor, "b zdim"]
) -> Float[Tensor, "b n 2"]:
    """Return (Re, Im) of each latent's volume at points of its own.

    Args:
        decoder: Values at Fourier points.
        points: In cycles per pixel, on the device where the decoder is.
        z: Latents.
    """
    parts = points.split(max(ROWS_PER_PASS // len(z), 1), dim=1)
    return torch.cat([decoder.values(part, z) for part in parts], dim=1)


def volume_type(device: torch.device) -> torch.dtype | None:
    """Return the type of the operands with which a device decodes, None for single precision.

    GPUs that multiply matrices of float16 do so. Its error is an eighth of that of bfloat16, with
    which the FSC to volumes of single precision fell below 0.9999 near Nyquist; and what it lacks
    in range, gradients need, not volumes. Sums of products are then in single precision.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        return torch.float16
    return None
