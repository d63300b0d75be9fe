"""Learning rates."""

import math

import pytest

from raydrgn.run.recipe import RECIPES, TrainConfig
from raydrgn.training.schedule import learning_rate


def test_cosine_rises_over_the_warm_up_and_ends_at_zero():
    config = TrainConfig(schedule="cosine", warmup_steps=10)
    rates = [learning_rate(config, peak=2.0, step=s, num_steps=110) for s in range(110)]
    assert max(rates) <= 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[60] == pytest.approx(1 + math.cos(math.pi * 0.5), abs=0.05)
    assert rates[-1] < 0.01


def test_protocol_is_constant_1e_4():
    config = TrainConfig(**RECIPES["protocol"])
    assert config.batch_size == 8
    assert config.points_fraction == 1
    rates = {
        learning_rate(config, peak=config.peak_rate(1024), step=s, num_steps=99)
        for s in (0, 50, 98)
    }
    assert rates == {1e-4}
