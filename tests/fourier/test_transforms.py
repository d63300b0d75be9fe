"""Centred transforms against sums written out, and back."""

import numpy as np
import pytest
import torch

from raydrgn.fourier.transforms import (
    disc_coefficients,
    fft_centred,
    hartley_from_disc,
    ifft_centred,
    images_from_disc,
    volumes_from_half,
)
from raydrgn.geometry.lattice import half_ball, half_disc

BOX = 8


def direct_sum(values, points, *, sign=-1):
    """F(k) = Σ f(r) exp(−2πi k·r / box), r from the centre pixel, x last of the axes."""
    box = values.shape[-1]
    ticks = np.arange(-(box // 2), box // 2)
    total = values.astype(complex)
    parts = []
    for point in points:
        part = total
        for k in point:  # x first: the last axis is summed first
            part = part @ np.exp(sign * 2j * np.pi * k * ticks / box)
        parts.append(part)
    return np.array(parts)


@pytest.fixture
def images(generator):
    return torch.randn(3, BOX, BOX, generator=generator)


@pytest.fixture
def volumes(generator):
    return torch.randn(2, BOX, BOX, BOX, generator=generator)


@pytest.mark.parametrize("box", [4, 6, 8])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_transform_is_the_sum_it_says(generator, box, ndim):
    values = torch.randn(*[box] * ndim, generator=generator, dtype=torch.float64)
    ticks = range(-(box // 2), box // 2)
    points = np.stack(np.meshgrid(*[ticks] * ndim, indexing="ij"), -1).reshape(-1, ndim)
    expected = direct_sum(values.numpy(), points[:, ::-1])
    found = fft_centred(values, ndim=ndim).reshape(-1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    torch.testing.assert_close(ifft_centred(fft_centred(values, ndim=ndim), ndim=ndim), values)


def test_a_point_at_the_centre_has_a_flat_spectrum():
    volume = torch.zeros(BOX, BOX, BOX)
    volume[BOX // 2, BOX // 2, BOX // 2] = 1
    spectrum = fft_centred(volume, ndim=3)
    torch.testing.assert_close(spectrum, torch.ones_like(spectrum), rtol=0, atol=0)


def test_disc_coefficients_are_the_sum_at_these_points(images):
    points = half_disc(BOX)
    found = torch.view_as_complex(disc_coefficients(images, points)).numpy()
    for image, row in zip(images.numpy(), found, strict=True):
        np.testing.assert_allclose(row, direct_sum(image, points.numpy()), atol=2e-5)


def test_disc_coefficients_shift_phases_with_the_image(images):
    # f'(x) = f(x − t) has F'(k) = F(k) exp(−2πi k·t / box); here t = (3, 1) moves (8,8) to (9,11)
    points = half_disc(BOX)
    moved = torch.roll(images, (1, 3), (-2, -1))
    phase = torch.polar(
        torch.ones(len(points)), -2 * torch.pi * (points @ torch.tensor([3, 1])) / BOX
    )
    before, after = (torch.view_as_complex(disc_coefficients(i, points)) for i in (images, moved))
    torch.testing.assert_close(after, before * phase, rtol=0, atol=2e-5)


def test_half_precision_is_widened_first():
    images = torch.full((1, 64, 64), 60.0, dtype=torch.float16)
    images[0, :32] = 0
    found = disc_coefficients(images, torch.tensor([[0, -1]]))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_images_of_their_own_coefficients_are_band_limited_images(images):
    points = half_disc(BOX)
    once = images_from_disc(disc_coefficients(images, points), points, box=BOX)
    twice = images_from_disc(disc_coefficients(once, points), points, box=BOX)
    # On the Nyquist axis k and −k are one sample of the image, whose coefficient is real.
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-6)
    assert once.mean(dim=(-1, -2)).abs().max() < 1e-7
    spectrum, kept = fft_centred(images, ndim=2), fft_centred(once, ndim=2)
    y, x = torch.meshgrid(*[torch.arange(-4, 4)] * 2, indexing="ij")
    inside = (x**2 + y**2 < 16) & (x**2 + y**2 > 0)
    torch.testing.assert_close(kept[:, inside], spectrum[:, inside], rtol=0, atol=1e-5)
    outside = x**2 + y**2 > 16
    torch.testing.assert_close(kept[:, outside].abs(), torch.zeros(3, int(outside.sum())),
                               rtol=0, atol=1e-5)  # fmt: skip


def test_images_are_the_inverse_sum(generator):
    # Nyquist left out: there, a discrete image cannot hold what coefficients ask for.
    points = half_disc(BOX)
    points = points[points.abs().amax(-1) < BOX // 2]
    coefficients = torch.randn(1, len(points), 2, generator=generator)
    values = torch.view_as_complex(coefficients)[0].numpy()
    ticks = np.arange(-4, 4)
    phase = np.exp(
        2j * np.pi * (points[:, 0, None, None].numpy() * ticks
                      + points[:, 1, None, None].numpy() * ticks[:, None]) / BOX
    )  # fmt: skip
    expected = 2 * np.einsum("n,nyx->yx", values, phase).real / BOX**2
    found = images_from_disc(coefficients, points, box=BOX)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_whole_cube_gives_the_volume_back(volumes):
    # All of the cube but Nyquist, whose samples belong to k and −k at once.
    points = half_ball(BOX, radius=BOX)
    points = points[points.abs().amax(-1) < BOX // 2]
    spectrum = fft_centred(volumes, ndim=3)
    x, y, z = (points + BOX // 2).unbind(1)
    coefficients = torch.view_as_real(spectrum[:, z, y, x])
    found = fft_centred(volumes_from_half(coefficients, points, box=BOX), ndim=3)
    inner = (slice(None),) + (slice(1, None),) * 3
    torch.testing.assert_close(found[inner], spectrum[inner], rtol=0, atol=1e-4)
    edge = found.clone()
    edge[inner] = 0
    assert edge.abs().max() < 1e-4


def test_a_single_wave_is_a_cosine():
    # F(k) = F(−k) = N³/2 is cos(2π k·r / N), r from the centre.
    points = torch.tensor([[1, -2, 0]])
    volume = volumes_from_half(torch.tensor([[[BOX**3 / 2, 0.0]]]), points, box=BOX)[0]
    ticks = np.arange(-4, 4)
    _, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    np.testing.assert_allclose(volume, np.cos(2 * np.pi * (x - 2 * y) / BOX), atol=1e-6)


def test_the_origin_is_its_own_mate():
    volume = volumes_from_half(torch.tensor([[[8.0**3, 0.0]]]), torch.zeros(1, 3).long(), box=8)
    torch.testing.assert_close(volume, torch.ones_like(volume))


def test_hartley_values_are_those_of_the_whole_disc(images):
    # H = Re F − Im F: Σ f (cos + sin), in the order of the disc's points
    half = half_disc(BOX)
    disc = torch.cat([half, -half.flip(0)]).numpy()
    found = hartley_from_disc(disc_coefficients(images, half))
    for image, row in zip(images.numpy(), found, strict=True):
        spectrum = direct_sum(image, disc)
        np.testing.assert_allclose(row, spectrum.real - spectrum.imag, atol=3e-5)
