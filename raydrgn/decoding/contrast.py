"""Whether a run has learned the negative of the particles, by the skewness of its volumes."""

from collections.abc import Sequence

import numpy as np
import torch

from raydrgn.fourier.density import CLEAR_SKEWNESS, measure_density
from raydrgn.model.device import default_device
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.reader import RunReader
from raydrgn.wording import counted

SHOWN_BOX = 32
"""Box of the volume that stands for a run; the sign shows at any, and a small one takes least."""


FEW_IMAGES = 2_000
"""Images that an autoencoder has seen in training, counted anew in each epoch, below which the sign
of its density may still change. In trials it changed from epoch to epoch up to 360 images (60
particles of 32 pixels), and was right after 800 in both contrasts."""


def images_seen(source: LatentSource, epoch: int | None, num_particles: int) -> int | None:
    """Return how many images an autoencoder has seen up to an epoch, counted anew in each.

    None where it is not known, and for a mixture of factor analysers, which sees all images at once
    and begins with their mean.
    """
    if epoch is None or not isinstance(source, RunReader) or source.model is None:
        return None
    return epoch * num_particles


def negative_density(skewness: Sequence[float], *, seen: int | None = None) -> str | None:
    """Return what to do if the density of volumes is negative; None if it is not.

    Args:
        skewness: Of each volume, as ``fourier.density`` measures it.
        seen: Images seen in training, as ``images_seen`` counts them.
    """
    if not len(skewness) or (median := float(np.median(skewness))) > -CLEAR_SKEWNESS:
        return None
    if seen is not None and seen < FEW_IMAGES:
        return (
            f"The density of the volumes is negative (median skewness {median:.2f}), which means "
            f"little after so short a training ({counted(seen, 'image')} seen, fewer than "
            f"{FEW_IMAGES:,}): train for more epochs. `raydrgn backproject` shows the contrast of "
            "the particles."
        )
    return (
        f"The density of the volumes is negative (median skewness {median:.2f}): contrast looks "
        "inverted. See `raydrgn backproject`, and train again with `raydrgn train "
        "--uninvert-data`, or without it if it was given."
    )


def contrast_of_run(run: RunReader, epoch: int | None, *, uses_gpu: bool = True) -> str | None:
    """Return the same of a run, by its volume at the median of the latents that are finite.

    Args:
        run: The run.
        epoch: Of its weights and latents.
        uses_gpu: Whether it may be decoded on a GPU.

    Raises:
        RaydrgnError: If the epoch cannot be read.
    """
    latents, state = run.latents(epoch), run.decoder(epoch)
    seen = images_seen(run, epoch, len(latents))
    latents = latents[np.isfinite(latents).all(axis=1)]
    if not len(latents):
        return None
    median = np.median(latents, axis=0, keepdims=True).astype(np.float32)
    decoder = state.build(default_device() if uses_gpu else torch.device("cpu"))
    [volume] = state.volumes(decoder, median, small_box=min(SHOWN_BOX, run.box))
    return negative_density([measure_density(volume.cpu().numpy()).skewness], seen=seen)
