"""The sentences at the end of a sweep: which trial is the best, and which failed."""

from raydrgn.data.config import ImageConfig
from raydrgn.io.particle_source import ParticleSource
from raydrgn.run.config import RunConfig
from raydrgn.sweep.ranking import predicts_nothing
from raydrgn.sweep.record import TrialRecord
from raydrgn.sweep.report import summary
from raydrgn.sweep.space import SearchSpace

TITLE = "gain"
NOTHING = (
    "No trial predicts held-out images better than one map for all particles: train longer, or "
    "there may be nothing to find."
)


def space():
    config = RunConfig(
        source=ParticleSource(particles="p.star"), data=ImageConfig(box=32), pixel_size_angstrom=1.0
    )
    return SearchSpace.parse(("model.zdim=1,2",), config)


def trial(number, score=None, error=1.0, **more):
    scores = {} if score is None else {4: score}
    errors = {} if score is None else {4: error}
    state = "failed" if score is None else "finished"
    values = {"model.zdim": 1 + number % 2}
    return TrialRecord(
        number=number, values=values, state=state, scores=scores, errors=errors, **more
    )


def test_a_best_trial_that_is_worse_than_one_map_is_said_to_be():
    trials = [trial(0, -7.1, 0.95), trial(1, -9.0)]
    best = "The best of 2 trials is trial-000, with model.zdim 1: gain -7.1 ± 0.95."
    assert summary(space(), trials, title=TITLE) == f"{NOTHING} {best}"
    assert NOTHING not in summary(space(), [trial(0, 3.0)], title=TITLE)


def test_two_standard_errors_decide():
    assert predicts_nothing(trial(0, -2.1, 1.0))
    assert not predicts_nothing(trial(0, -1.9, 1.0))
    assert not predicts_nothing(trial(0))


def test_trials_that_failed_are_counted_and_named():
    trials = [trial(0, 3.0), trial(1, failure="not finite"), trial(2, 2.0), trial(3)]
    text = summary(space(), trials, title=TITLE)
    assert text.startswith("The best of 2 trials with a score is trial-000")
    assert text.endswith("2 of 4 trials failed: trial-001, trial-003.")
