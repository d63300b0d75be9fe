"""Heuristics of convergence on latents and volumes made to converge, or not."""

import numpy as np
import pytest

from raydrgn.convergence import criteria as convergence


def spiral(epoch):
    """Particles that all step by (1, 0), then (0, 1), then stand still."""
    steps = np.float32([[0, 0], [1, 0], [1, 1], [1, 1]])
    return np.tile(steps[epoch - 1], (9, 1)) + np.arange(9, dtype=np.float32)[:, None]


def test_shifts_of_known_steps():
    found = convergence.latent_shifts([1, 2, 3, 4], spiral)
    np.testing.assert_array_equal(found.epochs, [2, 3, 4])
    np.testing.assert_allclose(found.magnitude, [1, 1, 0])
    np.testing.assert_allclose(found.dot, [np.nan, 0, 0])
    np.testing.assert_allclose(found.cosine_distance, [np.nan, 1, 0])  # none moved: no change


def test_maxima_are_the_blobs_highest_first():
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    sizes = [900, 700, 500, 300]
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), sizes)
    xy = centres[labels] + 0.35 * generator.normal(size=(len(labels), 2))
    members = convergence.density_maxima(xy)
    assert [labels[rows[0]] for rows in members[:4]] == [0, 1, 2, 3]
    for number, rows in enumerate(members[:4]):
        assert (labels[rows] == number).all()
        assert len(rows) > 0.4 * sizes[number]
    rows = convergence.representatives(xy, members[:4])
    assert np.linalg.norm(xy[rows] - centres, axis=1).max() < 0.35


def test_many_maxima_are_pruned_to_ten():
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 1.0
    xy = np.repeat(grid, 30, axis=0) + 0.03 * np.random.default_rng(0).normal(size=(1920, 2))
    members = convergence.density_maxima(xy)
    assert len(members) == convergence.MAXIMA
    centres = np.array([np.median(xy[rows], axis=0).round() for rows in members])
    assert len(np.unique(centres, axis=0)) == len(members)


@pytest.fixture(scope="module")
def ball():
    ticks = np.arange(-16, 16)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    return np.exp(-(x**2 + 2 * y**2 + z**2) / 20).astype(np.float32)


def test_a_volume_agrees_with_itself_at_any_scale_and_not_with_noise(ball):
    same = convergence.agreement(ball, 4 * ball)
    assert same.correlation == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(same.fsc, 1, atol=1e-4)
    other = np.random.default_rng(0).normal(size=ball.shape).astype(np.float32)
    assert abs(convergence.agreement(ball, other).correlation) < 0.1


def test_noise_shows_at_high_frequencies_and_outside_the_mask(ball):
    grain = np.random.default_rng(0).normal(size=ball.shape).astype(np.float32)
    mask = convergence.volume_mask(ball)
    clean, dirty = (
        convergence.overfitting_measures(ball, mask),
        convergence.overfitting_measures(ball + 0.05 * grain, mask),
    )
    assert dirty.high_share > 10 * clean.high_share
    assert dirty.outside > 10 * clean.outside
    inside = mask >= 0.5
    volume = ball + 0.05 * grain
    assert dirty.outside == pytest.approx(volume[~inside].std() / volume[inside].std(), rel=1e-5)
    np.testing.assert_allclose(convergence.overfitting_measures(4 * volume, mask), dirty, rtol=1e-5)
    # white noise alone has its share of voxels there: a ball less its inner three quarters
    assert convergence.overfitting_measures(grain, mask).high_share == pytest.approx(
        1 - 0.73**3, abs=0.06
    )


def test_a_curve_that_flattens_has_converged_and_a_falling_one_has_not():
    epochs = list(range(1, 41))
    flat = convergence.converged_curve("loss", epochs, np.exp(-np.array(epochs) / 5.0))
    # exp(−e/5) comes within a tenth of its range, exp(−1/5), at e = 12.5
    assert flat.converged_from == pytest.approx(13, abs=1)
    rising = convergence.converged_curve("z", epochs, -np.exp(-np.array(epochs) / 5.0))
    assert rising.converged_from == flat.converged_from  # whether from above or from below
    assert (
        convergence.converged_curve("loss", epochs, -1.0 * np.array(epochs)).converged_from is None
    )
    short = convergence.converged_curve("loss", [1, 2, 3], np.array([3.0, 1.0, 1.0]))
    assert short.converged_from is None
    assert "too few" in short.text
    assert short.is_early
    assert not flat.is_early


def test_a_loss_that_has_settled_reports_how_much_it_still_falls():
    # 1 at first, then 0.05 falling by 0.001 an epoch: 10 epochs of 41 are 1 % of the range
    values = np.array([1.0, 1.0, 1.0, *(0.05 - 0.001 * np.arange(38))])
    found = convergence.converged_loss(range(1, 42), values)
    assert found.converged_from == 4
    assert "quarter of the run it fell by 1.0 % of its range" in found.text


def test_pairs_settle_on_a_plateau_or_where_nothing_is_left_to_change():
    spread = np.linspace(-0.01, 0.01, 10)

    def judged(*medians):
        values = np.array(medians)[:, None] + spread
        epochs = list(range(5, 5 * len(medians) + 1, 5))
        return convergence.converged_pairs("FSC", epochs, values, same=0.95)

    assert judged(0.4, 0.7, 0.86, 0.88, 0.87).converged_from == 15  # steps of SGD at one rate
    assert judged(0.4, 0.7, 0.9, 0.96, 0.985).converged_from == 20  # a rate that falls
    assert judged(0.4, 0.7, 0.8, 0.9, 0.94).converged_from is None
    assert "too few" in judged(0.96, 0.97).text
    assert judged(0.96, 0.97).is_early


def test_rising_noise_is_an_overfitting_warning():
    measures = np.array([[0.1, 0.2], [0.11, 0.19], [0.2, 0.2], [0.3, 0.2]])
    [warning] = convergence.overfitting_warnings([5, 10, 15, 20], measures)
    assert "high frequencies rises from epoch 10 to 20" in warning
    assert convergence.overfitting_warnings([5, 10, 15], measures[::-1][:3]) == []
    back = np.array([[0.3, 0.2], [0.1, 0.2], [0.2, 0.2], [0.3, 0.2]])  # to where it was before
    assert convergence.overfitting_warnings([5, 10, 15, 20], back) == []


def test_a_likelihood_that_alternates_about_a_constant_has_converged():
    epochs = list(range(1, 10))
    numbers = np.array(epochs)
    alternating = 1.0 + np.exp(-2.0 * numbers) + 0.005 * (-1.0) ** numbers
    assert convergence.converged_likelihood(epochs, alternating).converged_from == 4
    drifting = alternating - 0.01 * numbers
    assert convergence.converged_likelihood(epochs, drifting).converged_from is None
    idle = convergence.converged_likelihood(epochs, drifting, has_latents=False)
    assert idle.converged_from == 9
