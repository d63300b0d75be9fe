"""Boxes: edges of images and volumes. Loads nothing heavy."""

from raydrgn.errors import ConfigError


def check_box(box: int) -> None:
    """Refuse a box without a centre pixel.

    Raises:
        ConfigError: If ``box`` is odd or smaller than 4.
    """
    if box % 2 or box < 4:
        raise ConfigError(f"The box must be an even number of pixels, at least 4; got {box}.")
