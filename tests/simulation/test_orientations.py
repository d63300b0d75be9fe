"""Preferred orientations: their distribution, and how unevenly they cover Fourier space."""

import numpy as np
import pytest

from raydrgn.geometry.rotations import orthogonality_error, random_rotations
from raydrgn.simulation.acquisition import draw_acquisition, with_options
from raydrgn.simulation.options import Simulation
from raydrgn.simulation.orientations import CONCENTRATION, PREFERRED, preferred_rotations

COUNT = 20_000


@pytest.fixture(scope="module")
def rotations():
    """Preferred orientations of many particles."""
    return preferred_rotations(COUNT, generator=np.random.default_rng(0))


def test_preferred_orientations_are_rotations(rotations):
    assert orthogonality_error(rotations).max() < 1e-12


@pytest.mark.parametrize(("direction", "share"), PREFERRED)
def test_each_preferred_direction_has_its_share_of_the_views(rotations, direction, share):
    assert np.linalg.norm(direction) == pytest.approx(1)
    cosine = rotations[:, 2] @ np.array(direction)
    # within 30°: of a von Mises-Fisher distribution 1 − e^{−κ(1 − cos 30°)}, of the uniform part
    # (1 − cos 30°) / 2; the other directions are more than 60° away
    gap = 1 - np.cos(np.deg2rad(30))
    uniform = 1 - sum(share for _, share in PREFERRED)
    expected = share * (1 - np.exp(-CONCENTRATION * gap)) + uniform * gap / 2
    assert (cosine > 1 - gap).mean() == pytest.approx(expected, abs=0.02)


def test_an_axis_across_a_preferred_direction_has_an_sd_of_10_degrees(rotations):
    direction, _ = PREFERRED[0]
    views = rotations[:, 2]
    near = views[views @ np.array(direction) > np.cos(np.deg2rad(35))]
    across = near @ np.array([2 / 3, -2 / 3, 1 / 3])
    assert np.rad2deg(np.arcsin(across)).std() == pytest.approx(10, abs=0.7)


def test_particles_turn_evenly_in_plane(rotations):
    # the direction of the volume's z axis in the image, of views across it
    [x, y] = rotations[:, :2, 2].T
    angle = np.arctan2(y, x)
    for order in (1, 2):
        assert abs(np.exp(1j * order * angle).mean()) < 5 / np.sqrt(COUNT)


def coverage(rotations):
    """Return how often slices pass within 3° of each of many directions of Fourier space."""
    directions = random_rotations(400, generator=np.random.default_rng(1))[:, 2]
    near = np.abs(rotations[:, 2] @ directions.T) < np.sin(np.deg2rad(3))
    return near.mean(0)


def test_fourier_space_is_covered_unevenly_but_everywhere(rotations):
    even = coverage(random_rotations(COUNT, generator=np.random.default_rng(2)))
    uneven = coverage(rotations)
    # each slice through the origin takes the same share of the directions
    assert uneven.mean() == pytest.approx(even.mean(), rel=0.05)
    assert even.min() / even.max() > 0.7
    assert uneven.min() / uneven.max() < 0.15
    # the uniform part of 20 % leaves nothing out
    assert uneven.min() > 0.1 * even.mean()


def test_an_acquisition_has_them_and_keeps_everything_else():
    drawn = draw_acquisition(500, generator=np.random.default_rng(0))
    biased = with_options(drawn, Simulation(pose_bias="preferred", seed=3))
    again = with_options(drawn, Simulation(pose_bias="preferred", seed=3, contrast_sd=0.1))
    assert np.linalg.norm(biased.rotations[:, 2].mean(0)) > 0.4
    assert np.linalg.norm(drawn.rotations[:, 2].mean(0)) < 0.15
    np.testing.assert_array_equal(biased.rotations, again.rotations)
    np.testing.assert_array_equal(biased.shifts_fraction, drawn.shifts_fraction)
    np.testing.assert_array_equal(biased.ctf, drawn.ctf)
