"""Settings to search, as the command line has them."""

import pytest

from raydrgn.data.config import ImageConfig
from raydrgn.errors import ConfigError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.run.config import RunConfig
from raydrgn.sweep.schedule import count_trials, expected_epochs, milestones
from raydrgn.sweep.space import Choice, Range, SearchSpace

BASE = RunConfig(
    source=ParticleSource(particles="p.star"), data=ImageConfig(box=16), pixel_size_angstrom=1.0
)


def parse(*texts):
    return SearchSpace.parse(texts, BASE)


def test_lists_and_ranges_are_read_with_the_types_of_their_settings():
    space = parse(
        "model.zdim=2,4, 8",
        "train.learning_rate=log:1e-4..1e-2",
        "train.schedule=cosine,constant",
        "train.batch_size=8..64",
        "train.beta=0.5,1",
    )
    assert space.searches == (
        Choice("model.zdim", (2, 4, 8)),
        Range("train.learning_rate", 1e-4, 1e-2, is_log=True, is_whole=False),
        Choice("train.schedule", ("cosine", "constant")),
        Range("train.batch_size", 8, 64, is_log=False, is_whole=True),
        Choice("train.beta", (0.5, 1.0)),
    )
    assert isinstance(space.searches[4].values[1], float)
    assert space.num_combinations is None


def test_all_combinations_of_lists():
    space = parse("model.zdim=1,2", "train.batch_size=8,16")
    assert space.num_combinations == 4
    assert list(space.combinations()) == [
        {"model.zdim": 1, "train.batch_size": 8},
        {"model.zdim": 1, "train.batch_size": 16},
        {"model.zdim": 2, "train.batch_size": 8},
        {"model.zdim": 2, "train.batch_size": 16},
    ]


@pytest.mark.parametrize("log", ["", "log:"])
def test_whole_numbers_of_a_range_are_combined_as_those_of_a_list(log):
    space = parse(f"model.zdim={log}2..4", "train.batch_size=8,16")
    listed = parse("model.zdim=2,3,4", "train.batch_size=8,16")
    assert space.num_combinations == 6
    assert list(space.combinations()) == list(listed.combinations())
    assert count_trials(space, None) == (6, True)
    assert next(space.combinations(4)) == {"model.zdim": 4, "train.batch_size": 8}


def test_more_trials_than_whole_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"--trials is 4, .* have 3 combinations"):
        count_trials(parse("model.zdim=2..4"), 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.zdim", "takes section.field=values"),
        ("=2,4", "takes section.field=values"),
        ("zdim=2,4", "settings of model and train"),
        ("data.window_radius=0.5,0.9", "settings of model and train"),
        ("resources.cpus=1,2", "settings of model and train"),
        ("model.width=2,4", "Unknown key 'width' in section model"),
        ("model.zdim=two", "model.zdim is 'two'; expected"),
        ("model.zdim=2.5,3", "model.zdim is 2.5; expected"),
        ("model.zdim=0,2", "model.zdim must be at least 1, got 0"),
        ("model.zdim=", "empty value"),
        ("model.zdim=2,,4", "empty value"),
        ("model.zdim=2,2", "a value twice"),
        ("model.zdim=8..2", "8 is not below 2"),
        ("model.encoding=gaussian..none", "is not a number"),
        ("train.learning_rate=log:0..1e-2", "train.learning_rate must be positive"),
        ("train.beta=log:0..1", "begins above 0, and this one at 0.0"),
        ("train.beta=log:0.1,1", "log: needs a range"),
        ("train.points_fraction=0.1..2", "at most 1, got 2"),
        ("train.beta=.nan,1", "not a finite number"),
        ("train.epochs=10,20", "give it with --epochs"),
        ("train.load=a,b", "start from random weights"),
        ("train.beta={1,2}", "is not a value"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_twice_and_none_at_all_are_refused():
    with pytest.raises(ConfigError, match="given twice"):
        parse("model.zdim=2,4", "model.zdim=8,16")
    with pytest.raises(ConfigError, match="at least one --search"):
        parse()


def test_small_grids_are_tried_whole_and_large_ones_in_part():
    small, large = parse("model.zdim=1,2,3,4"), parse("model.zdim=1,2,3,4,5", "train.seed=0,1,2,3")
    assert count_trials(small, None) == (4, True)
    assert count_trials(small, 3) == (3, False)
    assert count_trials(large, None) == (20, False)
    assert count_trials(large, 20) == (20, True)
    assert count_trials(parse("train.beta=0..1"), None) == (32, False)
    with pytest.raises(ConfigError, match="5, but the values of --search have 4 combinations"):
        count_trials(small, 5)


def test_no_trial_is_stopped_before_a_quarter_of_its_epochs():
    assert milestones(20) == (5, 15)
    assert milestones(4) == (1, 3)
    assert milestones(1) == ()
    assert milestones(50) == (13, 39)


def test_expected_epochs_are_those_of_the_trials_that_go_on():
    assert expected_epochs(9, 20, halving=False) == 180
    assert expected_epochs(9, 20, halving=True) == 9 * 5 + 3 * 10 + 1 * 5
