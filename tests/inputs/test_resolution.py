"""Correlation of half maps within a mask, where power falls steeply towards high frequencies."""

import numpy as np
import pytest
import torch

from raydrgn.fourier.shells import shell_index
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.inputs.resolution import Resolution, measure_resolution, within_mask

BOX, PIXEL_SIZE = 64, 3.0
SMOOTH_PX = 2.5
"""SD of the blobs of which the object is made."""


def filtered(volume, factor):
    """Return a volume with its shells multiplied by a factor of the frequency, 0 to 0.5."""
    radius = shell_index(BOX).float() / BOX
    return ifft_centred(fft_centred(volume, ndim=3) * factor(radius), ndim=3)


def steep(frequency):
    """Return the transform of a Gaussian blob, whose power falls by 10^-12 to 0.4 / px."""
    return torch.exp(-2 * (np.pi * SMOOTH_PX * frequency) ** 2)


@pytest.fixture(params=[0, 1, 2])
def halves(request):
    """Two half maps with their own white noise, and the object in them."""
    generator = torch.Generator().manual_seed(request.param)
    ticks = torch.arange(BOX) - BOX / 2
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    points = (torch.rand(BOX, BOX, BOX, generator=generator) > 0.98).float()
    volume = filtered(points * (x**2 + 2 * y**2 + 3 * z**2 < 18**2), steep)
    noise = [0.02 * volume.std() * torch.randn(BOX, BOX, BOX, generator=generator) for _ in "ab"]
    return volume, *(volume + n for n in noise)


def measured(first, second) -> Resolution:
    full = ((first + second) / 2).numpy()
    return measure_resolution(
        first.numpy(),
        second.numpy(),
        full,
        pixel_size_angstrom=PIXEL_SIZE,
        generator=torch.Generator().manual_seed(3),
    )


def test_shells_without_signal_do_not_correlate(halves):
    """A mask mixes shells; low ones of a thousand times the power may not stand in for others."""
    volume, first, second = halves
    found = measured(first, second)
    index = shell_index(BOX).flatten()
    powers = [fft_centred(v, ndim=3).abs().square().flatten() for v in (volume, first - volume)]
    signal, noise = (torch.bincount(index, p.double())[: BOX // 2] for p in powers)
    empty = signal < 1e-4 * noise
    empty[0] = False
    assert empty.sum() > 8
    for curve in (found.masked, found.corrected, found.spherical):
        assert abs(float(curve[empty].mean())) < 0.05
    shared = signal > 100 * noise
    assert float(found.corrected[shared].min()) > 0.97
    last = BOX * PIXEL_SIZE / int(torch.nonzero(empty)[0])
    assert found.at(0.143) > last


def test_a_filter_of_both_maps_changes_no_curve(halves):
    """Correlations of shells do not depend on how fast the power of both maps falls."""
    _, first, second = halves
    as_is = measured(first, second)
    for slope in (-3.0, 3.0):
        both = [filtered(v, lambda r, s=slope: torch.exp(s * r)) for v in (first, second)]
        found = within_mask(
            *both,
            torch.from_numpy(as_is.mask),
            unmasked=as_is.unmasked,
            generator=torch.Generator().manual_seed(3),
        )
        for curve, before in zip(
            found, (as_is.masked, as_is.randomised, as_is.corrected), strict=True
        ):
            torch.testing.assert_close(curve, before, atol=1e-4, rtol=0)
