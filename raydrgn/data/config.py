"""How images become what the network sees."""

from dataclasses import dataclass
from typing import Literal

from raydrgn.errors import ConfigError
from raydrgn.geometry.box import check_box

Precision = Literal["float32", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """Preparation of the particle images."""

    box: int
    """Edge of the images in pixels; even."""

    invert: bool = True
    """Multiply the images by −1. Right for stacks with bright particles on a dark background."""

    window: bool = True
    """Fade the corners of the images to zero."""

    window_radius: float = 0.85
    """Where the fading starts, as a fraction of half the box; it ends at 0.99."""

    subtract_background: bool = False
    """Subtract from each image the mean beyond 0.85 of half the box; set where images are not
    normalised.

    An offset c is c·W after the window, whose transform W(k) reaches to low frequencies other than
    zero. There it would be hundreds of times as strong as a particle, alike in all images whatever
    their poses, so that no volume explains it.
    """

    background_sd: float | None = None
    """SD that each image's pixels beyond 0.85 of half the box are scaled to; set where images are
    not normalised alike.

    The noise would be far stronger in some images than in others, while the loss and the mixture
    take it to be the same in all (of an optics group).
    """

    outlier_limit: float | None = None
    """Pixels farther than this from the median of their image are replaced by it.

    50 SD of the data set, measured before training; None leaves all pixels. A pixel at 10⁶ SD would
    be a plane of noise in Fourier space, whose loss ends training. The median is subtracted from
    an image where it is beyond the limit itself.
    """

    scale: float = 1.0
    """SD of the Hartley values, which images are divided by; measured before training."""

    precision: Precision = "float32"
    """Type in which prepared particles are kept; float16 needs half the memory.

    A new run may be given auto, which is float32 up to 20 GB of particles and float16 beyond.
    """

    def __post_init__(self) -> None:
        check_box(self.box)
        if not 0 < self.window_radius < 0.99:
            raise ConfigError(
                f"data.window_radius must be between 0 and 0.99, got {self.window_radius}."
            )
        if self.outlier_limit is not None and not self.outlier_limit > 0:
            raise ConfigError(f"data.outlier_limit must be positive, got {self.outlier_limit}.")
        if self.background_sd is not None and not self.background_sd > 0:
            raise ConfigError(f"data.background_sd must be positive, got {self.background_sd}.")
        if not self.scale > 0:
            raise ConfigError(f"data.scale must be positive, got {self.scale}.")
        if self.precision not in ("float32", "float16"):
            raise ConfigError(
                f"data.precision must be float32 or float16 (of a new run auto, too), got "
                f"{self.precision!r}."
            )
