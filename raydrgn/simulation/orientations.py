"""Orientations that a real grid prefers, since particles stick to the air-water interface.

The viewing direction of a rotation R is its third row, in the frame of the volume.
"""

import numpy as np

from raydrgn.geometry.rotations import from_euler
from raydrgn.shapes import Float

PREFERRED = (
    ((1 / 3, 2 / 3, 2 / 3), 0.5),
    ((2 / 3, -2 / 3, 1 / 3), 0.2),
    ((2 / 3, 2 / 3, -1 / 3), 0.1),
)
"""Preferred viewing directions (x, y, z), and the share of the particles about each; the others
are seen from anywhere."""

CONCENTRATION = 33.0
"""κ of the von Mises-Fisher distribution about a direction: an SD of 10 degrees on either axis."""


def preferred_rotations(
    count: int, *, generator: np.random.Generator
) -> Float[np.ndarray, "b 3 3"]:
    """Draw matrices of a few preferred viewing directions and a uniform part, evenly in plane.

    The cosine t of the angle to a direction has the density κ e^{κt} / (e^κ − e^{−κ}) on [−1, 1].

    References:
        Fisher (1953), Proc. R. Soc. Lond. A 217:295.
    """
    directions, shares = np.array([d for d, _ in PREFERRED]), [share for _, share in PREFERRED]
    which = generator.choice(len(shares) + 1, size=count, p=[*shares, 1 - sum(shares)])
    u, azimuth, in_plane = generator.uniform(size=(3, count)) * [[1], [360], [360]]
    is_uniform = which == len(shares)
    concentrated = 1 + np.log(u + (1 - u) * np.exp(-2 * CONCENTRATION)) / CONCENTRATION
    cosine = np.where(is_uniform, 2 * u - 1, concentrated)
    zeros = np.zeros(count)
    about_z = from_euler(np.stack([azimuth, np.rad2deg(np.arccos(cosine)), zeros], axis=-1))
    # the uniform part is drawn about z; it is the same about any direction
    x, y, z = np.concatenate([directions, [[0, 0, 1]]])[which].T
    tilt, rot = np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)
    to_direction = from_euler(np.stack([np.rad2deg(rot), np.rad2deg(tilt), zeros], axis=-1))
    turned = from_euler(np.stack([zeros, zeros, in_plane], axis=-1))
    return turned @ about_z @ to_direction
