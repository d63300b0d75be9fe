"""Whether differences of two halves agree, on volumes whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from raydrgn.errors import InputError
from raydrgn.fourier.resample import low_pass
from raydrgn.fourier.shells import shell_index
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.halves.agreement import (
    OF_AUTOENCODER,
    OF_MIXTURE,
    compare_state,
    local_correlation,
    local_resolution,
)
from raydrgn.halves.states import find_states

BOX, PIXEL = 32, 3.0


def smooth_noise(seed, width=1.0):
    values = np.random.default_rng(seed).standard_normal((BOX,) * 3)
    return gaussian_filter(values, width).astype(np.float32)


@pytest.fixture(scope="module")
def mean():
    """A ball with structure in it."""
    ticks = np.arange(BOX) - BOX // 2
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(ticks, ticks, ticks)))
    ball = gaussian_filter((radius < 10).astype(np.float32), 1.0)
    return (ball * (1 + smooth_noise(1) * 4)).astype(np.float32), (radius < 9)


def compare(mean, differences, *, noise=0.05):
    volume, inside = mean
    halves = [
        volume + difference * inside + noise * smooth_noise(10 + k, 0.3)
        for k, difference in enumerate(differences)
    ]
    return compare_state(
        (halves[0].astype(np.float32), halves[1].astype(np.float32)),
        (volume, volume),
        mask=inside.astype(np.float32),
        pixel_size_angstrom=PIXEL,
        limits=OF_MIXTURE,
        generator=torch.Generator().manual_seed(0),
    )


def test_a_difference_that_both_halves_have_is_real(mean):
    shared = 3 * smooth_noise(2)
    found = compare(mean, (shared, shared))
    assert found.correlation > 0.9
    assert found.judgement == "reproduced"
    assert found.difference_resolution_angstrom < 4 * PIXEL
    assert found.local[mean[1]].mean() > 0.9


def test_differences_of_their_own_are_not_supported_though_volumes_agree(mean):
    found = compare(mean, (smooth_noise(3), 0.3 * smooth_noise(3) + smooth_noise(4)))
    assert found.fsc[1:5].min() > 0.9
    assert found.correlation < 0.5
    assert found.judgement == "not reproduced"
    assert abs(found.local[mean[1]].mean()) < 0.3


@pytest.mark.parametrize("width", [2.0, 4.0])
def test_noise_is_never_reproduced_however_few_shells_volumes_agree_in(mean, width):
    few = 0
    for seed in range(20):
        own = [smooth_noise(100 + 2 * seed + half, width) for half in range(2)]
        found = compare(mean, [3 * mean[0].std() * noise / noise.std() for noise in own])
        few += found.num_shells < 3
        assert found.judgement in ("no clear difference", "not reproduced", "partly reproduced")
    assert few >= 3


def test_the_zero_frequency_does_not_count(mean):
    """The sums of two differences have a correlation of 1 or −1, whatever they are."""
    found = compare(mean, (smooth_noise(3), smooth_noise(4)))
    curve = torch.zeros(BOX // 2)
    curve[:2] = 1
    assert replace(found, difference_fsc=curve).correlation == 0
    curve[1:] = torch.tensor([-1.0, *[0.5] * (BOX // 2 - 2)])
    assert replace(found, difference_fsc=curve).correlation == pytest.approx(0.5)


def test_shells_are_compared_to_the_resolution_and_count_as_nothing_where_negative(mean):
    found = compare(mean, (smooth_noise(3), smooth_noise(4)))
    fsc, curve = torch.zeros(2, BOX // 2)
    fsc[:6] = torch.tensor([1.0, 1.0, 0.9, 0.8, 0.2, 0.1])  # below 0.143 from entry 5 on
    curve[:6] = torch.tensor([1.0, 1.0, 0.9, -0.6, 0.3, 1.0])
    found = replace(found, fsc=fsc, difference_fsc=curve)
    assert found.num_shells == 3
    assert found.correlation == pytest.approx((0.9 + 0 + 0.3) / 3)
    assert replace(found, fsc=torch.ones(BOX // 2)).num_shells == BOX // 2 - 2


def test_a_difference_that_is_next_to_nothing_is_none(mean):
    shared = 0.0003 * smooth_noise(2)
    found = compare(mean, (shared, shared), noise=0.0)
    assert found.correlation > 0.9
    assert found.amplitude < 0.001
    assert found.judgement == "no clear difference"


@pytest.mark.parametrize("radius", [1.5, 2.0, 4.0])
def test_a_small_lobe_is_reproduced_where_both_halves_show_it_clearly(mean, radius):
    """Half of the particles lack it; with little noise, its amplitude does not matter."""
    z, y, x = np.indices(mean[0].shape) - BOX // 2
    lobe = (np.sqrt(z**2 + y**2 + (x - 7) ** 2) < radius).astype(np.float32)
    missing = -0.5 * mean[0] * gaussian_filter(lobe, 1.0)
    found = compare(mean, (missing, missing), noise=0.005)
    assert (found.amplitude < 0.06) == (radius < 4)
    assert found.judgement == "reproduced"
    if radius < 4:  # of this noise it cannot be told
        assert compare(mean, (missing, missing), noise=0.05).judgement == "no clear difference"


def test_of_an_autoencoder_a_difference_that_noise_makes_too_is_not_judged(mean):
    """Of particles in one state, autoencoders had 17 % with a correlation of 0.70."""
    for size, judgement in ((0.17, "no clear difference"), (0.3, "reproduced")):
        shape = smooth_noise(2) * mean[1]
        shared = size * np.sqrt((mean[0] ** 2 * mean[1]).sum() / (shape**2).sum()) * shape
        found = replace(compare(mean, (shared, shared), noise=0.01), limits=OF_AUTOENCODER)
        assert found.correlation > 0.8
        assert found.amplitude == pytest.approx(size, rel=0.1)
        assert found.judgement == judgement
        assert replace(found, limits=OF_MIXTURE).judgement == "reproduced"


def test_a_difference_in_all_shells_is_shown_as_it_is_and_compared_in_the_narrowest_window(mean):
    inside = mean[1].astype(np.float32)
    shared = 3 * smooth_noise(2)
    found = compare(mean, (shared, shared), noise=0.0)
    assert found.resolution_angstrom == 2 * PIXEL
    own = compare(mean, (shared, shared + smooth_noise(3)), noise=0.0)
    assert own.resolution_angstrom == 2 * PIXEL
    smooth = [
        low_pass(torch.from_numpy(d * inside), resolution_angstrom=2.0, pixel_size_angstrom=1.0)
        for d in (shared, shared + smooth_noise(3))
    ]
    np.testing.assert_allclose(found.difference, smooth[0].numpy() * inside, atol=1e-4)
    # three quarters of a period of two voxels
    expected = local_correlation(*(part.numpy() for part in smooth), width=1.5)
    np.testing.assert_allclose(own.local[mean[1]], expected[mean[1]], atol=1e-4)


def test_sums_of_opposite_sign_leave_the_resolution_of_differences(mean):
    shared = 3 * smooth_noise(2)
    shared = shared - shared[mean[1]].mean()
    found = compare(mean, (shared + 0.02, shared - 0.02))
    assert found.difference_fsc[1] == pytest.approx(-1)
    assert found.difference_resolution_angstrom < 4 * PIXEL


def test_strong_low_frequencies_do_not_leak_into_shells_of_noise(mean):
    volume, inside = mean
    shared = volume + 30 * smooth_noise(2, 5.0)  # without the edge that the mask then gives it
    found = compare_state(
        (shared + 0.3 * smooth_noise(10, 0.3), shared + 0.3 * smooth_noise(11, 0.3)),
        (volume, volume),
        mask=inside.astype(np.float32),
        pixel_size_angstrom=PIXEL,
        limits=OF_MIXTURE,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.difference_fsc[2] > 0.7
    assert found.difference_fsc[6:9].max() < 0.2  # 0.8 to 0.4 of the mask's edge


def test_few_shells_of_a_weak_difference_are_no_clear_one(mean):
    found = compare(mean, (smooth_noise(3), smooth_noise(4)))
    fsc, curve = torch.zeros(BOX // 2), torch.ones(BOX // 2)
    fsc[:4] = 1
    weak = replace(found, fsc=fsc, difference_fsc=curve, amplitude=0.05)
    assert (weak.num_shells, weak.correlation) == (2, 1)
    assert weak.judgement == "no clear difference"
    assert replace(weak, amplitude=0.07).judgement == "not reproduced"
    fsc = torch.ones(BOX // 2)
    assert replace(weak, fsc=fsc).judgement == "reproduced"


def test_the_region_that_differs_is_found(mean):
    """Both halves agree in one part of the box, and each goes its own way in the other."""
    left = np.arange(BOX)[:, None, None] < BOX // 2
    shared = 3 * smooth_noise(5)
    found = compare(mean, [np.where(left, shared, 3 * smooth_noise(k)) for k in (6, 7)])
    half = BOX // 2
    assert found.local[: half - 4][mean[1][: half - 4]].mean() > 0.8
    assert found.local[half + 4 :][mean[1][half + 4 :]].mean() < 0.4


def test_local_correlation_is_that_of_the_window():
    a, b = smooth_noise(8), smooth_noise(9)
    np.testing.assert_allclose(local_correlation(a, a, width=2), 1, atol=1e-6)
    np.testing.assert_allclose(local_correlation(a, -a, width=2), -1, atol=1e-6)
    whole = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    wide = local_correlation(a, b, width=100)
    assert wide[BOX // 2, BOX // 2, BOX // 2] == pytest.approx(whole, abs=0.02)


def test_local_resolution_is_finer_where_less_noise_is():
    volume, inside = smooth_noise(11, 0.4), np.ones((BOX,) * 3, bool)
    right = np.arange(BOX)[:, None, None] >= BOX // 2
    halves = [volume + np.where(right, 1.5, 0.02) * smooth_noise(k, 0.4) for k in (12, 13)]
    first, second = (half.astype(np.float32) for half in halves)
    found = local_resolution(first, second, inside=inside, pixel_size_angstrom=PIXEL)
    assert found[:8].mean() < 4 * PIXEL
    assert found[-8:].mean() > 2 * found[:8].mean()


@pytest.mark.parametrize(
    ("noisy", "expected"), [((3, 16), 2), ((9, 16), 8), ((9, 10), 8), ((11, 12), 10), ((0, -1), 14)]
)
def test_local_resolution_is_that_of_the_last_shell_before_one_of_noise(noisy, expected):
    # bands of two shells from shell 3 on; the last is the one before Nyquist
    shells = shell_index(BOX)
    own = (shells >= noisy[0]) & (shells <= noisy[1])
    shared, noise1, noise2 = (
        ifft_centred(fft_centred(torch.from_numpy(smooth_noise(seed, 0)), ndim=3) * kept, ndim=3)
        for seed, kept in ((14, ~own), (15, own), (16, own))
    )
    first, second = (shared + noise1).numpy(), (shared + noise2).numpy()
    inside = np.zeros((BOX,) * 3, bool)
    inside[4:-4, 4:-4, 4:-4] = True
    found = local_resolution(first, second, inside=inside, pixel_size_angstrom=PIXEL)
    # chance brings 0.5 to a noisy window rarely
    assert np.isclose(found[inside], BOX * PIXEL / expected).mean() > 0.99
    assert not found[~inside].any()


def test_local_resolution_ends_at_noise_where_it_is_and_not_elsewhere():
    shells = shell_index(BOX)
    noise = [
        ifft_centred(
            fft_centred(torch.from_numpy(smooth_noise(seed, 0)), ndim=3)
            * ((shells == 9) | (shells == 10)),
            ndim=3,
        ).numpy()
        for seed in (15, 16)
    ]
    right = (np.arange(BOX) >= BOX // 2)[:, None, None]
    first, second = (smooth_noise(14, 0) + 2 * right * own for own in noise)
    found = local_resolution(
        first, second, inside=np.ones((BOX,) * 3, bool), pixel_size_angstrom=PIXEL
    )
    core = (slice(8, -8),) * 2
    assert np.isclose(found[(slice(22, 28), *core)], BOX * PIXEL / 8).mean() > 0.95
    assert np.isclose(found[(slice(4, 10), *core)], BOX * PIXEL / 14).mean() > 0.95


def test_states_are_at_the_mean_of_each_half_s_own_latents():
    labels = np.array([0, 0, 1, 1] * 20 + [2, 2])
    latents, rows = [], (np.arange(0, len(labels), 2), np.arange(1, len(labels), 2))
    for half, sign in ((1, 1.0), (2, -1.0)):
        mine = labels[rows[half - 1]]
        latents.append(np.stack([sign * mine, np.full(len(mine), half)], axis=1))
    states = find_states(labels, rows, (latents[0], latents[1]))
    assert states.numbers.tolist() == [0, 1]
    assert states.left_out.tolist() == [2]
    assert states.sizes.tolist() == [[20, 20], [20, 20]]
    np.testing.assert_array_equal(states.z[0], [[0, 1], [1, 1]])
    np.testing.assert_array_equal(states.z[1], [[0, 2], [-1, 2]])
    few = (np.arange(0, 12, 2), np.arange(1, 12, 2))
    with pytest.raises(InputError, match="Only 0 of 3 clusters have 10 particles"):
        find_states(np.arange(12) % 3, few, (latents[0][-6:], latents[1][-6:]))


def test_a_state_needs_its_particles_in_each_half():
    mine, other = np.repeat([0, 1, 2], [15, 12, 10]), np.repeat([0, 1, 2], [9, 12, 10])
    rows = np.arange(37), 37 + np.arange(31)
    z = [np.zeros((len(labels), 1), np.float32) for labels in (mine, other)]
    states = find_states(np.concatenate([mine, other]), rows, (z[0], z[1]))
    assert states.numbers.tolist() == [1, 2]
    assert states.sizes.tolist() == [[12, 12], [10, 10]]
    assert states.left_out.tolist() == [0]
