"""The maximisation step: how far volumes go, and what they show of their prior variance."""

from dataclasses import replace

import pytest
import torch

from raydrgn.errors import InputError
from raydrgn.mfa.contrast import contrast_slope
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.mfa.sums import Sums
from raydrgn.mfa.update import Updater, step_lengths

BOX, WEIGHT = 12, 50.0
INSIDE = slice(1, BOX // 2)
"""Shells that volumes have."""


@pytest.mark.parametrize(
    ("of", "is_whole", "variances", "lengths"),
    [
        ("square", False, (4.0, 0.5), (0.25, 1.0)),
        ("square_of_means", True, (4.0, 0.5), (0.25, 2.0)),
        ("square_of_means", True, (1.0, 0.01), (1.0, 5.0)),  # five times as long at most
    ],
)
def test_lengths_of_steps(of, is_whole, variances, lengths):
    sums = Sums.zero(torch.zeros(1, 1, 1, 6), num_components=2, num_shells=1, num_groups=1)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    getattr(sums, of).add_(10 * turn @ torch.diag(torch.tensor(variances).double()) @ turn.T)
    sums.add(likely=torch.full((10,), 1.0))
    expected = turn @ torch.diag(torch.tensor(lengths).double()) @ turn.T
    torch.testing.assert_close(step_lengths(sums, is_whole=is_whole), expected.float())


@pytest.fixture
def grids():
    return VolumeGrids(BOX, device=torch.device("cpu"))


def model_of(volumes, prior, noise, *, mean_power=1e-6):
    """Return a model of one component without a mask."""
    mixture = Mixture.standard_normal(1, device=torch.device("cpu"))
    return FactorModel(
        volumes,
        torch.ones_like(volumes[0]),
        noise[None],
        noise[None],
        torch.full_like(noise, mean_power),
        prior[None],
        mixture,
        ParticlePriors(),
    )


def relevance(grids, volumes, prior, noise, *, mean_power=1e-6, support=None):
    """Return the prior variance of one component after an update of it."""
    model = model_of(volumes, prior, noise, mean_power=mean_power)
    if support is not None:
        model = replace(model, support=support)
    weights = torch.full_like(grids.radius, WEIGHT)
    return Updater(grids, weights, torch.ones(1), 100).with_relevance(model).component_power[0]


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_prior_variance_stays_where_it_explains_what_images_show(grids, share):
    # An estimate x with noise s² is drawn to v = τ/(τ + s²) x, and x² is τ + s² on average.
    # Behind a mask only its share of the power is left, of both.
    volumes = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    support = torch.zeros(BOX, BOX, BOX)
    support[: round(share * BOX)] = 1
    volumes = volumes * support
    [power] = grids.power(volumes[1:]) / share
    determined = torch.linspace(0.3, 0.9, len(power))
    prior = power / determined
    noise = WEIGHT * prior * (1 - determined) / determined
    found = relevance(grids, volumes, prior, noise, support=support)
    torch.testing.assert_close(found[INSIDE], prior[INSIDE], rtol=1e-4, atol=0)


@pytest.mark.parametrize(("strength", "expected"), [(2.0, 0.5), (1.25, 0.2), (0.7, 0.0)])
def test_prior_variance_goes_to_what_is_beyond_the_noise(grids, strength, expected):
    # By turns, an estimate is drawn towards 0 and its prior variance is updated: τ = x² − s².
    estimate = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(1))
    [seen] = grids.power(estimate[1:])
    variance = seen / strength
    prior = 10 * seen
    for _ in range(40):
        [share] = (prior / (prior + variance))[INSIDE].mean(0, keepdim=True)
        prior = relevance(grids, share * estimate, prior, WEIGHT * variance)
    assert prior[INSIDE] / seen[INSIDE] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("mean_power", [1e8, 1e11])
def test_however_strong_the_mean_a_component_of_noise_is_left_no_more_than_the_noise(
    grids, mean_power
):
    """A floor that grows with the mean alone kept ten components of noise at high SNR."""
    volumes = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(2))
    [seen] = grids.power(volumes[1:])
    variance, prior = seen / 0.7, 0.1 * seen
    noise = WEIGHT * variance
    found = relevance(grids, 1e-3 * volumes, prior, noise, mean_power=mean_power)
    torch.testing.assert_close(found[INSIDE], variance[INSIDE], rtol=1e-4, atol=0)


def updated_mean(grids, *, at_a_point):
    """Return a model without density after an update of its mean, and the sums it was made of."""
    model = model_of(torch.zeros(2, BOX, BOX, BOX), *torch.ones(2, BOX // 2 + 1))
    updater = Updater(grids, torch.ones_like(grids.radius), torch.ones(1), 100)
    sums = Sums.zero(
        grids.empty_sums(1), num_components=1, num_shells=grids.num_shells, num_groups=1
    )
    sums.add(particles=torch.ones(100), likely=torch.ones(100))
    sums.grid[1, 5, 5] = at_a_point
    return updater.mean(model, sums, estimate_noise=False), sums


def test_volumes_that_are_not_finite_are_refused(grids):
    with pytest.raises(InputError, match="The fit diverged"):
        updated_mean(grids, at_a_point=torch.inf)


def test_sums_are_given_up_once_volumes_are_made_of_them(grids):
    """They are as large as all volumes, of which an update makes others next."""
    model, sums = updated_mean(grids, at_a_point=1)
    assert model.volumes[0].any()
    assert sums.grid.nbytes == 0


def test_variance_at_the_images_points_is_that_of_the_views_alone(grids):
    # Where half of each shell has no view, the variance there, the prior's, concerns no image.
    noise, prior = torch.ones(BOX // 2 + 1), torch.full((BOX // 2 + 1,), 100.0)
    model = model_of(torch.zeros(2, BOX, BOX, BOX), prior, noise)
    even = torch.full_like(grids.radius, WEIGHT)
    seen = even.clone()
    seen[..., : BOX // 2] = 0
    variances = [
        Updater(grids, weights, torch.ones(1), 100).component_variance(model, 1.0)[0, INSIDE]
        for weights in (even, seen)
    ]
    torch.testing.assert_close(variances[1], variances[0])
    assert float(variances[1].max()) < 1.1 / WEIGHT


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.3, -0.2)])
def test_other_latents_of_covariance_1_describe_the_same_volumes(slope):
    generator = torch.Generator().manual_seed(3)
    volumes = torch.randn(3, 4, 4, 4, generator=generator)
    z = torch.randn(5, 2, generator=generator)
    mean, slope = torch.tensor([0.5, -0.3]).double(), torch.tensor(slope).double()
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
    sums = Sums.zero(torch.zeros(1, 1, 1, 6), num_components=2, num_shells=1, num_groups=1)
    sums.latent += 10 * mean
    sums.square += 10 * (covariance + torch.outer(mean, mean))
    sums.contrast_latent += 10 * (mean + covariance @ slope)
    sums.add(likely=torch.ones(10), contrast=torch.ones(10))
    # the states of the mixture stand at the latents, and are carried along with them
    ones = torch.ones(3)
    model = replace(
        model_of(volumes, ones, ones),
        mixture=Mixture(torch.full((5,), 0.2), z, covariance.float()),
    )
    found = Updater._whitened(model, sums, is_mixture=True)
    torch.testing.assert_close(found.mixture.covariance, torch.eye(2), atol=1e-5, rtol=0)
    gram = found.volumes[1:].flatten(1) @ found.volumes[1:].flatten(1).T
    assert abs(gram[0, 1]) < 1e-4 * gram[0, 0]
    assert gram[0, 0] > gram[1, 1]  # the strongest first
    # what contrast goes with a latent becomes density of the mean
    gained = (z - mean.float()) @ contrast_slope(sums).float()
    centre = volumes[0] + torch.tensordot(mean.float(), volumes[1:], dims=1)
    before = (
        volumes[0]
        + torch.tensordot(z, volumes[1:], dims=1)
        + gained[:, None, None, None] * (centre)
    )
    after = found.volumes[0] + torch.tensordot(found.mixture.means, found.volumes[1:], dims=1)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
