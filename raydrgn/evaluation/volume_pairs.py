"""Decoded volumes beside the true ones, of states and along a motion."""

from typing import NamedTuple

import numpy as np

from raydrgn.clustering.clusters import nearest_to_median
from raydrgn.decoding.pool import DecoderPool
from raydrgn.evaluation.evaluation import Evaluation, fsc_curves
from raydrgn.evaluation.truth import Truth
from raydrgn.shapes import Float, Int

MOTION_STEPS = 5
NEAR_DEG = 4.0
"""Particles this near to an angle stand for it."""


class VolumePairs(NamedTuple):
    """Volumes decoded at some particles, and the true ones that their images show."""

    decoded: Float[np.ndarray, "k d d d"]
    true: Float[np.ndarray, "k d d d"]
    titles: list[str]
    curves: Float[np.ndarray, "k shells"]
    """FSC of each pair."""


def state_pairs(
    pool: DecoderPool, z: Float[np.ndarray, "n zdim"], truth: Truth, result: Evaluation
) -> VolumePairs:
    """Return the volume of each state, at most ten of them."""
    particles = np.array([state.particle for state in result.states])
    if len(particles) > 2 * MOTION_STEPS:  # the states are frames of a motion
        particles = particles[np.linspace(0, len(particles) - 1, 2 * MOTION_STEPS).astype(int)]
    names = [truth.state_names[state] for state in truth.labels[particles]]
    return _pairs(pool, z, truth, particles, names)


def motion_pairs(
    pool: DecoderPool, z: Float[np.ndarray, "n zdim"], truth: Truth
) -> VolumePairs | None:
    """Return volumes at angles of the motion, or None if nothing moves.

    Each is decoded at the particle nearest to the median latent of those at that angle.
    """
    if truth.motion_deg is None:
        return None
    known = truth.motion_deg[np.isfinite(truth.motion_deg)]
    particles, titles = [], []
    for angle in np.linspace(known.min(), known.max(), MOTION_STEPS):
        near = np.flatnonzero(np.abs(truth.motion_deg - angle) <= NEAR_DEG)
        if len(near):
            particles.append(nearest_to_median(z, near))
            titles.append(f"{truth.motion_deg[particles[-1]]:.0f}°")
    return _pairs(pool, z, truth, np.array(particles), titles)


def _pairs(
    pool: DecoderPool,
    z: Float[np.ndarray, "n zdim"],
    truth: Truth,
    particles: Int[np.ndarray, " k"],
    titles: list[str],
) -> VolumePairs:
    decoded, true = pool.volumes(z[particles]), truth.volumes[truth.shown[particles]]
    return VolumePairs(decoded, true, titles, fsc_curves(decoded, true))
