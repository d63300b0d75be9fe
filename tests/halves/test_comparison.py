"""The volumes of all states by both halves, compared with their mean."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from raydrgn.halves.agreement import OF_MIXTURE
from raydrgn.halves.comparison import compare_halves
from raydrgn.halves.states import States

BOX = 24


@pytest.fixture
def volumes():
    """Four balls, each with structure of its own."""
    rng = np.random.default_rng(0)
    ticks = np.indices((BOX,) * 3) - BOX // 2
    ball = gaussian_filter((np.sqrt((ticks**2).sum(axis=0)) < 7).astype(np.float32), 1.0)
    made = [ball * (2 + gaussian_filter(rng.normal(size=ball.shape), 1.0)) for _ in range(4)]
    return [volume.astype(np.float32) for volume in made]


@pytest.fixture
def states():
    """A state of three quarters of the particles, four fifths of the first half's, and another."""
    z = np.zeros((2, 1), np.float32)
    sizes = np.array([[40, 20], [10, 10]])
    return States(numbers=np.arange(2), sizes=sizes, z=(z, z), left_out=np.arange(0))


def compare(states, volume):
    return compare_halves(
        states,
        volume,
        pixel_size_angstrom=3.0,
        limits=OF_MIXTURE,
        progress=lambda *done, unit: None,
    )


def test_differences_are_from_the_mean_of_all_particles(states, volumes):
    found = compare(states, lambda half, state: volumes[state])
    # from ¾A + ¼B, A differs by ¼(A − B) and B by −¾(A − B)
    first, second = (of_state.difference for of_state in found.found)
    assert np.abs(first).max() > 0.01
    np.testing.assert_allclose(second, -3 * first, atol=1e-4)
    assert [of_state.judgement for of_state in found.found] == ["reproduced"] * 2
    assert found.summary.endswith("of 2 states: reproduced in 2.")


def test_differences_that_each_half_has_for_itself_are_not_reproduced(states, volumes):
    found = compare(states, lambda half, state: volumes[2 * (half - 1) + state])
    assert "No clear heterogeneity" in found.summary
    assert all(of_state.fsc[8:].mean() < 0.5 for of_state in found.found)
