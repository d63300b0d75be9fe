"""Has training converged? The heuristics of the protocol's Box 1, and a rule for each.

Latents have converged when the steps that particles make from epoch to epoch no longer change;
volumes, when those of corresponding points in successive epochs agree as well as they ever will.

References:
    Kinman, Powell, Zhong, Berger and Davis (2023), Nature Protocols 18, 319.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from raydrgn.clustering.clusters import nearest_to_median
from raydrgn.fourier.masks import soft_mask
from raydrgn.fourier.shells import shell_correlation, shell_index
from raydrgn.fourier.transforms import fft_centred
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted

BINS = 30
"""Bins of the histogram of an embedding along each axis."""

SMOOTH_BINS = 1.0
MAXIMA = 10
MAXIMA_BEFORE_PRUNING = 12
PRUNE_RADIUS_BINS = 5.0
DILATE_PX, EDGE_PX = 3.0, 10.0

CONVERGED_SHARE = 0.1
CONVERGED_EPOCHS, CONVERGED_RUN = 5, 0.15
SMOOTH_EPOCHS = 5
LIKELIHOOD_SHARE = 0.02
LEAST_RANGE = 0.01
SAME_CORRELATION, SAME_FSC = 0.99, 0.95
RISE = 1.1
OVERFITTING_EPOCHS = 3
"""Epochs that show two rises in a row."""

CURVE_RULE = (
    f"A curve, smoothed by a running median of {SMOOTH_EPOCHS} epochs, has converged from the "
    f"epoch on after which it stays within {100 * CONVERGED_SHARE:g} % of its whole range of its "
    "last value, or within twice its scatter about the smooth curve where that is more; this must "
    f"hold for {CONVERGED_EPOCHS} epochs and for {100 * CONVERGED_RUN:g} % of the run at least."
)
LIKELIHOOD_RULE = (
    "The log-likelihood of a mixture of factor analysers has converged from the epoch on after "
    "which no epoch changes its mean over two successive epochs, between which it may alternate, "
    f"by more than {100 * LIKELIHOOD_SHARE:g} % of all that it gained; and where the images "
    "determine no latent, since only noise would change."
)
PAIRS_RULE = (
    "The agreement of successive volumes has converged if its medians over the points, for the "
    f"last three pairs of epochs, lie within {100 * CONVERGED_SHARE:g} % of the whole range of the "
    f"medians ({LEAST_RANGE:g} at least), or if there is nothing left to change: medians of "
    f"{SAME_CORRELATION:g} (correlation) or {SAME_FSC:g} (FSC at Nyquist) and more for the last "
    "two pairs."
)
OVERFITTING_RULE = (
    "There is an overfitting warning if the power at high frequencies (the outer quarter of the "
    "shells) or the SD outside the mask (relative to that inside) rises twice in a row, to more "
    f"than {100 * (RISE - 1):.0f} % above all earlier values."
)

MEANING = (
    "These are the protocol's heuristics with a rule for each. A falling learning rate makes all "
    "of them level off: this shows that the run has come to its end, not that a longer run would "
    "find nothing more. At a constant rate the loss may keep falling slowly after all criteria "
    "have converged: in a trial (3,000 images, seven states) all had converged at epoch 34; by "
    "epoch 90 the loss had fallen by another 6 % of its range, and 91 % of the particles were "
    "among neighbours of their own state, not 82 %."
)


class LatentShifts(NamedTuple):
    """Medians over particles of their steps in latent space, one per step."""

    epochs: Int[np.ndarray, " steps"]
    """Epoch at the end of each step."""

    dot: Float[np.ndarray, " steps"]
    """Of each step with the one before; NaN for the first."""

    magnitude: Float[np.ndarray, " steps"]
    cosine_distance: Float[np.ndarray, " steps"]
    """Of each step from the one before, 1 − cos; NaN for the first."""


class Agreement(NamedTuple):
    """How well two volumes agree."""

    correlation: float
    fsc: Float[np.ndarray, " shells"]


class OverfittingMeasures(NamedTuple):
    """Measures of a volume that rise when the network fits noise."""

    high_share: float
    """Share of the power in the outer quarter of the shells."""

    outside: float
    """SD outside the mask relative to that inside."""


class Finding(NamedTuple):
    """Whether a criterion has converged, and from which epoch on."""

    criterion: str
    converged_from: int | None
    text: str
    is_judged: bool = True
    """False where the criterion does not apply to the run."""

    is_early: bool = False
    """Whether there are too few epochs to judge."""

    @property
    def is_open(self) -> bool:
        """Whether the criterion applies and has not converged."""
        return self.is_judged and self.converged_from is None


def latent_shifts(
    epochs: Sequence[int], latents: Callable[[int], Float[np.ndarray, "n zdim"]]
) -> LatentShifts:
    """Return medians of the steps between successive epochs; three epochs are held at a time."""
    rows: list[tuple[float, float, float]] = []
    before, step = latents(epochs[0]).astype(np.float64), None
    for epoch in epochs[1:]:
        now = latents(epoch).astype(np.float64)
        new = now - before
        size = np.linalg.norm(new, axis=1)
        dot = distance = float("nan")
        if step is not None:
            products = (step * new).sum(axis=1)
            sizes = np.linalg.norm(step, axis=1) * size
            moved = sizes > 0
            dot = float(np.median(products))
            distance = float(np.median(1 - products[moved] / sizes[moved])) if moved.any() else 0.0
        rows.append((dot, float(np.median(size)), distance))
        before, step = now, new
    dot_, magnitude, distance_ = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return LatentShifts(np.array(epochs[1:], dtype=np.int64), dot_, magnitude, distance_)


def density_maxima(embedding: Float[np.ndarray, "n k"]) -> list[Int[np.ndarray, " m"]]:
    """Return the particles about each of the highest maxima of the density, highest first.

    The density is a smoothed histogram of ``BINS`` bins along each axis; a maximum is higher than
    its neighbours. While there are more than ``MAXIMA_BEFORE_PRUNING``, the lower of the two
    closest is left out, if they are closer than ``PRUNE_RADIUS_BINS``; ``MAXIMA`` are taken.
    Members lie in the 3 × 3 bins about a maximum.
    """
    counts, edges = np.histogramdd(embedding, bins=BINS)
    smooth = ndimage.gaussian_filter(counts, SMOOTH_BINS)
    around = np.ones((3,) * embedding.shape[1], dtype=bool)
    around[(1,) * embedding.shape[1]] = False
    higher = smooth > ndimage.maximum_filter(smooth, footprint=around, mode="mirror")
    found = np.argwhere(higher)
    if not len(found):
        found = np.array([np.unravel_index(smooth.argmax(), smooth.shape)])
    columns = [
        np.clip(np.searchsorted(edge, values, side="right") - 1, 0, BINS - 1)
        for edge, values in zip(edges, embedding.T, strict=True)
    ]
    bins = np.stack(columns, axis=1)
    near = [
        np.flatnonzero((np.abs(bins - maximum) <= 1).all(axis=1))
        for maximum in _pruned(found, smooth)[:MAXIMA]
    ]
    return [rows for rows in near if len(rows)]


def _pruned(found: Int[np.ndarray, "m k"], height: Float[np.ndarray, "..."]) -> list[np.ndarray]:
    left = sorted(found, key=lambda maximum: -height[tuple(maximum)])
    while len(left) > MAXIMA_BEFORE_PRUNING:
        bins = np.array(left, dtype=np.float64)
        distance = np.linalg.norm(bins[:, None] - bins[None], axis=2)
        distance[np.tril_indices(len(left))] = np.inf
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        if distance[i, j] >= PRUNE_RADIUS_BINS:
            break
        del left[int(j)]  # the lower of the two, since the list is descending
    return left


def representatives(
    z: Float[np.ndarray, "n zdim"], members: Sequence[Int[np.ndarray, " _"]]
) -> Int[np.ndarray, " k"]:
    """Return the particle of each group that is nearest to the median of the group."""
    return np.array([nearest_to_median(z, rows) for rows in members], dtype=np.int64)


def volume_mask(volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, "d d d"]:
    """Return the volume's own soft mask, 3 voxels wider than its density, its edge 10 voxels."""
    return soft_mask(
        volume, pixel_size_angstrom=1.0, dilate_angstrom=DILATE_PX, edge_angstrom=EDGE_PX
    )


def agreement(first: Float[np.ndarray, "d d d"], second: Float[np.ndarray, "d d d"]) -> Agreement:
    """Return correlation and FSC of two volumes, each multiplied by its own mask before."""
    x, y = first - first.mean(), second - second.mean()
    scale = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    curve = shell_correlation(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    return Agreement(float((x * y).sum()) / max(scale, 1e-30), curve)


def overfitting_measures(
    volume: Float[np.ndarray, "d d d"], mask: Float[np.ndarray, "d d d"]
) -> OverfittingMeasures:
    """Return the overfitting measures of a volume; outside is where its mask is below 0.5."""
    box = volume.shape[-1]
    power = fft_centred(torch.from_numpy(volume), ndim=3).abs().square().numpy()
    shell = shell_index(box).numpy()
    known = shell > 1  # the first is the mean density
    outer = shell >= np.ceil(0.75 * box / 2)
    outside = mask < 0.5
    inner = volume[~outside].std()
    ratio = float(volume[outside].std() / inner) if outside.any() and inner > 0 else 0.0
    total = float(power[known].sum())
    return OverfittingMeasures(float(power[outer].sum()) / total if total > 0 else 0.0, ratio)


def converged_curve(name: str, epochs: Sequence[int], values: Float[np.ndarray, " e"]) -> Finding:
    """Find the epoch from which on a curve has converged; see ``CURVE_RULE``."""
    known = np.isfinite(values)
    x, at = values[known], np.asarray(epochs)[known]
    needed = max(CONVERGED_EPOCHS, math.ceil(CONVERGED_RUN * len(x)))
    if len(x) <= needed:
        return Finding(name, None, f"too few epochs to judge ({len(x)})", is_early=True)
    smooth = ndimage.median_filter(x, SMOOTH_EPOCHS, mode="nearest")
    scatter = 1.4826 * float(np.median(np.abs(x - smooth)[len(x) // 2 :]))
    allowed = max(CONVERGED_SHARE * float(np.ptp(smooth)), 2 * scatter)
    far = np.flatnonzero(np.abs(smooth - smooth[-1]) > allowed)
    start = int(far[-1]) + 1 if far.size else 0
    if len(x) - start < needed:
        return Finding(
            name,
            None,
            f"still changing: near its last value for {counted(len(x) - start, 'epoch')} only",
        )
    text = f"converged from epoch {at[start]} on"
    if 2 * scatter > float(np.ptp(smooth)):
        text += f", within its scatter of {scatter:.2g}"
    return Finding(name, int(at[start]), text)


def converged_loss(epochs: Sequence[int], values: Float[np.ndarray, " e"]) -> Finding:
    """Find the epoch from which on the loss has converged, and how much it still falls."""
    found = converged_curve("total loss", epochs, values)
    if found.converged_from is None:
        return found
    smooth = ndimage.median_filter(values, SMOOTH_EPOCHS, mode="nearest")
    fall = float(smooth[-1 - len(values) // 4] - smooth[-1]) / max(float(np.ptp(smooth)), 1e-30)
    return found._replace(
        text=f"{found.text}; over the last quarter of the run it fell by {100 * fall:.1f} % of its "
        "range"
    )


def converged_likelihood(
    epochs: Sequence[int], values: Float[np.ndarray, " e"], *, has_latents: bool = True
) -> Finding:
    """Find the epoch from which on each epoch changes the log-likelihood little.

    Args:
        epochs: Numbers of the epochs.
        values: Negative log-likelihood after each; see ``LIKELIHOOD_RULE``.
        has_latents: Whether the images determine a latent after the last of them.
    """
    name = "log-likelihood"
    if len(values) < 3:
        text = f"too few epochs to judge ({len(values)})"
        return Finding(name, None, text, is_early=True)
    if not has_latents:
        text = "nothing is left to change: the images determine no latent"
        return Finding(name, int(epochs[-1]), text)
    gains = (values[:-2] - values[2:]) / 2 / max(float(np.ptp(values)), 1e-30)
    large = np.flatnonzero(np.abs(gains) > LIKELIHOOD_SHARE)
    first = int(large[-1]) + 2 if large.size else 0
    if first > len(values) - 2:
        text = f"still changing: by {100 * gains[-1]:.1f} % of the gain in each of the last two"
        return Finding(name, None, f"{text} epochs, on average")
    return Finding(name, int(epochs[first]), f"converged from epoch {epochs[first]} on")


def converged_pairs(
    name: str, epochs: Sequence[int], values: Float[np.ndarray, "pairs points"], *, same: float
) -> Finding:
    """Find whether the agreement of successive volumes has converged; see ``PAIRS_RULE``.

    Args:
        name: Of the criterion.
        epochs: The later one of each pair.
        values: Agreement.
        same: Agreement beyond which there is nothing left to change.
    """
    if len(values) < 3:
        text = f"too few pairs of epochs to judge ({len(values)})"
        return Finding(name, None, text, is_early=True)
    medians = np.median(values, axis=1)
    listed = f"{medians[-3]:.3f}, {medians[-2]:.3f}, {medians[-1]:.3f}"
    allowed = max(CONVERGED_SHARE * float(np.ptp(medians)), LEAST_RANGE)
    if float(np.ptp(medians[-3:])) <= allowed:
        return Finding(name, int(epochs[-3]), f"converged from epoch {epochs[-3]} on ({listed})")
    if medians[-2:].min() >= same:
        return Finding(name, int(epochs[-2]), f"converged from epoch {epochs[-2]} on ({listed})")
    return Finding(name, None, f"still changing ({listed})")


def overfitting_warnings(epochs: Sequence[int], measures: Float[np.ndarray, "e 2"]) -> list[str]:
    """Return overfitting warnings, given the measures of each epoch; see ``OVERFITTING_RULE``."""
    warnings = []
    for name, values in zip(
        ("power at high frequencies", "noise outside the mask"), measures.T, strict=True
    ):
        last = values[-OVERFITTING_EPOCHS:]
        if len(last) < OVERFITTING_EPOCHS:
            continue
        if (np.diff(last) > 0).all() and last[-1] > RISE * values[:-2].max():
            warnings.append(
                f"The {name} rises from epoch {epochs[-OVERFITTING_EPOCHS]} to {epochs[-1]} "
                f"({last[0]:.3g} to {last[-1]:.3g}): further training may fit noise."
            )
    return warnings
