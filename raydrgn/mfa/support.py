"""The mask of a fit: where in the box there may be density."""

import logging
import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from raydrgn.errors import InputError
from raydrgn.fourier.density import CLEAR_SKEWNESS, skewness
from raydrgn.io.masks import INSIDE, SAME_PIXEL_SIZE, Mask, read_soft_mask
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

LEVEL = 0.05
"""Density that counts, over the largest of the smoothed mean."""

SMOOTHING, DILATION, EDGE = 0.04, 0.08, 0.06
"""SD of the smoothing, reach and soft edge of the mask, over the box."""

MOST_LEFT_OUT = 0.9
"""Share of the mean's density outside of a given mask, above which it cannot be used."""

FAINT = 0.02
"""Where a mask is less, it lets nothing through."""

EDGE_PX = 2.0
"""Soft edge of the ball."""


def ball(box: int, *, device: torch.device) -> Float[Tensor, "d d d"]:
    """Return the largest ball in the box, with a soft edge."""
    ticks = torch.arange(-(box // 2), box // 2, device=device).float()
    square = ticks**2
    radius = (square[:, None, None] + square[None, :, None] + square[None, None, :]).sqrt()
    return ((box / 2 - radius) / EDGE_PX).clamp(0, 1)


def support_of_mean(mean: Float[Tensor, "d d d"]) -> Float[Tensor, "d d d"]:
    """Return a mask of the largest connected density of the mean, grown and with a soft edge.

    Where the density is clearly negative, as of images of the other sign, the mask is of that.
    """
    box = mean.shape[-1]
    volume = ndimage.gaussian_filter(mean.cpu().numpy(), SMOOTHING * box)
    ticks = np.arange(-(box // 2), box // 2)
    radius = np.sqrt(
        ticks[:, None, None] ** 2 + ticks[None, :, None] ** 2 + ticks[None, None, :] ** 2
    )
    if skewness(volume[radius < 0.5 * box]) < -CLEAR_SKEWNESS:
        volume = -volume
    noise = volume[(radius > 0.4 * box) & (radius < 0.48 * box)].std()
    inside = (volume > max(LEVEL * volume.max(), 2 * noise)) & (radius < 0.45 * box)
    labels, count = ndimage.label(inside)
    if not count:
        log.warning(
            "the mean has no density above its noise, so the mask is the whole ball: check the "
            "poses, and the sign of the images (--uninvert-data)"
        )
        return ball(box, device=mean.device)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    distance = ndimage.distance_transform_edt(~largest)
    mask = np.clip(1 - (distance - DILATION * box) / (EDGE * box), 0, 1).astype(np.float32)
    return torch.from_numpy(mask).to(mean.device) * ball(box, device=mean.device)


def share_outside(mean: Float[Tensor, "d d d"], support: Float[Tensor, "d d d"]) -> float:
    """Return the share of the mean's largest connected density that is outside of a mask.

    It is 0 where the mean has no density above its noise.

    Raises:
        InputError: If next to nothing is inside.
    """
    found = support_of_mean(mean)
    if torch.equal(found, ball(len(mean), device=mean.device)):
        return 0.0
    density = mean * found
    density = (density if density.sum() > 0 else -density).clamp(min=0)
    share = float((density * (1 - support)).sum() / density.sum().clamp(min=1e-12))
    if share > MOST_LEFT_OUT:
        raise InputError(
            f"The mask leaves out {100 * share:.0f} % of the density of the mean, so that there "
            "is nothing to fit. Check where it lies, and with `raydrgn backproject` that the mean "
            "shows the particle; `raydrgn train --mask auto` finds a mask."
        )
    return share


def read_support(
    uri: Uri, *, box: int, device: torch.device, pixel_size_angstrom: float = 0
) -> Float[Tensor, "d d d"]:
    """Return the mask in a map, less what is outside the ball.

    Args:
        uri: The map.
        box: Edge of the images, pixels.
        device: Of the mask that is returned.
        pixel_size_angstrom: Of the images; 0 takes a mask of any.

    Raises:
        InputError: If it is no mask of that box and pixel size, or leaves out the whole ball.
    """
    mask, values = read_soft_mask(uri)
    remedy = _to_box(mask, box, pixel_size_angstrom)
    mask.check_grid(box, pixel_size_angstrom, what="Each image", remedy=remedy)
    inside_ball = ball(box, device=device)
    support = torch.from_numpy(values).to(device) * inside_ball
    middle = slice(3 * box // 8, box - 3 * box // 8)
    corners = values[(inside_ball < INSIDE).cpu().numpy()]
    if corners.mean() > INSIDE > values[middle, middle, middle].mean():
        log.warning(
            "The mask %s covers the corners of the box and not its centre: it looks inverted. If "
            "the particle is in the centre, give 1 − mask, or `raydrgn train --mask auto`.",
            uri,
        )
    if support.max() < INSIDE:
        raise InputError(
            f"The mask {uri} is 0 within {box // 2} px of the centre of the box, so that no "
            "density would be left. Check where it lies; `raydrgn train --mask auto` finds one."
        )
    return support


def _to_box(mask: Mask, box: int, pixel_size_angstrom: float) -> str:
    """Return how a mask of another box, or its map, comes to that of the images.

    A mask itself is not downsampled: its values would be neither 0 nor 1 any more.
    """
    sizes = (pixel_size_angstrom, mask.pixel_size_angstrom)
    if mask.box != box and all(sizes) and math.isclose(*sizes, rel_tol=SAME_PIXEL_SIZE):
        return f"Crop or pad it to {box} px. "
    extents = (box * sizes[0], mask.box * sizes[1])
    if mask.box > box and (not all(sizes) or math.isclose(*extents, rel_tol=SAME_PIXEL_SIZE)):
        command = f"raydrgn downsample MAP --is-volume -D {box} -o SMALL.mrc"
        return f"`{command}` brings the map that it was made of to that box. "
    return ""


def cut_off(power: Float[Tensor, "d d d"], support: Float[Tensor, "d d d"]) -> float:
    """Return the mobile density outside of a mask, as a share of that inside.

    In most of the box there is noise alone, which is subtracted from both. Its squares are far from
    symmetric about their median: outside of a small mask the difference would add up to more than
    there is inside. So they are smoothed outside first, where their median is that of the noise.

    Args:
        power: Sum of squares of the components as they would be without the mask.
        support: The mask.
    """
    inside = (support >= FAINT).cpu().numpy()
    outside = (ball(len(support), device=torch.device("cpu")) > INSIDE).numpy() & ~inside
    if not outside.any():
        return 0.0
    values, sigma = power.cpu().numpy(), SMOOTHING * len(support)
    near = ndimage.gaussian_filter(outside.astype(np.float32), sigma)[outside]
    smooth = ndimage.gaussian_filter(np.where(outside, values, 0), sigma)[outside] / near
    noise = np.median(smooth)
    kept = (values[inside] - noise).sum(dtype=np.float64)
    return float((smooth - noise).sum(dtype=np.float64) / kept) if kept > 0 else 0.0
