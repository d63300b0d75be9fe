"""Soft masks: the definition of conventions.md, 2.16, shape by shape."""

import numpy as np
import pytest
from scipy import ndimage

from raydrgn.fourier.masks import soft_mask, soft_sphere


def point(box=25):
    volume = np.zeros((box, box, box), dtype=np.float32)
    volume[box // 2, box // 2, box // 2] = 1
    return volume


def distances(box):
    ticks = np.arange(box) - box // 2
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    return np.abs(x) + np.abs(y) + np.abs(z), np.sqrt(x**2 + y**2 + z**2)


def test_dilation_steps_to_the_six_neighbours():
    steps, _ = distances(25)
    mask = soft_mask(point(), pixel_size_angstrom=2.0, dilate_angstrom=7.9, edge_angstrom=0.0,
                     threshold=0.5)  # fmt: skip
    np.testing.assert_array_equal(mask, steps <= 3)  # 7.9 Å are three whole pixels of 2 Å
    assert set(np.unique(mask).tolist()) == {0, 1}


def test_the_edge_falls_as_a_cosine_of_the_euclidean_distance():
    _, r = distances(25)
    mask = soft_mask(point(), pixel_size_angstrom=2.0, dilate_angstrom=0.0, edge_angstrom=10.0,
                     threshold=0.5)  # fmt: skip
    expected = np.cos(np.pi / 2 * np.minimum(r, 5) / 5).round(6)
    np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_the_threshold_is_half_of_the_99_99th_percentile():
    volume = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    level = np.percentile(volume, 99.99) / 2
    mask = soft_mask(volume, pixel_size_angstrom=1.0, dilate_angstrom=0.0, edge_angstrom=0.0)
    np.testing.assert_array_equal(mask.astype(bool), volume >= level)


@pytest.mark.parametrize("scale", [0.01, 1.0, 250.0])
def test_the_scale_of_a_map_makes_no_difference(scale):
    volume = ndimage.gaussian_filter(point(), 3.0)
    expected = soft_mask(volume, pixel_size_angstrom=5.0)
    np.testing.assert_array_equal(soft_mask(scale * volume, pixel_size_angstrom=5.0), expected)


def test_masks_reach_as_far_as_dilation_and_edge_say():
    mask = soft_mask(point(), pixel_size_angstrom=5.0, threshold=0.5)  # 25 Å and 15 Å
    line = mask[12, 12, 12:]
    assert line[:6].tolist() == [1] * 6
    np.testing.assert_allclose(line[5:9], np.cos(np.pi / 2 * np.arange(4) / 3), atol=1e-6)
    assert not line[8:].any()


def test_a_sphere_is_round_and_fits_the_box():
    mask = soft_sphere(24, edge_px=3.0)
    ticks = np.arange(-12, 12)
    r = np.sqrt(sum(axis**2 for axis in np.meshgrid(ticks, ticks, ticks, indexing="ij")))
    assert (mask[r <= 8] == 1).all()
    assert np.abs(mask[r >= 11]).max() < 1e-7
    np.testing.assert_allclose(mask[12, 12, 12 + 9], np.cos(np.pi / 2 / 3), atol=1e-6)
    # Its content: a ball of 8 px, and shells of the edge under their cosine.
    shells = np.linspace(8, 11, 301)
    edge = np.trapezoid(4 * np.pi * shells**2 * np.cos(np.pi / 2 * (shells - 8) / 3), shells)
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * 8**3 + edge, rel=0.01)
