"""A sweep on Ray from its command to its report; what trials leave behind is released."""

import html
import json
import os
import shlex
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from raydrgn.data.config import ImageConfig
from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.io.mrc import write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.run.claim import ClaimError, RunClaim
from raydrgn.run.config import RunConfig
from raydrgn.run.metrics import epoch_rows
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.sweep import trial_training
from raydrgn.sweep.record import SweepRecord
from raydrgn.sweep.trial_training import TrialTraining
from raydrgn.sweep.trials import _no_score
from raydrgn.training import prepare_run, trainer
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.workflows import sweep as workflow
from raydrgn.workflows.sweep import SweepSettings

SMALL = (
    "model.encoder_width=16",
    "model.decoder_width=16",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "train.held_out_fraction=0.1",
)
EPOCHS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate(str(folder), Simulation(num_particles=400, box=16, snr=1.0, seed=2))
    return folder


def settings(data, out, **options):
    given = {"search": ("model.zdim=1,2,4",), "epochs": EPOCHS, "set": SMALL, "score": "heldout"}
    return SweepSettings(
        particles=str(data / "particles.star"), out=str(out), **{**given, **options}
    )


@pytest.mark.ray
@pytest.mark.clusters
def test_a_sweep_trains_its_trials_goes_on_and_reports(data, tmp_path, ray_session):
    out = tmp_path / "my sweep"
    # Two of three, as if the command had been stopped after them, with one not yet recorded whole.
    assert workflow.run(settings(data, out, trials=2, scheduler="none")).finished
    records = json.loads((out / "trials.json").read_text())
    assert [record["state"] for record in records] == ["finished", "finished"]
    records[1] |= {"state": "running", "scores": {}, "errors": {}, "parts": []}
    (out / "trials.json").write_text(json.dumps(records))
    before = {n: (out / f"trial-{n:03d}" / "metrics.jsonl").stat().st_mtime_ns for n in (0, 1)}

    found = workflow.run(settings(data, out, trials=3, scheduler="none"))

    after = {n: (out / f"trial-{n:03d}" / "metrics.jsonl").stat().st_mtime_ns for n in (0, 1)}
    assert after == before  # nothing is trained twice
    assert [trial.state for trial in found.trials] == ["finished"] * 3
    assert {trial.values["model.zdim"] for trial in found.trials} == {1, 2, 4}
    assert [trial.epoch for trial in found.trials] == [EPOCHS] * 3
    for trial in found.trials:
        root = out / trial.name
        config = RunConfig.read(str(root / "config.yaml"))
        assert config.model.zdim == trial.values["model.zdim"]
        assert len(epoch_rows(str(root / "metrics.jsonl"))) == EPOCHS
        assert len(ParticleTable.read(str(root / "held_out.parquet"))) == 40
        assert trial.error > 0
        assert len(trial.parts) == 40
    lines = (out / "trials.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("trial,model.zdim,state,epochs,score,standard_error")
    report = (out / "report.html").read_text()
    assert "Learning curves" in report
    assert found.command in html.unescape(report)
    best = max(found.trials, key=lambda trial: trial.score)
    assert shlex.split(found.command) == [
        *("raydrgn", "train", "-o", f"{out}/{best.name}"),
        *("--resume", "--epochs", str(2 * EPOCHS)),
    ]
    assert found.command in (out / "train_best.sh").read_text()
    with pytest.raises(RaydrgnError, match="another seed: 0, not 1"):
        workflow.run(settings(data, out, trials=3, scheduler="none", seed=1))
    with pytest.raises(RaydrgnError, match="another scheduler"):
        workflow.run(settings(data, out, trials=3))


@pytest.mark.ray
@pytest.mark.clusters
def test_what_a_trial_has_left_behind_is_released(tmp_path, ray_session):
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    from raydrgn.sweep import tuner
    from raydrgn.sweep.record import SweepRecord
    from raydrgn.sweep.tuner import FollowTrials
    from raydrgn.training.sharing import start_keeper

    keeper = start_keeper()
    free = ray.available_resources()["CPU"]
    group, other = placement_group([{"CPU": 1}]), placement_group([{"CPU": 1}])
    ray.get([group.ready(), other.ready()])
    ray.get(keeper.join.remote("trial-000", group.id.hex()))
    ray.get(keeper.join.remote("trial-001", other.id.hex()))
    record = SweepRecord(str(tmp_path))
    follow = FollowTrials(record, keeper, 2, lambda *args, **options: None)
    ended = SimpleNamespace(
        config={"trial": {"number": 0, "values": {}}}, last_result={}, is_finished=lambda: True
    )
    follow.on_trial_complete(1, [ended], ended)
    follow.on_step_end(1, [ended])  # it may still be ending by itself
    assert placement_group_table(group)["state"] == "CREATED"
    tuner_seconds, tuner.RELEASE_SECONDS = tuner.RELEASE_SECONDS, 0.0
    try:
        follow.on_step_end(2, [ended])
    finally:
        tuner.RELEASE_SECONDS = tuner_seconds
    _wait_for(lambda: placement_group_table(group)["state"] == "REMOVED")
    assert placement_group_table(other)["state"] == "CREATED"  # of a trial that is still running
    ray.util.remove_placement_group(other)
    _wait_for(lambda: ray.available_resources().get("CPU", 0) >= free)
    ray.kill(keeper)


@pytest.mark.ray
def test_a_trial_that_is_started_again_gives_back_what_its_killed_process_held(
    data, tmp_path, ray_session, monkeypatch
):
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    from raydrgn.training.sharing import SharedShards, start_keeper

    keeper, group = start_keeper(), placement_group([{"CPU": 1}])
    ray.get([group.ready(), keeper.join.remote("trial-000", group.id.hex())])
    states = []
    monkeypatch.setattr(
        trainer,
        "train",
        lambda *_, **__: states.append(placement_group_table(group)["state"]),
    )
    shards = SharedShards(keeper, "particles", "trial-000")
    again = TrialTraining(
        _prepared(data, tmp_path), scorer=_no_score, milestones=(), shards=shards, cpus=1
    )
    assert again.next_result().failure == ""
    assert states == ["REMOVED"]
    ray.kill(keeper)


@pytest.mark.ray
def test_a_keeper_is_beside_the_command_and_the_sweep_goes_on_without_it(ray_session, monkeypatch):
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from raydrgn.training import sharing
    from raydrgn.training.sharing import release

    places = []
    monkeypatch.setattr(
        sharing,
        "NodeAffinitySchedulingStrategy",
        lambda *a, **k: places.append((a, k)) or NodeAffinitySchedulingStrategy(*a, **k),
    )
    keeper = sharing.start_keeper()
    assert places == [((ray.get_runtime_context().get_node_id(),), {"soft": False})]
    assert release(keeper, "trial-000") == []
    ray.kill(keeper, no_restart=False)  # as Ray's memory monitor does, with actors of no CPU first
    assert ray.get(keeper.placement_groups.remote("trial-000")) == []
    ray.kill(keeper)
    assert release(keeper, "trial-000") == []  # no error, with which Tune would end


def _wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_dry_run_says_how_many_trials_and_how_long_and_writes_nothing(data, tmp_path):
    out = tmp_path / "sweep"
    search = ("model.zdim=1,2,4,8", "train.learning_rate=log:1e-4..1e-2")
    found = workflow.run(settings(data, out, search=search, trials=20, dry_run=True))
    assert not found.finished
    assert found.estimate.trials == 20
    assert found.estimate.seconds > 0
    assert "training steps" in found.estimate.basis
    assert not Path(out).exists()


def test_a_sweep_that_another_command_has_is_refused_before_images_are_read(
    data, tmp_path, monkeypatch
):
    out = tmp_path / "sweep"
    with RunClaim(str(out)) as theirs:
        theirs.take()
        with monkeypatch.context() as patched:
            patched.setattr(prepare_run, "check_images", None)
            with pytest.raises(ClaimError, match=f"^{out} is in use by .*process {os.getpid()}"):
                workflow.run(settings(data, out))
        assert workflow.run(settings(data, out, dry_run=True)).estimate  # which writes nothing
    assert list(out.iterdir()) == []


def test_what_a_crash_has_left_of_a_claim_is_no_other_folder(tmp_path):
    for name in ("claim.1.json", "claim.1.heartbeat"):
        (tmp_path / name).write_text("{}")
    SweepRecord(str(tmp_path)).require_same({"seed": 0})


def test_a_sweep_that_was_taken_over_writes_nothing_more(tmp_path, monkeypatch):
    record = SweepRecord(str(tmp_path))
    with RunClaim(str(tmp_path)) as mine:
        mine.take()
        record.begin({"seed": 0}, mine.ticket)
        record.update(0, values={})
        (tmp_path / "claim.2.json").write_text("{}")
        with pytest.raises(ClaimError, match="no longer has"):
            record.update(0, state="finished")
    assert json.loads((tmp_path / "trials.json").read_text())[0]["state"] == "running"


def _prepared(data, folder):
    """Return a trial that is ready to be trained."""
    source = ParticleSource(particles=str(data / "particles.star"))
    config = RunConfig(source=source, data=ImageConfig(box=16), pixel_size_angstrom=1.0)
    return PreparedRun(root=str(folder / "trial-000"), config=config, table=open_particles(source))


def test_a_trial_that_is_started_again_waits_for_its_earlier_process(data, tmp_path, monkeypatch):
    run, trained = _prepared(data, tmp_path), []
    monkeypatch.setattr(
        trainer, "train", lambda run, *, claim, **_: trained.append(claim.ticket.check())
    )
    plan = {"milestones": (), "shards": None, "cpus": 1}
    again = TrialTraining(run, scorer=_no_score, **plan)
    with RunClaim(run.root) as before:
        before.take()
        threading.Timer(2.0, before.__exit__, (None, None, None)).start()
        assert again.next_result().failure == ""
    assert len(trained) == 1
    monkeypatch.setattr(trial_training, "PATIENCE_SECONDS", 0.5)
    with RunClaim(run.root) as other:
        other.take()
        found = TrialTraining(run, scorer=_no_score, **plan).next_result()
    assert "is in use by" in found.failure
    assert len(trained) == 1


def test_too_few_held_out_particles_are_refused_before_training(data, tmp_path):
    few = (*SMALL[:-1], "train.held_out_fraction=0.02")
    with pytest.raises(ConfigError, match=r"held_out_fraction=0\.05"):
        workflow.run(settings(data, tmp_path / "sweep", set=few))
    assert not (tmp_path / "sweep" / "sweep.json").exists()


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_a_truth_of_other_particles_is_refused_before_training(data, tmp_path, count):
    truth = tmp_path / "truth"
    if count:
        shutil.copytree(data / "truth", truth)
        np.save(truth / "labels.npy", np.zeros(count, dtype=np.int64))
        (truth / "shown.npy").unlink(missing_ok=True)
        if count > 1:
            write_volume(
                truth / "vol_000.mrc", np.ones((8, 8, 8), dtype=np.float32), pixel_size_angstrom=1.0
            )
    message = {0: "truth does not exist", 1: r"labels\.npy has 1 particles, but", 10_000: "of 8"}
    with pytest.raises(RaydrgnError, match=message[count]):
        workflow.run(settings(data, tmp_path / "sweep", score="truth", truth=str(truth)))
    assert not (tmp_path / "sweep" / "sweep.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 4}, "4, but the values of --search have 3 combinations"),
        ({"search": ("model.zdim=0,1",)}, "at least 1, got 0"),
        ({"search": ()}, "at least one --search"),
        ({"set": (*SMALL, "model.zdim=8")}, "given by --set and by --search"),
        ({"set": (*SMALL, "train.load=other")}, "train.load cannot be set"),
        ({"score": "loss"}, "--score is 'loss'"),
        ({"scheduler": "pbt"}, "--scheduler is 'pbt'"),
        ({"score": "truth"}, "--score truth needs --truth"),
        ({"truth": "data/truth"}, "--score truth needs --truth"),
    ],
)
def test_mistakes_are_refused_before_any_work(tmp_path, options, message):
    def sweep():
        workflow.run(settings(tmp_path / "absent", tmp_path / "sweep", **options))

    with pytest.raises(ConfigError) as caught:
        sweep()
    assert message in str(caught.value)


def test_a_truth_is_scored_by_without_being_asked_for(tmp_path):
    given = settings(tmp_path, tmp_path / "sweep", score=None, truth="data/truth")
    assert given.score_or_default == "truth"
    assert given.values()["train.held_out_fraction"] == 0.1  # of --set
    plain = settings(tmp_path, tmp_path / "sweep", score=None, truth="data/truth", set=())
    assert plain.values()["train.held_out_fraction"] == 0.0
    assert settings(tmp_path, tmp_path / "sweep", score=None).score_or_default == "heldout"


def test_the_command_for_all_particles_has_the_options_of_the_sweep(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = settings(
        data, tmp_path, poses="my poses.pkl", uninvert_data=True, recipe="protocol", drop_bad=True
    )
    text = given.train_command(
        {"model.zdim": 4, "train.schedule": "constant", "train.beta": None}, out="o p", epochs=8
    )
    words = shlex.split(text)
    assert words[:5] == ["raydrgn", "train", str(data / "particles.star"), "-o", "o p"]
    for wanted in (
        ["--poses", str(tmp_path / "my poses.pkl")],
        ["--epochs", "8"],
        ["--recipe", "protocol"],
        ["--set", "model.zdim=4"],
        ["--set", "train.schedule=constant"],
        ["--set", "train.beta=null"],
        ["--set", "model.encoder_width=16"],
    ):
        at = words.index(wanted[1])
        assert words[at - 1] == wanted[0]
    assert {"--uninvert-data", "--drop-bad"} <= set(words)
    assert "held_out" not in text
