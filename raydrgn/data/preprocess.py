"""Images to prepared particles: all that training needs of an image, made once per run.

A prepared particle is the image windowed, given the right sign, transformed, divided by the data
set's SD, and centred by its shift: complex coefficients at the half disc's points. Before that, hot
pixels are replaced, and where images are not normalised the background of each is subtracted, or
scaled to one SD.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from raydrgn.data.config import ImageConfig
from raydrgn.fourier.transforms import disc_coefficients
from raydrgn.geometry.lattice import half_disc
from raydrgn.shapes import Bool, Float, Int

WINDOW_END = 0.99

MAD_TO_SD = 1.4826  # of a normal distribution

BACKGROUND_RADIUS = 0.85
"""As a fraction of half the box; there is no particle beyond."""


def soft_window(box: int, *, radius: float) -> Float[Tensor, "h w"]:
    """Return 1 within ``radius`` of the centre, falling linearly to 0 at 0.99 of half the box."""
    return _window(box, box, radius)


def _window(height: int, width: int, radius: float) -> Float[Tensor, "h w"]:
    y, x = (
        torch.arange(-(size // 2), size - size // 2, dtype=torch.float64) / (size / 2)
        for size in (height, width)
    )
    distance = torch.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
    return (1 - (distance - radius) / (WINDOW_END - radius)).clamp(0, 1).float()


def find_bad(images: Float[np.ndarray, "b h w"]) -> Bool[np.ndarray, " b"]:
    """Mark images with a pixel that is not finite, and images with one intensity throughout."""
    flat = images.reshape(len(images), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    # min and max carry NaN and infinities through
    return ~(np.isfinite(low) & np.isfinite(high)) | (low == high)


def background_pixels(images: Float[np.ndarray, "b h w"]) -> Float[np.ndarray, "b k"]:
    """Return the pixels beyond ``BACKGROUND_RADIUS``, where the window fades images.

    Images of an odd box or with unequal sides are described, too, though nothing is made of them.
    """
    _, height, width = images.shape
    return images[:, _window(height, width, BACKGROUND_RADIUS).numpy() < 1]


def without_background(images: Float[np.ndarray, "b h w"]) -> Float[np.ndarray, "b h w"]:
    """Return images less the mean of the background of each.

    The mean of the whole image would leave an offset there, of minus that of the particle.
    """
    levels = background_pixels(images).mean(axis=1, dtype=np.float64)
    return images - levels.astype(np.float32)[:, None, None]


def with_background_sd(images: Float[np.ndarray, "b h w"], sd: float) -> Float[np.ndarray, "b h w"]:
    """Return images scaled so that the background of each has some SD.

    Images whose background has one intensity throughout are returned as they are.
    """
    found = background_pixels(images).std(axis=1, dtype=np.float64)
    factors = np.divide(sd, found, out=np.ones_like(found), where=found > 0)
    return images * factors.astype(np.float32)[:, None, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCorrection:
    """What is corrected in images before their window; of usual images nothing."""

    subtract_background: bool = False
    """As ``ImageConfig.subtract_background``."""

    background_sd: float | None = None
    """As ``ImageConfig.background_sd``."""

    outlier_limit: float | None = None
    """As ``ImageConfig.outlier_limit``."""

    @classmethod
    def of(cls, config: ImageConfig) -> "ImageCorrection":
        """Return what a configuration asks for."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    def __call__(self, images: Float[np.ndarray, "b h w"]) -> Float[np.ndarray, "b h w"]:
        """Return the images corrected; those that need no correction are not changed by a bit."""
        if self.outlier_limit is not None:
            images = self._without_outliers(images, self._limits(images, self.outlier_limit))
        if self.subtract_background:
            images = without_background(images)
        if self.background_sd is not None:
            images = with_background_sd(images, self.background_sd)
        return images

    def _limits(self, images: Float[np.ndarray, "b h w"], limit: float) -> Float[np.ndarray, " b"]:
        """Return the limit of each image: higher for an image that will be scaled down."""
        if self.background_sd is None:
            return np.full(len(images), limit)
        pixels = background_pixels(images)
        middle = np.median(pixels, axis=1, keepdims=True)
        # not the SD, which a far pixel carries
        sd = MAD_TO_SD * np.median(np.abs(pixels - middle), axis=1).astype(np.float64)
        return limit * np.maximum(sd / self.background_sd, 1.0)

    def _without_outliers(
        self, images: Float[np.ndarray, "b h w"], limits: Float[np.ndarray, " b"]
    ) -> Float[np.ndarray, "b h w"]:
        flat = images.reshape(len(images), -1)
        low, high = flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
        concerned = high - low > limits
        if not self.subtract_background:
            concerned |= (low > limits) | (high < -limits)
        rows = np.flatnonzero(concerned)
        if not rows.size:
            return images
        corrected, limit = images.copy(), limits[rows, None]
        part = flat[rows].astype(np.float64)
        middle = np.median(part, axis=1, keepdims=True)
        part -= middle
        part[np.abs(part) > limit] = 0
        part += np.where(np.abs(middle) > limit, 0, middle)
        corrected[rows] = part.reshape(-1, *images.shape[1:])
        return corrected


class Preparation:
    """Prepares images of one box; holds the window and the lattice."""

    def __init__(self, config: ImageConfig, *, points: Int[Tensor, "n 2"] | None = None) -> None:
        """Prepare for the half disc's points, or for others with ky <= 0."""
        self.points = half_disc(config.box) if points is None else points
        self._box = config.box
        self._correct = ImageCorrection.of(config)
        sign = -1.0 if config.invert else 1.0
        window = soft_window(config.box, radius=config.window_radius)
        self._factor = (window if config.window else torch.ones_like(window)) * (
            sign / config.scale
        )

    def __call__(
        self, images: Float[np.ndarray, "b h w"], shifts_px: Float[np.ndarray, "b 2"]
    ) -> Float[Tensor, "b n 2"]:
        """Return the coefficients (Re, Im) of each image at the half disc.

        The shift multiplies F(k) by exp(−2πi k·t / box). The window is applied before it, about the
        centre of the box and not of the particle, as in cryoDRGN.
        """
        spectrum = disc_coefficients(
            torch.from_numpy(self._correct(images)) * self._factor, self.points
        )
        shifts = torch.from_numpy(np.ascontiguousarray(shifts_px, dtype=np.float32))
        x, y = (self.points.float() / self._box).unbind(1)
        # Not a matrix product: its last bit may depend on where in memory the shifts lie.
        turns = shifts[:, :1] * x + shifts[:, 1:] * y
        angle = -2 * math.pi * turns
        cos, sin = torch.cos(angle), torch.sin(angle)
        # Real arithmetic: of a complex product, the last elements of a block may be rounded
        # otherwise, and values must not depend on which images are prepared together.
        real, imaginary = spectrum.unbind(-1)
        return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1)
