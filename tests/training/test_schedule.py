"""Learning rates."""

import math

import pytest

from raydrgn.run.recipe import RECIPES, TrainConfig
from raydrgn.training.schedule import change_note, learning_rate


def rates_of(config, *, steps_per_epoch=11, peak=2.0):
    steps = range(config.epochs * steps_per_epoch)
    return [
        learning_rate(config, peak=peak, step=step, steps_per_epoch=steps_per_epoch)
        for step in steps
    ]


def test_cosine_rises_over_the_warm_up_and_ends_at_zero():
    rates = rates_of(TrainConfig(schedule="cosine", warmup_steps=10, epochs=10))
    assert max(rates) <= 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[60] == pytest.approx(1 + math.cos(math.pi * 0.5), abs=0.05)
    assert rates[-1] < 0.01


def test_a_run_shorter_than_the_warm_up_rises_in_one_half_and_falls_in_the_other():
    config = TrainConfig(schedule="cosine", warmup_steps=300, epochs=4)
    rates = rates_of(config)
    assert max(rates) == rates[21] == 2.0
    assert rates[22:] == sorted(rates[22:], reverse=True)
    assert rates[-1] < 0.02


def test_protocol_is_constant_1e_4():
    config = TrainConfig(**RECIPES["protocol"])
    assert config.batch_size == 8
    assert config.points_fraction == 1
    assert set(rates_of(config, peak=config.peak_rate(1024))) == {1e-4}


def test_a_run_that_goes_on_after_its_end_has_two_cosines():
    short = TrainConfig(schedule="cosine", warmup_steps=10, epochs=10)
    longer = TrainConfig(schedule="cosine", warmup_steps=10, epochs=16, restarted_after=10)
    rates = rates_of(longer)
    assert rates[:110] == rates_of(short)
    assert rates[109] < 0.01
    again = TrainConfig(schedule="cosine", warmup_steps=10, epochs=6)
    assert rates[110:] == rates_of(again)
    assert max(rates[110:]) == 2.0
    assert rates[-1] < 0.01


def test_a_changed_schedule_is_reported():
    before = TrainConfig(epochs=12, learning_rate=1e-3)
    assert change_note(before, before, epochs_done=5) is None
    after = TrainConfig(epochs=16, learning_rate=1e-3, restarted_after=12)
    note = change_note(before, after, epochs_done=12)
    assert "ended with epoch 12; the learning rate rises again to 1.00e-03" in note
    assert note.endswith("zero at the end of epoch 16 (a warm restart)")  # no option of `train`
    after = TrainConfig(epochs=16, learning_rate=1e-3)
    assert "from epoch 6 the learning rate follows the cosine of a run of 16 epochs" in change_note(
        before, after, epochs_done=5
    )
    after = TrainConfig(epochs=16, learning_rate=1e-5, schedule="constant")
    assert change_note(before, after, epochs_done=12) == (
        "the learning rate is 1.00e-05 from epoch 13 to epoch 16"
    )
