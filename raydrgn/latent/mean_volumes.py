"""Mean volume of a group of particles."""

import numpy as np

from raydrgn.decoding.pool import DecoderPool
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float

AVERAGED = 100
"""Particles whose volumes are averaged."""


def mean_volume(
    pool: DecoderPool,
    z: Float[np.ndarray, "n zdim"],
    *,
    name: str,
    progress: Progress = silent,
) -> tuple[Float[np.ndarray, "d d d"] | None, list[str]]:
    """Return the mean of the volumes of randomly drawn latents, and what failed.

    Args:
        pool: Decoders of the run.
        z: Latents of the group; 100 of them are drawn.
        name: What messages call the group.
        progress: Called after each batch.

    Returns:
        The mean of the volumes that could be decoded, None if none could; and error messages.
    """
    count = min(AVERAGED, len(z))
    chosen = np.random.default_rng(0).choice(len(z), count, replace=False)
    total, num_added, num_done = None, 0, 0
    failures = []
    for outcome in pool.apply(_sum, z[chosen]):
        num_done += len(outcome.item)
        if outcome.error:
            failures.append(f"mean volume, {name}: {outcome.error}")
        else:
            total = outcome.value if total is None else total + outcome.value
            num_added += len(outcome.item)
        progress(f"mean volume, {name}", num_done, count, unit="volumes")
    mean = None if total is None else (total / num_added).astype(np.float32)
    return mean, failures


def _sum(volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "d d d"]:
    return np.asarray(volumes.sum(axis=0, dtype=np.float64))
