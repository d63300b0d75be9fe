"""Poses and optics of simulated particles: distributions, and one random stream for each option."""

import numpy as np
import pytest

from raydrgn.geometry.rotations import orthogonality_error, to_axis_angle
from raydrgn.simulation.acquisition import (
    ASTIGMATISM_ANGSTROM,
    DEFOCUS_RANGE_ANGSTROM,
    MIN_CONTRAST,
    draw_acquisition,
    with_errors,
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


@pytest.mark.parametrize("error_deg", [0.5, 5.0, 60.0])
def test_the_rms_angle_between_written_and_true_rotations_is_the_angle_error(drawn, error_deg):
    written = with_errors(drawn, Simulation(angle_error_deg=error_deg))
    assert orthogonality_error(written.rotations).max() < 1e-5
    turns = written.rotations.astype(float) @ drawn.rotations.swapaxes(1, 2)
    vectors = np.rad2deg(to_axis_angle(turns))
    # the mean square of 3 components of variance θ²/3 has a relative SD of √(2 / 3n)
    tolerance = 5 * np.sqrt(2 / (3 * COUNT))
    assert (vectors**2).sum(1).mean() == pytest.approx(error_deg**2, rel=tolerance)
    # about no axis more than about another
    np.testing.assert_allclose(vectors.T @ vectors / COUNT, np.eye(3) * error_deg**2 / 3,
                               atol=5 * error_deg**2 / 3 * np.sqrt(2 / COUNT))  # fmt: skip


def test_written_shifts_and_defocus_differ_by_normal_errors(drawn):
    simulation = Simulation(shift_error_px=0.5, defocus_error_angstrom=300.0, box=32)
    written = with_errors(drawn, simulation)
    shifts = (written.shifts_fraction - drawn.shifts_fraction) * 32
    tolerance = 5 / np.sqrt(2 * COUNT)
    np.testing.assert_allclose(shifts.std(axis=0), 0.5, rtol=tolerance)
    assert np.abs(shifts.mean(0)).max() < 5 * 0.5 / np.sqrt(COUNT)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 5 / np.sqrt(COUNT)
    u, v, *others = (written.ctf - drawn.ctf).T
    assert u.std() == pytest.approx(300, rel=tolerance)
    np.testing.assert_allclose(u, v, atol=0.01)  # float32 of 25,000 Å
    assert not np.any(others)
    assert written.rotations is drawn.rotations


def test_each_error_has_a_random_stream_of_its_own(drawn):
    everything = Simulation(angle_error_deg=2.0, shift_error_px=1.0, defocus_error_angstrom=100.0)
    together = with_errors(drawn, everything)
    for name in ("angle_error_deg", "shift_error_px", "defocus_error_angstrom"):
        alone = with_errors(drawn, Simulation(**{name: getattr(everything, name)}))
        field = {"a": "rotations", "s": "shifts_fraction", "d": "ctf"}[name[0]]
        np.testing.assert_array_equal(getattr(alone, field), getattr(together, field))
    twice = with_errors(drawn, Simulation(shift_error_px=2.0))
    np.testing.assert_allclose(
        twice.shifts_fraction - drawn.shifts_fraction,
        2 * (together.shifts_fraction - drawn.shifts_fraction),
        atol=1e-7,
    )
    shift, defocus = (
        getattr(together, name)[:, 0] - getattr(drawn, name)[:, 0]
        for name in ("shifts_fraction", "ctf")
    )
    assert abs(np.corrcoef(shift, defocus)[0, 1]) < 5 / np.sqrt(COUNT)


def test_without_options_everything_is_passed_on_as_it_is(drawn):
    found = with_errors(with_options(drawn, Simulation()), Simulation())
    assert found.rotations is drawn.rotations
    assert found.ctf is drawn.ctf
    assert found.shifts_fraction is drawn.shifts_fraction
    assert found.contrast is None
    assert found.b_factor_angstrom2 == 0
