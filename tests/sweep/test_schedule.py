"""How long trials take: measured on the steps that training takes."""

import pytest

from plain import small_run
from raydrgn.sweep import schedule
from raydrgn.training import assembly
from raydrgn.training.fixed_step import FixedStep
from raydrgn.training.steps import FixedSteps, PlainSteps


@pytest.mark.parametrize(("mode", "kind"), [("auto", PlainSteps), ("on", FixedSteps)])
def test_the_steps_that_are_timed_are_those_of_training(tmp_path, monkeypatch, mode, kind):
    monkeypatch.setattr(schedule, "MEASURED_SECONDS", 0.01)
    monkeypatch.setattr(FixedStep, "compile", lambda self: None)
    run = small_run(tmp_path, tmp_path / "run", **{"resources.compile": mode})
    timed = []

    def recorded(*arguments):
        timed.append(assembly.make_steps(*arguments))
        return timed[-1]

    monkeypatch.setattr(schedule, "make_steps", recorded)
    assert schedule.measured_rate(run, threads=1) > 0
    assert [type(parts.steps) for parts in timed] == [kind]


@pytest.mark.parametrize("num_particles", [256, 1000, 500_000])
def test_few_particles_are_passed_as_often_as_a_trial_has_steps(tmp_path, num_particles):
    """So that steps are captured on a GPU where those of a trial are."""
    run = small_run(tmp_path, tmp_path / "run", **{"train.epochs": 3})
    plan = assembly.batch_plan(run.config, 203)
    config = schedule._with_as_many_steps(run.config, plan, num_particles)
    of_trial = 3 * -(-num_particles // 8)
    assert of_trial <= config.train.epochs * plan.num_steps < of_trial + plan.num_steps
