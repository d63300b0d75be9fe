"""What the latents of a fit show of its components. Loads nothing heavy."""

import numpy as np

from raydrgn.shapes import Float

DETERMINED = 0.02
"""Share of a latent's variance between particles, below which the images determine nothing."""

UNDETERMINED = (
    f"The images determine no latent: less than {100 * DETERMINED:.0f} % of the variance of each "
    "is between particles, so that clusters mean nothing, and all volumes are the mean. More "
    "particles, a higher SNR or better poses may show more."
)


def component_norms(
    mean: Float[np.ndarray, "n k"], logvar: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " k"]:
    """Return the norms of the components over that of the strongest.

    Mean and variance of a component's latent are given out times that norm, so that their variance
    over all particles is the square of it.
    """
    return np.sqrt(mean.var(axis=0) + np.exp(logvar).mean(axis=0))


def determine_latents(mean: Float[np.ndarray, "n k"], logvar: Float[np.ndarray, "n k"]) -> bool:
    """Return whether images determine the latent of one component at least."""
    between = mean.var(axis=0)
    return bool((between >= DETERMINED * (between + np.exp(logvar).mean(axis=0))).any())
