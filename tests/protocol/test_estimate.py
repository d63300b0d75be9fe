"""What a project takes: times of all steps that will run, and how they grow."""

import pytest

from raydrgn.protocol import estimate, step_times
from raydrgn.protocol.settings import TrainingPlan

BOX = 48
MIXTURE = TrainingPlan(box=32, epochs=3)
NETWORK = TrainingPlan(box=BOX, width=16, layers=1, epochs=4)


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """Rates as if they had been measured."""
    monkeypatch.setattr(estimate, "calls_per_second", lambda step, device: 2.0)
    monkeypatch.setattr(estimate, "_seconds", lambda *_: (60.0, "measured"))


def times(rounds, *, particles=1000, box=BOX, has_model=True, **given):
    found = estimate.estimate(
        rounds, num_particles=particles, image_box=box, has_model=has_model, **given
    )
    assert found.seconds == pytest.approx(sum(cost.seconds for cost in found.costs))
    return {cost.step: cost for cost in found.costs}


def test_every_step_that_will_run_has_a_time():
    found = times([MIXTURE, NETWORK])
    assert list(found) == [
        "check",
        "masks",
        "particles of 32 px",
        f"round 1: {MIXTURE.in_words()}",
        "convergence of round 1",
        "analysis of round 1",
        "proposal of round 1",
        "selection of round 1",
        f"round 2: {NETWORK.in_words()}",
        "convergence of round 2",
        "analysis of round 2",
        "comparison of rounds",
        "path",
        "landscape",
        "occupancies",
        "occupancy classes",
        "classes",
        "report",
    ]
    assert all(cost.seconds > 0 for cost in found.values())


def test_a_network_that_takes_days_is_shown_beside_a_mixture(monkeypatch):
    def of_plan(plan, *_):
        return (60.0 if plan.width is None else 86400.0, "measured")

    def advice(*rounds):
        return estimate.estimate(rounds, num_particles=1000, image_box=BOX, has_model=False).advice

    monkeypatch.setattr(estimate, "_seconds", of_plan)
    assert f"(--high {BOX})" in advice(MIXTURE, NETWORK)
    assert advice(MIXTURE, MIXTURE) == ""
    monkeypatch.setattr(estimate, "_seconds", lambda *_: (60.0, "measured"))
    assert advice(MIXTURE, NETWORK) == ""
    monkeypatch.setattr(estimate, "_seconds", lambda *_: (86400.0, "measured"))
    assert advice(MIXTURE, NETWORK) == "", "the mixture takes no less"


def test_steps_that_will_not_run_are_not_counted():
    whole = TrainingPlan(box=BOX, epochs=3)
    found = times([whole, whole, whole], has_model=False)
    assert not [s for s in found if s.startswith(("particles", "masks", "occupanc"))]
    assert {"proposal of round 2", "selection of round 2"} <= set(found)
    assert not {"proposal of round 3", "selection of round 3"} & set(found)
    assert [s for s in times([MIXTURE, MIXTURE]) if s.startswith("particles")] == [
        "particles of 32 px"
    ]


def test_the_start_of_workers_counts_where_there_are_several():
    usual, several = times([MIXTURE, NETWORK]), times([MIXTURE, NETWORK], has_workers=True)
    assert several.keys() - usual.keys() == {"start of workers"}
    assert several["start of workers"].seconds > 0
    assert all(several[step] == cost for step, cost in usual.items())


def test_times_grow_with_particles_and_boxes():
    usual = times([MIXTURE, NETWORK])
    many = times([MIXTURE, NETWORK], particles=100_000)
    sized = {"check", "classes", "particles of 32 px"}
    large = times([MIXTURE, TrainingPlan(box=96, width=16, layers=1, epochs=4)], box=96)
    for step in usual.keys() & large.keys():
        assert large[step].seconds >= usual[step].seconds
    for step in sized | {"analysis of round 2", "convergence of round 2", "path"}:
        assert large[step].seconds > usual[step].seconds
    for step, cost in usual.items():
        assert many[step].seconds >= cost.seconds
    for step in sized | {"analysis of round 1", "proposal of round 1", "landscape"}:
        assert many[step].seconds > usual[step].seconds


def test_times_beyond_what_was_measured_say_so():
    assert times([MIXTURE, MIXTURE])["analysis of round 1"].basis == estimate.WITHIN
    many = times([MIXTURE, MIXTURE], particles=step_times.MOST_PARTICLES + 1)
    assert many["analysis of round 1"].basis == estimate.BEYOND


def test_only_what_a_training_may_repeat_takes_longer_when_it_goes_on():
    found = times([MIXTURE, NETWORK])
    longer = {step for step, cost in found.items() if cost.longest_seconds > cost.seconds}
    rounds = {step for step in found if step.startswith("round ")}
    assert longer == {*rounds, "convergence of round 2"}


def test_the_time_of_volumes_is_that_of_the_network():
    small, large = (
        estimate._volume_seconds(NETWORK, box, device=estimate.torch.device("cpu"))
        for box in (16, 32)
    )
    assert small == pytest.approx(1 / (2.0 * estimate.LATENTS_PER_BATCH))
    assert large == pytest.approx(8 * small)
    assert estimate._volume_seconds(MIXTURE, 32, device=estimate.torch.device("cpu")) == 0


@pytest.mark.parametrize("count", [500, 2_000, 5_000, 90_000, 200_000])
def test_umaps_of_more_particles_take_longer(count):
    assert step_times.umap_seconds(2 * count) > step_times.umap_seconds(count)


def test_the_grid_of_a_mixture_is_on_disk_where_memory_has_no_room_for_it(monkeypatch):
    def memory(free_gigabytes):
        monkeypatch.setattr(estimate, "free_memory", lambda device: 1e9 * free_gigabytes)
        plan = TrainingPlan(box=256, epochs=3)
        return times([plan], box=256)[f"round 1: {plan.in_words()}"].memory_bytes

    assert memory(5) == pytest.approx(memory(50) - 2.3e9, abs=0.1e9)  # 6.0 and 3.7 in docs/mfa.md
