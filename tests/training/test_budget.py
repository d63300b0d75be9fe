"""A run may fail without limit while it gets further, and four times where it does not."""

from raydrgn.run.directory import Position
from raydrgn.training.budget import FailureBudget


def test_a_failure_every_fifteen_epochs_never_ends_a_run():
    budget = FailureBudget()
    assert all(budget.allows_another_try(Position(epoch, 0)) for epoch in range(1, 301, 15))


def test_the_fourth_failure_without_a_checkpoint_between_ends_it():
    budget = FailureBudget(limit=3)
    tries = [budget.allows_another_try(Position(4, 120)) for _ in range(4)]
    assert tries == [True, True, True, False]


def test_a_checkpoint_within_an_epoch_begins_anew():
    budget = FailureBudget(limit=1)
    assert budget.allows_another_try(Position(1, 0))
    assert budget.allows_another_try(Position(1, 40))
    assert not budget.allows_another_try(Position(1, 40))
