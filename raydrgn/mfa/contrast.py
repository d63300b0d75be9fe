"""Contrast and latent, which are independent by the model, by the sums of a pass."""

import math

from torch import Tensor

from raydrgn.mfa.sums import Sums
from raydrgn.shapes import Float

LEAST_CONTRAST_SD = 0.02
SHARE = 0.5
"""Of the slope that is given to the components at a time. With all of it, on top of steps that are
long by themselves, latents swing, and rounding errors double with every pass."""


def contrast_slope(sums: Sums) -> Float[Tensor, " k"]:
    """Return c/2 of the contrast as it goes with the latent, a ≈ ā·(1 + cᵀ(z − z̄)).

    Both are independent by the model. What the mean alone has explained of the contrasts, before
    there were components, is that of the composition too: less density is less contrast.
    """
    by_latent = sums.inverse_covariance() @ contrast_covariance(sums)
    return SHARE * by_latent / contrast_mean(sums)


def contrast_covariance(sums: Sums) -> Float[Tensor, " k"]:
    """Return the covariance of contrast and latent."""
    likely = sums.total("likely")
    return (sums.contrast_latent - contrast_mean(sums) * sums.latent) / likely


def contrast_mean(sums: Sums) -> float:
    """Return the mean contrast of a pass, by which contrasts are divided after it."""
    return sums.total("contrast") / sums.total("likely")


def contrast_sd(sums: Sums) -> float:
    """Return the SD of the contrasts over their mean, without what the components are given."""
    mean, square = contrast_mean(sums), sums.total("square_contrast") / sums.total("likely")
    by_latent = (2 - SHARE) * float(contrast_slope(sums) @ contrast_covariance(sums)) / mean
    return max(math.sqrt(max(square / mean**2 - 1 - by_latent, 0)), LEAST_CONTRAST_SD)
