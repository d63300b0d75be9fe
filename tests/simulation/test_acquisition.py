"""Poses and optics of simulated particles: distributions, and one random stream for each option."""

import numpy as np
import pytest

from raydrgn.geometry.rotations import orthogonality_error
from raydrgn.simulation.acquisition import (
    ASTIGMATISM_ANGSTROM,
    DEFOCUS_RANGE_ANGSTROM,
    MIN_CONTRAST,
    draw_acquisition,
    with_options,
)
from raydrgn.simulation.options import Simulation

COUNT = 4000


@pytest.fixture(scope="module")
def drawn():
    """Poses and optics without any option."""
    return draw_acquisition(COUNT, generator=np.random.default_rng(0))


def test_acquisitions_are_drawn_within_their_limits(drawn):
    assert orthogonality_error(drawn.rotations).max() < 1e-5
    # E[R] = 0 with a variance of 1/3: five standard errors
    assert np.abs(drawn.rotations.mean(0)).max() < 5 / np.sqrt(3 * COUNT)
    assert 0.0499 < np.abs(drawn.shifts_fraction).max() <= 0.05
    u, v, angle = drawn.ctf[:, :3].T
    low, high = DEFOCUS_RANGE_ANGSTROM
    assert low <= ((u + v) / 2).min()
    assert ((u + v) / 2).max() <= high
    assert (u >= v).all()
    assert (u - v).max() <= ASTIGMATISM_ANGSTROM
    assert 0 <= angle.min() <= angle.max() <= 180


def test_contrast_is_normal_about_1_and_positive(drawn):
    contrast = with_options(drawn, Simulation(contrast_sd=0.2)).contrast
    assert contrast.mean() == pytest.approx(1, abs=5 * 0.2 / np.sqrt(COUNT))
    assert contrast.std() == pytest.approx(0.2, rel=5 / np.sqrt(2 * COUNT))
    wide = with_options(drawn, Simulation(contrast_sd=1.0)).contrast
    assert wide.min() == np.float32(MIN_CONTRAST)
    # P(1 + x < 0.05) of a normal x
    assert (wide == wide.min()).mean() == pytest.approx(0.171, abs=5 * np.sqrt(0.14 / COUNT))


def test_the_seed_decides_what_is_drawn_for_an_option(drawn):
    first, second, other = (
        with_options(drawn, Simulation(contrast_sd=0.2, seed=seed)).contrast for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1
