"""How many components and states images support that a fit has not seen."""

import numpy as np
import pytest
import torch

from raydrgn.halves.components import LEAST_SHARE, STATES, Gains, Support
from raydrgn.mfa.held_out import ImageLikelihoods, gains_of_states


def likelihoods(seed, centres, shares=None):
    """Images of latents about some centres, each seen with an uncertainty of 0.3."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.ones(len(centres)) if shares is None else shares
    labels = torch.multinomial(shares, 800, replacement=True, generator=generator)
    seen = centres[labels] + 0.35 * torch.randn(800, 2, generator=generator)
    precision = torch.eye(2).expand(800, 2, 2) / 0.09
    return ImageLikelihoods(np.zeros((800, 3)), precision, seen / 0.09, seen)


@pytest.mark.parametrize("count", [1, 4])
def test_several_states_are_supported_where_there_are_several(count):
    centres = 2.0 * torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])[:count]
    numbers = (1, 2, 16)
    first, second = (likelihoods(seed, centres) for seed in (0, 1))
    gains = [
        gains_of_states(own, other, numbers, seed=0)
        for own, other in ((first, second), (second, first))
    ]
    assert Gains(numbers, gains).supported == (1 if count == 1 else 16)


def test_rare_states_are_found_with_few_more_than_there_are():
    """From random latents the rarest of seven states was missed, and 80 explained more than 10."""
    angles = torch.arange(7) * (2 * np.pi / 7)
    centres = 4.0 * torch.stack([angles.cos(), angles.sin()], dim=1)
    shares = torch.tensor([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02])
    first, second = (likelihoods(seed, centres, shares) for seed in (2, 3))
    gains = [
        gains_of_states(own, other, STATES, seed=0)
        for own, other in ((first, second), (second, first))
    ]
    assert Gains(STATES, gains, LEAST_SHARE).supported == 10


def test_a_share_of_the_largest_gain_does_not_count():
    gains = np.array([0.0, 0.9, 0.96, 1.0]) + 1e-3 * np.arange(200)[:, None] * [0, 1, 1, 1]
    assert Gains(range(4), [gains, gains]).supported == 3
    assert Gains(range(4), [gains, gains], 0.05).supported == 2


@pytest.mark.parametrize(
    ("supported", "words"),
    [(1, "1 state"), (2, "2 states"), (10, "6 to 10 states"), (80, "more than 40 states")],
)
def test_numbers_of_states_are_reported_as_far_as_they_were_tried(supported, words):
    gains = np.where(np.array(STATES) < supported, 0.0, 1.0) + np.zeros((50, 1))
    components = Gains(range(3), [np.array([[0.0, 1.0, 1.0]])] * 2)
    found = Support(components, Gains(STATES, [gains, gains]))
    assert found.summary == f"The other half's images support 1 of 2 components, and {words}."


def test_of_numbers_within_the_error_the_smallest_is_supported():
    generator = np.random.default_rng(0)
    gains = np.array([0.0, 0.5, 0.51, 0.4]) + 0.2 * generator.standard_normal((200, 4))
    found = Gains(range(4), [gains[:100], gains[100:]])
    assert found.supported == 1
    np.testing.assert_allclose(found.means.mean(0), gains.mean(0))


def test_gains_that_are_rounding_errors_support_nothing():
    gains = 1e-8 * np.arange(4) + np.zeros((200, 1))
    assert Gains(range(4), [gains, gains]).supported == 0
