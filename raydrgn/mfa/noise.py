"""Noise of images by optics group and Fourier shell, and the power of junk.

Images that were low-passed, or scaled up from larger pixels, have nothing near the Nyquist
frequency. There they say nothing of the volumes: neither noise next to 0, which would give them all
the weight, nor that density is 0. Such shells of an optics group are not observed: their noise is
so large that nothing there counts, and stays so.
"""

from dataclasses import replace

import torch
from torch import Tensor

from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.sums import Sums
from raydrgn.shapes import Bool, Float, Int

UNOBSERVED = 1e6
"""Noise of shells that are not observed; prepared images have coefficients of RMS 1."""

LEAST_POWER = 0.03
"""Power of a shell over the median of its optics group, below which it is not observed.

Hard cuts leave 2 % and less, which the window of the images brings there; the noise of detectors
falls to a fifth of its power at low frequency.
"""

OUTERMOST_SHELLS = 4
MOST_NOISE = 1.5
"""Noise to start from over that of the outermost shells, where the particle shows least."""

GROUP_PRIOR = 10.0
"""Particles of an optics group from which on its noise is more its own than that of all."""

LEAST_JUNK = 5.0
"""Images of ice and carbon from which their power can be estimated."""

LEAST_NULL_NOISE = 0.1
"""Power of junk over that of other images' noise, at least.

Less than 1 is needed: images normalised to one SD have less noise where ice or carbon have more.
"""


def observed(noise: Float[Tensor, "groups shells"]) -> Bool[Tensor, "groups shells"]:
    """Return in which shells the images of each optics group show something."""
    return noise < UNOBSERVED


def first_noise(sums: Sums, points: Int[Tensor, " shells"]) -> Float[Tensor, "groups shells"]:
    """Return the noise to start from: the power of images, at most that of the outermost shells.

    Args:
        sums: Residuals of images without a volume, whose noise is 1.
        points: Number of Fourier points of an image in each shell.
    """
    counts = sums.likely[:, None] * points.clamp(min=1)
    own = sums.residual / counts.clamp(min=1)  # not shrunk: a small group would seem like all
    is_seen = own > LEAST_POWER * own[:, 1:].median(1, keepdim=True).values
    is_seen |= counts == 0
    is_seen[:, 0] = is_seen[:, 1]
    power = _shrunk(torch.where(is_seen, 1.0, UNOBSERVED), sums, points)
    power[:, 0] = power[:, 1]
    is_outer = is_seen & (is_seen.flip(1).cumsum(1).flip(1) <= OUTERMOST_SHELLS)
    outer = (power * is_outer).sum(1, keepdim=True) / is_outer.sum(1, keepdim=True).clamp(min=1)
    noise = torch.minimum(power, MOST_NOISE * outer)
    return torch.where(is_seen, noise, UNOBSERVED)


def with_noise(
    model: FactorModel, sums: Sums, points: Int[Tensor, " shells"], known: Bool[Tensor, " shells"]
) -> FactorModel:
    """Return the model with the noise that residuals have, and the power of junk.

    As long as little junk is known, its power is that of other images.

    Args:
        model: That the sums were made with.
        sums: Of a pass.
        points: Number of Fourier points of an image in each shell.
        known: Shells that the pass was over; others keep what they have.
    """
    seen = observed(model.noise)
    noise = torch.where(known & seen, _shrunk(model.noise, sums, points), model.noise)
    noise[:, 0] = noise[:, 1]
    if float(sums.contaminants.sum()) < LEAST_JUNK:
        return replace(model, noise=noise, null_noise=noise)
    counts = (sums.contaminants @ seen.double()) * points
    ratio = (sums.null_power / counts.clamp(min=1)).float()
    power = torch.where(known & seen, model.noise * ratio, model.null_noise)
    power[:, 0] = power[:, 1]
    return replace(model, noise=noise, null_noise=torch.maximum(power, LEAST_NULL_NOISE * noise))


def _shrunk(
    noise: Float[Tensor, "groups shells"], sums: Sums, points: Int[Tensor, " shells"]
) -> Float[Tensor, "groups shells"]:
    """Return the noise of each group, of a small one nearly that of all at the group's scale."""
    seen = observed(noise).double()
    counts = sums.likely[:, None] * points.clamp(min=1) * seen
    power = torch.where(seen > 0, noise.double() * sums.residual, 0.0)
    pooled = power.sum(0) / counts.sum(0).clamp(min=1)
    prior = pooled.clamp(min=1e-12)
    expected = (counts * prior).sum(1, keepdim=True)
    scale = torch.where(expected > 0, power.sum(1, keepdim=True) / expected.clamp(min=1e-12), 1.0)
    strength = GROUP_PRIOR * points.clamp(min=1)
    return ((power + strength * scale * prior) / (counts + strength)).float()
