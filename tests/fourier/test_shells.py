"""Fourier shell correlation: its definition, its limits, the resolution read from it."""

import math

import numpy as np
import pytest
import torch

from raydrgn.errors import ConfigError
from raydrgn.fourier.shells import frequencies, resolution_at, shell_correlation, shell_index

BOX = 12


@pytest.fixture
def pair(generator):
    return torch.randn(2, 3, BOX, BOX, BOX, generator=generator)


def by_definition(a, b):
    """FSC_i over voxels with i−1 ≤ r < i, entry 0 := 1 (conventions.md, 2.16)."""
    spectra = [np.fft.fftshift(np.fft.fftn(v)) for v in (a, b)]
    ticks = np.arange(-(BOX // 2), BOX // 2)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    curve = [1.0]
    for i in range(1, BOX // 2):
        f, g = (s[(r >= i - 1) & (r < i)] for s in spectra)
        curve.append((f * g.conj()).sum().real / np.sqrt((abs(f) ** 2).sum() * (abs(g) ** 2).sum()))
    return curve


def test_it_is_what_its_definition_says(pair):
    found = shell_correlation(*pair)
    assert found.shape == (3, BOX // 2)
    for row, a, b in zip(found, *pair, strict=True):
        np.testing.assert_allclose(row, by_definition(a.numpy(), b.numpy()), atol=1e-5)


def test_a_volume_agrees_with_itself_at_any_positive_scale(pair):
    a = pair[0]
    ones = torch.ones(3, BOX // 2, dtype=torch.float64)
    for scale, sign in ((1.0, 1), (7.5, 1), (-2.0, -1)):
        found = shell_correlation(a, scale * a).double()
        torch.testing.assert_close(found[:, 1:], sign * ones[:, 1:], rtol=0, atol=1e-6)
        assert (found[:, 0] == 1).all()


def test_the_order_of_the_two_and_a_common_shift_make_no_difference(pair):
    expected = shell_correlation(*pair)
    torch.testing.assert_close(shell_correlation(pair[1], pair[0]), expected, rtol=0, atol=1e-6)
    moved = torch.roll(pair, (2, -3, 1), (-3, -2, -1))
    torch.testing.assert_close(shell_correlation(*moved), expected, rtol=0, atol=1e-5)


def test_noise_against_other_noise_is_within_its_error(generator):
    a, b = torch.randn(2, 24, 24, 24, generator=generator)
    curve = shell_correlation(a, b)
    counts = torch.bincount(shell_index(24).flatten())
    # Friedel mates count twice, so a shell of n voxels has a standard error of √(2/n)
    assert (curve[2:].abs() < 4 * (2 / counts[2:].double()).sqrt()).all()


def test_shells_without_power_are_zero(pair):
    zero = torch.zeros_like(pair[0])
    found = shell_correlation(pair[0], zero)
    assert found[:, 0].tolist() == [1] * 3
    assert not found[:, 1:].any()


def test_shells_hold_the_voxels_of_their_radii():
    index = shell_index(BOX)
    centre = BOX // 2
    assert index[centre, centre, centre] == 1  # DC belongs to the first shell
    assert index[centre, centre, centre + 1] == 2
    assert index[centre, centre + 3, centre + 4] == 0  # r = 5, the sixth shell, is none of 1 … 5
    assert index[centre, centre, centre + 4] == 5
    assert index[0, 0, 0] == 0
    assert index.max() == BOX // 2 - 1


def test_frequencies_are_cycles_per_pixel():
    assert frequencies(8).tolist() == [0, 0.125, 0.25, 0.375]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([1, 1, 1, 0.6, 0.4, 0.0], 12 * 2 / 3.5),  # half way between shells 3 and 4
        ([1, 0.5, 0.4, 0, 0, 0], 12 * 2 / 1.0),  # at the threshold itself
        ([1, 0.9, 0.2, 0.9, 0.2, 0], 12 * 2 / (1 + 0.4 / 0.7)),  # the first fall counts
        ([1, 1, 1, 1, 1, 1], 4.0),  # never: Nyquist
    ],
)
def test_resolution_is_where_the_curve_first_falls(curve, expected):
    found = resolution_at(torch.tensor(curve).float(), threshold=0.5, pixel_size_angstrom=2.0)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_curve_that_is_low_from_the_start_has_a_resolution_still():
    found = resolution_at(torch.tensor([1.0, 0, 0]), threshold=0.143, pixel_size_angstrom=1.0)
    assert found == pytest.approx(6 / 0.857, rel=1e-5)
    assert math.isfinite(found)


def test_odd_boxes_are_refused():
    with pytest.raises(ConfigError, match="even number of pixels"):
        shell_correlation(torch.zeros(7, 7, 7), torch.zeros(7, 7, 7))
