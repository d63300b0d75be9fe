"""What is tried next, and how a sweep goes on from its record."""

import json

import numpy as np
import pytest
from ray.tune.search import Searcher

from raydrgn.errors import ClusterError, RunDirectoryError
from raydrgn.remote.allocation import Allocation, Cluster, Node, NodeType, Size
from raydrgn.remote.resources import Resources
from raydrgn.sweep.concurrency import Concurrency, concurrent_trials
from raydrgn.sweep.proposals import Proposals
from raydrgn.sweep.ranking import difference, longer_command, ranked, table
from raydrgn.sweep.record import SweepRecord, TrialRecord
from raydrgn.sweep.space import Choice, Range, SearchSpace
from raydrgn.sweep.tuner import Halving

EPOCHS = 8
GRID = SearchSpace((Choice("model.zdim", (1, 2)), Choice("train.batch_size", (8, 16))))
WIDE = SearchSpace(
    (
        Range("train.learning_rate", 1e-4, 1e-2, is_log=True, is_whole=False),
        Choice("model.zdim", (1, 2, 4, 8)),
    )
)


def propose(space, *, count, known=(), is_grid=False, seed=0):
    return Proposals(space, count=count, is_grid=is_grid, seed=seed, known=known, epochs=EPOCHS)


def take_all(proposals, score):
    """Let a sweep run in turn; return what was tried."""
    taken = []
    while (found := proposals.suggest(f"t{len(taken)}")) != Searcher.FINISHED:
        taken.append(found["trial"])
        result = {"epoch": EPOCHS, "score": score(found["trial"]["values"])}
        proposals.on_trial_complete(f"t{len(taken) - 1}", result)
    return taken


def test_a_grid_is_tried_once_in_its_order():
    taken = take_all(propose(GRID, count=4, is_grid=True), lambda values: 0.0)
    assert [trial["values"] for trial in taken] == list(GRID.combinations())
    assert [trial["number"] for trial in taken] == [0, 1, 2, 3]


def test_a_grid_that_goes_on_tries_what_is_left():
    known = [TrialRecord(number=0, values=list(GRID.combinations())[2], state="failed")]
    taken = take_all(propose(GRID, count=4, is_grid=True, known=known), lambda values: 0.0)
    combinations = list(GRID.combinations())
    assert [t["values"] for t in taken] == [combinations[0], combinations[1], combinations[3]]
    assert [t["number"] for t in taken] == [1, 2, 3]


def test_settings_of_lists_are_never_tried_twice():
    space = SearchSpace((Choice("model.zdim", tuple(range(1, 16))),))
    taken = take_all(propose(space, count=15), lambda values: -abs(values["model.zdim"] - 4))
    assert sorted(trial["values"]["model.zdim"] for trial in taken) == list(range(1, 16))


@pytest.mark.parametrize("is_log", [False, True])
def test_whole_numbers_of_a_range_are_never_tried_twice(is_log):
    whole = Range("model.zdim", 2, 5, is_log=is_log, is_whole=True)
    space = SearchSpace((whole, Choice("train.schedule", ("cosine", "constant"))))
    taken = take_all(propose(space, count=8), lambda values: values["model.zdim"])
    found = {(t["values"]["model.zdim"], t["values"]["train.schedule"]) for t in taken}
    assert found == {(zdim, s) for zdim in range(2, 6) for s in ("cosine", "constant")}


def test_proposals_follow_the_seed_and_then_the_scores():
    def score(values):
        return -abs(np.log10(values["train.learning_rate"]) + 3) + (values["model.zdim"] == 4)

    taken = take_all(propose(WIDE, count=40), score)
    assert taken == take_all(propose(WIDE, count=40), score)
    assert taken != take_all(propose(WIDE, count=40, seed=1), score)
    late = [trial["values"] for trial in taken[20:]]
    assert np.mean([values["model.zdim"] == 4 for values in late]) > 0.4
    rates = [trial["values"]["train.learning_rate"] for trial in taken]
    assert 1e-4 <= min(rates) < max(rates) <= 1e-2


def test_a_sweep_that_goes_on_proposes_what_it_would_have():
    def score(values):
        return -abs(np.log10(values["train.learning_rate"]) + 3)

    whole = take_all(propose(WIDE, count=14), score)
    known = [
        TrialRecord(
            number=trial["number"],
            values=trial["values"],
            state="finished",
            scores={EPOCHS: score(trial["values"])},
            errors={EPOCHS: 0.0},
        )
        for trial in whole[:9]
    ]
    unfinished = TrialRecord(number=9, values=whole[9]["values"])
    assert take_all(propose(WIDE, count=14, known=[*known, unfinished]), score) == whole[9:]


def test_trials_that_failed_or_were_stopped_count_less_than_whole_ones():
    values = {"train.learning_rate": 1e-2, "model.zdim": 1}
    bad = [
        TrialRecord(number=n, values=values | {"train.learning_rate": 1e-2 - n * 1e-4}, state=state)
        for n, state in enumerate(["failed"] * 6)
    ]
    good = [
        TrialRecord(
            number=6 + n,
            values={"train.learning_rate": 1e-3 + n * 1e-5, "model.zdim": 4},
            state="finished",
            scores={EPOCHS: 1.0},
            errors={EPOCHS: 0.1},
        )
        for n in range(6)
    ]
    proposals = propose(WIDE, count=20, known=[*bad, *good])
    rates = [proposals.suggest(f"t{n}")["trial"]["values"]["train.learning_rate"] for n in range(8)]
    assert np.median(rates) < 5e-3


def test_halving_knows_the_scores_of_earlier_commands():
    known = [
        TrialRecord(number=n, values={}, state="stopped", scores={2: float(n)}, errors={2: 0.0})
        for n in range(9)
    ]
    scheduler = Halving(EPOCHS, known)
    [bracket] = scheduler._brackets
    assert [milestone for milestone, _ in bracket._rungs] == [6, 2]

    class Trial:
        trial_id = "new"

    assert bracket.on_result(Trial, 2, 1.0) == "STOP"
    Trial.trial_id = "newer"
    assert bracket.on_result(Trial, 2, 8.5) == "CONTINUE"
    assert bracket.on_result(Trial, EPOCHS, 8.5) == "CONTINUE"  # a finished trial is not stopped


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = SweepRecord(str(tmp_path / "sweep"))
    shared = {"search": ["model.zdim=1,2"], "seed": 0}
    record.require_same(shared)
    record.begin(shared)
    record.update(1, values={"model.zdim": 2})
    record.add_score(1, {"epoch": 2, "score": 0.5, "error": 0.1, "parts": [0.4, 0.6], "seconds": 3})
    record.update(1, state="finished")
    again = SweepRecord(record.root)
    again.require_same(shared)
    assert again.trials == record.trials
    [trial] = again.trials
    assert (trial.score, trial.error, trial.epoch, trial.seconds) == (0.5, 0.1, 2, 3.0)
    assert trial.name == "trial-001"


def test_the_folder_of_another_sweep_is_refused(tmp_path):
    record = SweepRecord(str(tmp_path))
    record.begin({"search": ["model.zdim=1,2"], "seed": 0})
    with pytest.raises(RunDirectoryError, match="another seed: 0, not 1"):
        SweepRecord(str(tmp_path)).require_same({"search": ["model.zdim=1,2"], "seed": 1})
    (tmp_path / "trials.json").write_text("[{")
    with pytest.raises(RunDirectoryError, match="damaged"):
        SweepRecord(str(tmp_path)).require_same({"seed": 0})
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty, and is not a sweep"):
        SweepRecord(str(other)).require_same({})


def test_the_best_has_finished_and_scores_are_compared_image_by_image():
    def trial(number, state, score, parts=(), **more):
        return TrialRecord(
            number=number,
            values={"model.zdim": number},
            state=state,
            scores={EPOCHS: score},
            errors={EPOCHS: 0.5},
            parts=parts,
            **more,
        )

    first = trial(0, "finished", 2.0, (1.0, 2.0, 3.0))
    second = trial(1, "finished", 1.9, (0.9, 1.9, 2.9))
    stopped = trial(2, "stopped", 5.0)
    failed = TrialRecord(number=3, values={"model.zdim": 3}, state="failed", failure="no")
    order = ranked([failed, stopped, second, first])
    assert [t.number for t in order[:3]] == [0, 1, 2]
    below, error = difference(first, second)
    assert below == pytest.approx(0.1)
    assert error == pytest.approx(0.0, abs=1e-9)  # much less than 0.5, the error of either
    space = SearchSpace((Choice("model.zdim", (0, 1, 2, 3)),))
    head, rows = table(space, [failed, stopped, second, first])
    assert head[:2] == ["trial", "model.zdim"]
    assert [row[0] for row in rows] == ["trial-000", "trial-001", "trial-002", "trial-003"]
    assert longer_command("a b", first) == (
        f"raydrgn train -o 'a b/trial-000' --resume --epochs {2 * EPOCHS}"
    )
    agreed = trial(1, "finished", 1.9, agreement=0.7, agreement_error=0.1)
    assert ranked([agreed, first])[0] is first  # what agrees need not be more of the truth


def cluster(*sizes, **more):
    return Cluster(nodes=tuple(Node(Size(*size), Size(*size)) for size in sizes), **more)


@pytest.mark.parametrize(
    ("resources", "there", "count", "trials", "allocation"),
    [
        ({"num_workers": 1}, cluster((2,)), 8, 2, (1, 1, 0)),
        ({"num_workers": 1}, cluster((64,)), 4, 4, (1, 16, 0)),
        ({"num_workers": 1}, cluster((16, 1)), 8, 1, (1, 16, 1)),
        ({"num_workers": 1}, cluster((64, 8)), 32, 8, (1, 8, 1)),
        ({"num_workers": 4}, cluster((64, 8)), 32, 2, (4, 8, 1)),
        ({"num_workers": 1}, cluster((8,), (32, 4), (32, 4)), 32, 8, (1, 8, 1)),
        ({"num_workers": 1, "cpus": 2}, cluster((3,), (3,), (3,)), 9, 3, (1, 2, 0)),
        ({"num_workers": 1, "gpus": 0.5}, cluster((16, 1)), 8, 2, (1, 8, 0.5)),
        ({"num_workers": 1, "gpus": 0}, cluster((16, 1)), 8, 8, (1, 2, 0)),
        ({"num_workers": 2}, cluster((16, 1)), 8, 1, (2, 8, 0.5)),
        ({}, cluster((16, 2), (16, 2)), 8, 1, (4, 8, 1)),
        (
            {"num_workers": 1},
            cluster((0,), types=(NodeType(Size(8, 1), 4),)),
            32,
            4,
            (1, 8, 1),
        ),
        ({"num_workers": 1}, cluster((0,), has_unknown_growth=True), 8, 1, (1, 1, 0)),
    ],
)
def test_trials_have_room_on_nodes_and_not_on_totals(resources, there, count, trials, allocation):
    found = concurrent_trials(Resources(**resources), there, count=count)
    assert found == Concurrency(trials, Allocation(*allocation))


def test_trials_are_counted_by_all_that_nodes_have_since_other_work_ends():
    busy = Cluster(nodes=(Node(Size(8), Size(1)),))
    found = concurrent_trials(Resources(num_workers=1), busy, count=4)
    assert found == Concurrency(4, Allocation(1, 2, 0))


def test_trials_that_no_node_can_hold_are_refused():
    with pytest.raises(ClusterError, match="does not fit on any node of the cluster"):
        concurrent_trials(Resources(num_workers=1, cpus=8), cluster((2,), (6,)), count=8)


def test_records_are_plain_json(tmp_path):
    record = SweepRecord(str(tmp_path / "sweep"))
    record.begin({})
    record.update(0, values={"train.learning_rate": 1e-3, "train.schedule": "cosine"})
    [raw] = json.loads((tmp_path / "sweep" / "trials.json").read_text())
    assert raw["values"] == {"train.learning_rate": 0.001, "train.schedule": "cosine"}
    assert raw["state"] == "running"
