"""Images to coefficients: window, sign, scale, shift, and images that cannot be used."""

import numpy as np
import pytest
import torch

from phantoms import images_of
from raydrgn.data.config import ImageConfig
from raydrgn.data.preprocess import Preparation, find_bad, soft_window
from raydrgn.fourier.transforms import disc_coefficients, images_from_disc
from raydrgn.geometry.lattice import half_disc

BOX = 12


def prepared(images, shifts=None, **config):
    shifts = np.zeros((len(images), 2), np.float32) if shifts is None else np.float32(shifts)
    return Preparation(ImageConfig(box=images.shape[-1], **config))(images, shifts)


@pytest.mark.parametrize("radius", [0.5, 0.85])
def test_the_window_is_that_of_the_formula(radius):
    # conventions.md, 2.8: w(r) = clip(1 − (r − r0) / (0.99 − r0), 0, 1), r = 1 at the edge
    ticks = np.linspace(-1, 1, BOX + 1)[:-1]
    r = np.hypot(*np.meshgrid(ticks, ticks))
    expected = np.clip(1 - (r - radius) / (0.99 - radius), 0, 1)
    np.testing.assert_allclose(soft_window(BOX, radius=radius), expected, atol=1e-7)


def test_the_window_is_one_within_and_zero_in_the_corners():
    window = soft_window(64, radius=0.85)
    assert window[32, 32] == 1
    assert window[32, 32 + 27] == 1  # 27/32 < 0.85
    assert window[0, 0] == window[32, 0] == 0


def test_a_prepared_image_is_its_transform_windowed_scaled_and_signed():
    images = images_of(3, box=BOX)
    window = soft_window(BOX, radius=0.85).numpy()
    expected = disc_coefficients(torch.from_numpy(-images * window / 2.5), half_disc(BOX))
    torch.testing.assert_close(prepared(images, scale=2.5), expected, rtol=0, atol=1e-5)


def test_settings_switch_window_and_sign_off():
    images = images_of(3, box=BOX)
    expected = disc_coefficients(torch.from_numpy(images), half_disc(BOX))
    found = prepared(images, window=False, invert=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    inverted = prepared(images, window=False)
    torch.testing.assert_close(inverted, -expected, rtol=0, atol=1e-5)


def test_a_shift_moves_a_feature_as_relion_s_origins_do():
    # conventions.md, 2.1: t = (3, 1) moves a feature from row 8, column 8 to row 9, column 11
    image = np.zeros((1, 16, 16), dtype=np.float32)
    image[0, 8, 8] = 1
    found = prepared(image, [[3, 1]], window=False, invert=False)
    moved = images_from_disc(found, half_disc(16), box=16)[0]
    assert divmod(int(moved.argmax()), 16) == (9, 11)


def test_whole_shifts_are_rolls_of_the_windowed_image():
    images = images_of(2, box=BOX)
    window = soft_window(BOX, radius=0.85).numpy()
    rolled = np.roll(images * window, (-2, 3), (1, 2))
    expected = disc_coefficients(torch.from_numpy(rolled), half_disc(BOX))
    found = prepared(images, [[3, -2]] * 2, invert=False)
    # Points on the Nyquist axis belong to k and −k at once: the roll knows one phase of the two.
    inside = half_disc(BOX).abs().amax(-1) < BOX // 2
    torch.testing.assert_close(found[:, inside], expected[:, inside], rtol=0, atol=2e-5)


def test_shifts_add_up_and_keep_the_power():
    images = images_of(1, box=BOX)
    once, there = prepared(images), prepared(images, [[1.3, -0.7]])
    turns = half_disc(BOX).float() @ torch.tensor([1.3, -0.7]) / BOX
    phase = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
    expected = torch.view_as_complex(once) * phase
    torch.testing.assert_close(torch.view_as_complex(there), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(there.square().sum(-1), once.square().sum(-1), rtol=1e-4, atol=1e-5)


def test_other_points_may_be_asked_for():
    images, points = images_of(2, box=BOX), torch.tensor([[0, -1], [-3, -2]])
    preparation = Preparation(ImageConfig(box=BOX), points=points)
    every = prepared(images)
    lattice = half_disc(BOX).tolist()
    where = [lattice.index(point) for point in points.tolist()]
    found = preparation(images, np.zeros((2, 2), np.float32))
    torch.testing.assert_close(found, every[:, where], rtol=0, atol=1e-6)


def test_bad_images_are_found_and_no_others():
    images = images_of(7, box=BOX)
    images[1, 3, 4] = np.nan
    images[2, 0, 0] = np.inf
    images[3, 5, 5] = -np.inf
    images[4] = 0
    images[5] = 1e-3
    images[6] = 0
    images[6, 0, 0] = 1e-3  # one pixel is enough
    assert find_bad(images).tolist() == [False, True, True, True, True, True, False]
