"""What the report of a whole project answers."""

import re
from dataclasses import replace

from planned_round import planned_round
from raydrgn.protocol.completed_steps import CompletedSteps
from raydrgn.protocol.project import Step
from raydrgn.protocol.report import _comparison, summary
from raydrgn.protocol.settings import TrainingPlan


def test_the_answer_counts_only_particles_that_are_in_a_class():
    def step(**result):
        return Step(name="a step", key="key", folder="folder", result=result)

    last = planned_round(TrainingPlan(), number=2)
    classes = [{"particles": 432, "is_supported": True}, {"particles": 528, "is_supported": False}]
    made = CompletedSteps(
        check=step(),
        filtering=[],
        last=(last, step(particles=1200), step()),
        comparison=step(),
        path=step(),
        landscape=step(states=5),
        occupancies=[],
        classes=step(classes=classes),
    )
    assert summary(made) == (
        "No particle was dropped. 960 of 1,200 particles fall into 2 classes, of which 1 is "
        "supported by their own particles. 240 are in no class: images that show no particle, or "
        "have no latent."
    )
    made = replace(made, last=(last, step(particles=960), step()))
    assert "dropped. 960 particles fall into 2 classes" in summary(made)
    assert "no class" not in summary(made)


def test_each_round_is_compared_with_the_next_in_a_picture(tmp_path):
    for pair in ("1-2", "1-3", "2-3"):
        (tmp_path / pair).mkdir()
        (tmp_path / pair / "shares.png").write_bytes(pair.encode())
    step = Step(
        name="a step", key="key", folder=str(tmp_path), result={"sentences": ["They agree."]}
    )
    section = _comparison(str(tmp_path), step, rounds=3)
    assert [picture for picture, _ in section.figures] == [b"1-2", b"2-3"]
    assert [re.findall(r"round (\d)", caption) for _, caption in section.figures] == [
        ["1", "2"],
        ["2", "3"],
    ]
