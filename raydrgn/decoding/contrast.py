"""Whether a run has learned the negative of the particles, by the skewness of its volumes."""

from collections.abc import Sequence

import numpy as np

from raydrgn.fourier.density import CLEAR_SKEWNESS, measure_density
from raydrgn.model.device import default_device
from raydrgn.run.reader import RunReader

SHOWN_BOX = 32
"""Box of the volume that stands for a run; the sign shows at any, and a small one takes least."""


def negative_density(skewness: Sequence[float]) -> str | None:
    """Return what to do if the density of volumes is negative; None if it is not.

    Args:
        skewness: Of each volume, as ``fourier.density`` measures it.
    """
    if not len(skewness) or (median := float(np.median(skewness))) > -CLEAR_SKEWNESS:
        return None
    return (
        f"The density of the volumes is negative (median skewness {median:.2f}): contrast looks "
        "inverted. See `raydrgn backproject`, and train again with `raydrgn train "
        "--uninvert-data`, or without it if it was given."
    )


def contrast_of_run(run: RunReader, epoch: int | None) -> str | None:
    """Return the same of a run, by its volume at the median of the latents that are finite.

    Raises:
        RaydrgnError: If the epoch cannot be read.
    """
    latents, state = run.latents(epoch), run.decoder(epoch)
    latents = latents[np.isfinite(latents).all(axis=1)]
    if not len(latents):
        return None
    median = np.median(latents, axis=0, keepdims=True).astype(np.float32)
    decoder = state.build(default_device())
    [volume] = state.volumes(decoder, median, small_box=min(SHOWN_BOX, run.box))
    return negative_density([measure_density(volume.cpu().numpy()).skewness])
