"""Change of box: sums, positions and the definition; a hard low-pass."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydrgn.errors import ConfigError
from raydrgn.fourier.resample import low_pass, resample
from raydrgn.fourier.transforms import fft_centred

even = st.integers(2, 10).map(lambda half: 2 * half)


def hartley(values, ndim):
    """Return the transform of conventions.md, 2.9: fftshift twice, Re − Im, unnormalised."""
    axes = tuple(range(-ndim, 0))
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.fftshift(values, axes), axes=axes), axes)
    return spectrum.real - spectrum.imag


def downsampled(values, box, ndim):
    """The window of the Hartley transform about its centre, transformed back (2.14)."""
    start = values.shape[-1] // 2 - box // 2
    window = (..., *[slice(start, start + box)] * ndim)
    return hartley(hartley(values, ndim)[window], ndim) / box**ndim


@given(old=even, new=even, ndim=st.sampled_from([2, 3]), seed=st.integers(0, 9))
def test_the_sum_of_pixels_is_kept(old, new, ndim, seed):
    values = torch.randn(*[old] * ndim, generator=torch.Generator().manual_seed(seed)).double()
    found = resample(values, box=new, ndim=ndim)
    assert found.shape == (new,) * ndim
    assert found.sum().item() == pytest.approx(values.sum().item(), abs=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("old", "new"), [(12, 8), (16, 4), (10, 6), (8, 6)])
def test_a_smaller_box_is_cryodrgn_s(generator, ndim, old, new):
    values = torch.randn(2, *[old] * ndim, generator=generator)
    found = resample(values, box=new, ndim=ndim)
    np.testing.assert_allclose(found, downsampled(values.numpy(), new, ndim), atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_same_box_changes_nothing(generator, ndim):
    values = torch.randn(*[8] * ndim, generator=generator)
    torch.testing.assert_close(resample(values, box=8, ndim=ndim), values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_larger_box_and_back_changes_nothing_below_nyquist(generator, ndim):
    values = torch.randn(*[8] * ndim, generator=generator)
    again = resample(resample(values, box=14, ndim=ndim), box=8, ndim=ndim)
    inner = (slice(1, None),) * ndim
    torch.testing.assert_close(
        fft_centred(again, ndim=ndim)[inner], fft_centred(values, ndim=ndim)[inner],
        rtol=0, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [(32, 16), (32, 24), (16, 32)])
def test_a_blob_stays_at_its_place_in_angstrom(old, new):
    # A Gaussian of σ = 1/11 of the field, a tenth of it from the centre, sampled by the formula. At
    # the edge and at the smaller box's Nyquist frequency it has 1e-4 of its height.
    def gaussian(box):
        ticks = (np.arange(box) - box // 2) / box
        y, x = np.meshgrid(ticks, ticks, indexing="ij")
        return np.exp(-((x - 0.1) ** 2 + (y + 0.05) ** 2) * 11**2 / 2)

    found = resample(torch.from_numpy(gaussian(old)).float(), box=new, ndim=2)
    expected = gaussian(new) * (old / new) ** 2  # of equal sum
    np.testing.assert_allclose(found, expected, atol=5e-4 * expected.max())


@pytest.mark.parametrize(("old", "new"), [(7, 4), (8, 5), (8, 2)])
def test_odd_and_tiny_boxes_are_refused(old, new):
    with pytest.raises(ConfigError, match="even number of pixels"):
        resample(torch.zeros(old, old), box=new, ndim=2)


def test_low_pass_is_a_hard_cut_of_the_spectrum(generator):
    volume = torch.randn(2, 12, 12, 12, generator=generator)
    found = low_pass(volume, resolution_angstrom=6.0, pixel_size_angstrom=1.5)
    # 1.5 Å / 6 Å is a quarter cycle per pixel, 3 of 12 voxels
    ticks = torch.arange(-6, 6)
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    kept = x**2 + y**2 + z**2 <= 9
    before, after = fft_centred(volume, ndim=3), fft_centred(found, ndim=3)
    torch.testing.assert_close(after, before * kept, rtol=0, atol=1e-4)
    again = low_pass(found, resolution_angstrom=6.0, pixel_size_angstrom=1.5)
    torch.testing.assert_close(again, found, rtol=0, atol=1e-6)


def test_low_pass_beyond_the_corners_changes_nothing(generator):
    volume = torch.randn(8, 8, 8, generator=generator)
    found = low_pass(volume, resolution_angstrom=1.0, pixel_size_angstrom=1.0)
    torch.testing.assert_close(found, volume, rtol=0, atol=1e-6)
