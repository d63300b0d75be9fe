"""The forward model: projections, shifts, CTF, noise, each against its definition."""

import numpy as np
import pytest
import torch

from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.config import ImageConfig
from raydrgn.data.preprocess import Preparation
from raydrgn.fourier.transforms import disc_coefficients
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.simulation.acquisition import Acquisition, draw_acquisition
from raydrgn.simulation.ensemble import Ensemble, of_phantom, with_junk
from raydrgn.simulation.images import ForwardModel
from raydrgn.simulation.junk import STRENGTH
from raydrgn.simulation.phantom import ASSEMBLY

BOX, PIXEL_SIZE = 16, 10.0
# A defocus of 0 with a phase shift of 90° leaves CTF = −1 everywhere: a perfect phase plate.
PLAIN = {"voltage_kv": 300.0, "phase_shift_deg": 90.0}


@pytest.fixture(scope="module")
def volume():
    """Two Gaussian blobs of σ = 1.6 px, well within the box."""
    ticks = np.arange(-8, 8)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    first = np.exp(-((x - 2) ** 2 + (y + 1) ** 2 + z**2) / (2 * 1.6**2))
    second = np.exp(-(x**2 + y**2 + (z - 2) ** 2) / (2 * 1.6**2))
    return (first + 0.5 * second).astype(np.float32)


def model_of(volume, rotations, shifts=None, *, contrast=None, b_factor=0.0, **optics):
    count = len(rotations)
    columns = [np.full(count, (PLAIN | optics).get(name, 0.0)) for name in CTF_COLUMNS]
    ensemble = Ensemble(
        volumes=volume[None],
        pixel_size_angstrom=PIXEL_SIZE,
        state_names=["only"],
        labels=np.zeros(count, dtype=np.int64),
        shown=np.zeros(count, dtype=np.int64),
    )
    acquisition = Acquisition(
        rotations=np.float32(rotations),
        shifts_fraction=np.zeros((count, 2), np.float32) if shifts is None else np.float32(shifts),
        ctf=np.stack(columns, axis=-1).astype(np.float32),
        contrast=None if contrast is None else np.float32(contrast),
        b_factor_angstrom2=b_factor,
    )
    return ForwardModel(ensemble, acquisition)


def without_mean(image):
    return image - image.mean()


def compare(found, expected, tolerance=0.01):
    """Compare images of mean 0; interpolation is exact to 2e-3 of the largest coefficient."""
    expected = without_mean(expected)
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_a_projection_is_the_sum_along_the_viewing_direction(volume):
    [image] = model_of(volume, np.eye(3)[None]).clean(0, 1)
    compare(image, volume.sum(0))


@pytest.mark.parametrize(
    ("rotation", "project"),
    [
        # rows are the image's x, y and viewing axes in the volume (conventions.md, 2.1)
        ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], lambda v: v.sum(2)),
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], lambda v: v.sum(1).T),
    ],
    ids=["along x", "along y"],
)
def test_turned_projections_are_sums_along_other_axes(volume, rotation, project):
    [image] = model_of(volume, np.array([rotation])).clean(0, 1)
    compare(image, project(volume))


def test_particles_are_bright_after_inversion(volume):
    [image] = model_of(volume, np.eye(3)[None]).clean(0, 1)
    assert np.corrcoef(image.ravel(), volume.sum(0).ravel())[0, 1] > 0.999


def test_the_stored_shift_centres_the_particle(volume):
    # fractions of the box: 2 px and −1 px, so the particle lies 2 px to the left, 1 px down
    shifts = [[2 / BOX, -1 / BOX]]
    model = model_of(volume, np.eye(3)[None], shifts)
    compare(model.clean(0, 1)[0], np.roll(volume.sum(0), (1, -2), (0, 1)))
    # and preparing the image with its shift gives that of a centred particle
    preparation = Preparation(ImageConfig(box=BOX, window=False, invert=False))
    found = preparation(model.clean(0, 1), np.float32([[2, -1]]))
    centred = model_of(volume, np.eye(3)[None]).clean(0, 1)
    expected = disc_coefficients(torch.from_numpy(centred), half_disc(BOX))
    # the Nyquist axis of an image cannot hold a phase
    inside = half_disc(BOX).abs().amax(-1) < BOX // 2
    torch.testing.assert_close(found[:, inside], expected[:, inside], rtol=0, atol=1e-3)


def test_the_ctf_multiplies_the_spectrum(volume):
    optics = {"defocus_u_angstrom": 15_000.0, "defocus_v_angstrom": 14_000.0,
              "defocus_angle_deg": 30.0, "spherical_aberration_mm": 2.7,
              "amplitude_contrast": 0.1, "phase_shift_deg": 0.0}  # fmt: skip
    points = half_disc(BOX)
    plain, filtered = (
        torch.view_as_complex(disc_coefficients(torch.from_numpy(m.clean(0, 1)), points))
        for m in (model_of(volume, np.eye(3)[None]), model_of(volume, np.eye(3)[None], **optics))
    )
    columns = torch.tensor([[(PLAIN | optics)[name] for name in CTF_COLUMNS]])
    freqs = plane_coordinates(points, BOX)[None, :, :2] / PIXEL_SIZE
    transfer = contrast_transfer(freqs, CTFParameters.from_columns(columns))
    inside = points.abs().amax(-1) < BOX // 2
    expected = -plain * transfer
    torch.testing.assert_close(filtered[:, inside], expected[:, inside], rtol=0, atol=1e-3)


def test_contrast_scales_the_signal_and_leaves_the_noise(volume):
    rotations = np.tile(np.eye(3), (50, 1, 1))
    contrast = np.linspace(0.1, 2.0, 50)
    plain, scaled = model_of(volume, rotations), model_of(volume, rotations, contrast=contrast)
    true = plain.clean(0, 50)
    # the coefficient of the true projection, by least squares
    found = (scaled.clean(0, 50) * true).sum((1, 2)) / (true**2).sum((1, 2))
    np.testing.assert_allclose(found, contrast, rtol=1e-5)
    deviation = plain.noise_sd(0.1)
    assert scaled.noise_sd(0.1) == deviation
    first, second = (
        np.concatenate(list(m.noisy(noise_sd=deviation, generator=np.random.default_rng(0))))
        for m in (plain, scaled)
    )
    noise = second - contrast[:, None, None] * true
    np.testing.assert_allclose(noise, first - true, atol=1e-4 * deviation)


def test_a_b_factor_damps_the_spectrum(volume):
    points = half_disc(BOX)
    plain, damped = (
        torch.view_as_complex(disc_coefficients(torch.from_numpy(m.clean(0, 1)), points))
        for m in (model_of(volume, np.eye(3)[None], b_factor=b) for b in (0.0, 4000.0))
    )
    s2 = plane_coordinates(points, BOX).square().sum(-1) / PIXEL_SIZE**2  # 1/Å²
    envelope = torch.exp(-4000 * s2 / 4)
    assert envelope.min() == pytest.approx(np.exp(-2.5))  # at 20 Å, Nyquist
    inside = points.abs().amax(-1) < BOX // 2
    torch.testing.assert_close(damped[:, inside], (plain * envelope)[:, inside], rtol=0, atol=1e-3)


def test_noise_is_white_and_has_the_power_asked_for(volume):
    rotations = np.tile(np.eye(3), (200, 1, 1))
    model = model_of(volume, rotations)
    clean = model.clean(0, 200)
    deviation = model.noise_sd(0.1)
    # SNR: variance of the signal over that of the noise, over all pixels
    assert clean.var() / deviation**2 == pytest.approx(0.1, rel=1e-5)
    generator = np.random.default_rng(0)
    noisy = np.concatenate(list(model.noisy(noise_sd=deviation, generator=generator)))
    noise = noisy - clean
    # 51,200 samples: 0.3 % of the deviation
    assert noise.std() == pytest.approx(deviation, rel=0.015)
    assert abs(noise.mean()) < 5 * deviation / np.sqrt(noise.size)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0) / (BOX * deviation) ** 2
    assert np.abs(power - 1).max() < 5 / np.sqrt(100)  # 200 images, k and −k one sample


def test_blocks_make_no_difference(volume, monkeypatch):
    monkeypatch.setattr("raydrgn.simulation.images.BLOCK", 3)
    model = model_of(volume, np.tile(np.eye(3), (7, 1, 1)))
    blocks = list(model.noisy(noise_sd=0.0, generator=np.random.default_rng(0)))
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(blocks), model.clean(0, 7), atol=1e-6)


def test_junk_shows_no_particle_and_is_stronger():
    whole = of_phantom(ASSEMBLY, num_particles=300, box=16, generator=np.random.default_rng(0))
    mixed = with_junk(whole, 0.2, generator=np.random.default_rng(1))
    junk = mixed.is_junk()
    assert np.bincount(mixed.labels)[-2:].tolist() == [30, 30]
    assert mixed.state_names[-2:] == ["junk: ice", "junk: edge"]
    assert not mixed.volumes[mixed.shown[junk]].any()
    assert np.isnan(mixed.motion_deg[junk]).all()
    # each particle that stays shows the volume that it showed before
    np.testing.assert_array_equal(
        mixed.volumes[mixed.shown[~junk]], whole.volumes[whole.shown[~junk]]
    )
    acquisition = draw_acquisition(300, generator=np.random.default_rng(2))
    clean = ForwardModel(mixed, acquisition).clean(0, 300)
    before = ForwardModel(whole, acquisition).clean(0, 300)
    np.testing.assert_array_equal(clean[~junk], before[~junk])
    ratio = clean[junk].std(axis=(1, 2)) / clean[~junk].std()
    assert STRENGTH[0] <= ratio.min() < 2.5
    assert 4.5 < ratio.max() <= STRENGTH[1]
    # the same picture whichever block it is drawn in
    row = int(np.flatnonzero(junk)[-1])
    np.testing.assert_allclose(
        ForwardModel(mixed, acquisition).clean(row, row + 1)[0], clean[row], rtol=1e-4, atol=1e-3
    )
