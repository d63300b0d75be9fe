"""How many components and states images support that a fit has not seen."""

import numpy as np
import pytest
import torch

from raydrgn.halves.components import Gains
from raydrgn.mfa.held_out import ImageLikelihoods, gains_of_states


def likelihoods(seed, centres):
    """Images of latents about some centres, each seen with an uncertainty of 0.3."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(centres), (800,), generator=generator)
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


def test_of_numbers_within_the_error_the_smallest_is_supported():
    generator = np.random.default_rng(0)
    gains = np.array([0.0, 0.5, 0.51, 0.4]) + 0.2 * generator.standard_normal((200, 4))
    found = Gains(range(4), [gains[:100], gains[100:]])
    assert found.supported == 1
    np.testing.assert_allclose(found.means.mean(0), gains.mean(0))


def test_gains_that_are_rounding_errors_support_nothing():
    gains = 1e-8 * np.arange(4) + np.zeros((200, 1))
    assert Gains(range(4), [gains, gains]).supported == 0
