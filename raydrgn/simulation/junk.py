"""Images that show no particle: contaminating ice, and edges of the carbon film.

Both are drawn as projected density; the forward model then treats them like particles.
"""

import numpy as np
from scipy import ndimage

from raydrgn.shapes import Float

KINDS = ("junk: ice", "junk: edge")
"""Names of the states of junk."""

STRENGTH = (2.0, 5.0)
"""Range of the SD of junk, as a multiple of that of the particles' images."""


def draw_junk(
    kind: int, box: int, *, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "h w"], float]:
    """Return the density of an image of junk, and its strength.

    Ice is irregular patches of a tenth of the box and more; an edge has a granular film on one side
    of a straight line that passes within a quarter of the box of its centre.
    """
    strength = float(generator.uniform(*STRENGTH))
    grain = generator.standard_normal((box, box))
    if kind == 0:
        field = ndimage.gaussian_filter(grain, box * generator.uniform(0.04, 0.1), mode="wrap")
        field = (field - field.mean()) / field.std()
        return np.maximum(field - generator.uniform(0.3, 1.0), 0).astype(np.float32), strength
    angle, offset = generator.uniform(0, 2 * np.pi), generator.uniform(-0.25, 0.25) * box
    y, x = np.mgrid[:box, :box] - box // 2
    side = x * np.cos(angle) + y * np.sin(angle) - offset
    film = 1 / (1 + np.exp(-np.clip(2 * side, -50, 50)))
    return (film * (1 + 0.08 * grain)).astype(np.float32), strength
