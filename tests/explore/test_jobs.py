"""Commands that are started from the page: forms, processes, logs, and jobs of a cluster."""

import json
import os
import re
import shlex
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import typer.testing

from explorer_server import running_server
from finished_run import make_run
from latents import finished_run
from raydrgn.cli import forms, main
from raydrgn.cli.forms import CommandForms
from raydrgn.errors import ClusterError, ConfigError, RaydrgnError
from raydrgn.explore import jobs as module
from raydrgn.explore.interfaces import Command
from raydrgn.explore.jobs import Jobs
from raydrgn.explore.run_files import RunFiles
from raydrgn.remote.job import Job
from raydrgn.remote.jobserver import JobServer
from raydrgn.workflows.explore import ExploreSettings, open_explorer


def settings(run):
    return ExploreSettings(run=str(run), commands=CommandForms())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("worked"), epochs=1)


@pytest.fixture
def server(root):
    with running_server(open_explorer(settings(root))) as found:
        yield found


def started(server, name, **filled):
    return server.json("/api/start", {"name": name, "filled": filled})["id"]


def listed(server, job_id):
    [job] = [job for job in server.json("/api/jobs")["jobs"] if job["id"] == job_id]
    return job


def ended(server, job_id):
    while (job := listed(server, job_id))["exit_code"] is None:
        time.sleep(0.3)
    return job


def log_of(server, job_id):
    return server.json(f"/api/job-log?id={job_id}")["text"]


def typed(words):
    """Return how the command line refuses words."""
    said = typer.testing.CliRunner(env={"COLUMNS": "300", "TERM": "dumb"}).invoke(main.app, words)
    assert said.exit_code != 0
    if isinstance(said.exception, RaydrgnError):
        return str(said.exception)
    return " ".join(said.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("analyze", {"ksample": "many"}),
        ("analyze", {"ksample": "0"}),
        ("analyze", {"low_pass_angstrom": "-1"}),
        ("analyze", {"figures": "gif"}),
        ("analyze", {"pc_range": "5"}),
        ("analyze", {"workers": "0"}),
        ("landscape", {"threshold": "nan"}),
        ("traverse graph", {"anchors": "0,1", "centres": "2"}),
        ("filter", {}),
        ("volumes", {"particles": "1"}),
    ],
)
def test_a_wrong_value_is_refused_as_the_command_line_refuses_it(server, root, name, filled):
    refusal = server.json("/api/command", {"name": name, "filled": filled})["problem"]
    assert server.refusal("/api/start", {"name": name, "filled": filled}) == (400, refusal)
    words = [*name.split(), str(root)]
    for field, value in filled.items():
        [form] = [form for form in CommandForms().forms() if form["name"] == name]
        [option] = [entry["option"] for entry in form["fields"] if entry["name"] == field]
        words += [option, *value.split()]
    assert refusal in typed(words)


def test_a_form_has_every_setting_and_stands_for_a_command_line(server, root):
    found = {form["name"]: form for form in server.json("/api/forms")["forms"]}
    assert {"analyze", "train", "traverse graph", "occupancy classes", "filter"} <= found.keys()
    assert not {"explore", "simulate", "demo", "parse", "protocol", "jobs"} & found.keys()
    fields = {field["name"]: field for field in found["analyze"]["fields"]}
    assert fields["ksample"]["default"] == "20"
    assert fields["ksample"]["help"] == "Clusters of k-means."
    assert fields["figures"]["choices"] == ["svg", "pdf"]
    assert fields["skip_umap"]["is_flag"] is True
    assert "address" not in fields
    filled = {
        "epoch": "1", "ksample": "4", "pc_range": "5 95", "skip_umap": True, "flip": False,
        "figures": "pdf",
    }  # fmt: skip
    found = server.json("/api/command", {"name": "analyze", "filled": filled})["command"]
    words = shlex.split(found)
    assert words[:4] == ["raydrgn", "analyze", str(root), "1"]
    assert words[4:] == [
        *("--ksample", "4", "--pc-range", "5", "95", "--skip-umap", "--figures", "pdf"),
        *("--project", "none"),
    ]
    fixed = {"run": "/elsewhere", "project": "/elsewhere"}
    body = {"name": "analyze", "filled": {**fixed, "epoch": "1"}}
    words = shlex.split(server.json("/api/command", body)["command"])
    assert words == ["raydrgn", "analyze", str(root), "1", "--project", "none"]


@pytest.mark.parametrize(
    "out", ["/tmp/elsewhere", "../elsewhere", "explore/../../elsewhere", "up/x"]
)
def test_nothing_is_started_that_writes_outside_the_run(server, root, out):
    if not (root / "up").exists():
        os.symlink(root.parent, root / "up")
    body = {"name": "volumes", "filled": {"particles": "1", "out": out}}
    problem = server.json("/api/command", body)["problem"]
    assert "writes below that folder only" in problem
    assert server.refusal("/api/start", body) == (400, problem)
    body = {"name": "volumes", "filled": {"particles": "1", "out": "explore/v"}}
    assert f"{root}/explore/v" in server.json("/api/command", body)["command"]


def test_a_value_never_becomes_another_option(server, monkeypatch):
    """--zscore may be given bare: the word after it would be an option of its own."""
    body = {"name": "filter", "filled": {"zscore": "--out=/tmp/elsewhere"}}
    status, refusal = server.refusal("/api/start", body)
    assert status == 400
    assert "--zscore cannot be '--out=/tmp/elsewhere'" in refusal
    # If it did, the place would be refused all the same: by what the command line has read.
    monkeypatch.setattr(forms, "OPTION_LIKE", re.compile(r"(?!)"))
    status, refusal = server.refusal("/api/start", body)
    assert status == 400
    assert "--out /tmp/elsewhere lies outside" in refusal


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "rm", "filled": {}}, "no form for a command 'rm'"),
        ({"name": "explore", "filled": {}}, "no form for a command 'explore'"),
        ({"name": "analyze", "filled": {"address": "auto"}}, "has no field 'address'"),
        ({"name": "analyze", "filled": {"ksample": 4}}, "filled.ksample"),
        ({"name": "analyze", "filled": {"epoch": "-h"}}, "'EPOCH'"),
        ({"name": "compare", "filled": {"labels": "'a"}}, "no form for a command"),
        ({"name": "export star", "filled": {"particles": "p", "out": "o", "passthrough": "'a"}},
         "a quotation mark without another"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(server, body, words):
    status, refusal = server.refusal("/api/start", body)
    assert status == 400
    assert words in refusal


def test_a_command_works_on_the_run_and_its_results_are_seen(server, root):
    assert "UMAP of this epoch" in server.json("/api/facts")["missing"]
    assert "kmeans4" not in server.json("/api/facts")["columns"]
    filled = {"epoch": "1", "ksample": "4", "skip_umap": True, "skip_volumes": True}
    job_id = started(server, "analyze", **filled)
    assert listed(server, job_id)["status"] == "RUNNING"
    job = ended(server, job_id)
    assert (job["status"], job["exit_code"], job["is_own"]) == ("SUCCEEDED", 0, True)
    assert job["run"] == str(root)  # as of `raydrgn submit`
    assert "analyze.1/report.html" in log_of(server, job_id)
    assert "kmeans4" in server.json("/api/facts")["columns"]
    wrong = started(server, "evaluate", truth="no/such")
    job = ended(server, wrong)
    assert (job["status"], job["exit_code"]) == ("FAILED", 2)
    assert "error: " in log_of(server, wrong)
    with running_server(open_explorer(settings(root))) as other:  # or a later one
        assert listed(other, job_id)["exit_code"] == 0
        assert "report.html" in log_of(other, job_id)


def test_training_is_stopped_and_keeps_its_checkpoint(server, root):
    settings_of = {
        "particles": str(root.parent / "particles.star"), "out": "explore/runs/long", "zdim": "2",
        "epochs": "100000", "enc_dim": "8", "dec_dim": "8", "batch_size": "64",
    }  # fmt: skip
    job_id = started(server, "train", **settings_of)
    while "epoch" not in log_of(server, job_id):
        assert listed(server, job_id)["exit_code"] is None, log_of(server, job_id)
        time.sleep(0.3)
    while (progress := listed(server, job_id)["progress"]) is None:
        time.sleep(0.3)
    assert progress["total"] > 0
    server.json("/api/stop", {"id": job_id})
    assert listed(server, job_id)["is_stopping"] in (True, False)
    job = ended(server, job_id)
    assert (job["status"], job["exit_code"]) == ("STOPPED", 130)
    assert list((root / "explore/runs/long/state").glob("*.pt"))


def test_commands_end_with_the_server(root):
    with running_server(open_explorer(settings(root))) as server:
        job_id = started(server, "convergence", epoch="1")
    record = json.loads((root / f"explore/jobs/{job_id}.json").read_text())
    assert record["job"]["status"] in ("STOPPED", "SUCCEEDED", "FAILED")


def test_no_more_than_some_processes_run(root, monkeypatch):
    monkeypatch.setattr(module, "MOST_RUNNING", 0)
    with running_server(open_explorer(settings(root))) as server:
        body = {"name": "analyze", "filled": {}}
        assert "wait for the end of one" in server.refusal("/api/start", body)[1]
        assert server.refusal("/api/stop", {"id": "none"})[1].startswith("'none' was not started")
        assert server.refusal("/api/job-log?id=..%2f..%2fconfig")[1].startswith("There is no job")


def test_without_commands_nothing_is_started(tmp_path):
    run = make_run(tmp_path / "run", np.random.default_rng(0).normal(size=(20, 2))).files.root
    with running_server(open_explorer(ExploreSettings(run=run))) as server:
        assert server.json("/api/status")["can_start"] is False
        assert server.json("/api/forms") == {"forms": []}
        body = {"name": "analyze", "filled": {}}
        assert "Nothing can be started" in server.refusal("/api/start", body)[1]


ANALYZE = Command(["analyze", "run"], {}, {"raydrgn.run": "run"})


class Cluster(JobServer):
    """Stands for a job server: it keeps what it is given, and can be away."""

    def __init__(self):
        self.is_away, self.found, self.stopped = False, [], []

    def __call__(self, url):
        self.check()
        return self

    def check(self):
        if self.is_away:
            raise ClusterError("No Ray job server answers at http://head:8265.")

    def submit(self, spec, *, folder, **_):
        self.check()
        command = Command(spec.words, {}, spec.metadata)
        self.found.append(replace(module._new(f"job-{len(self.found)}", command), folder=folder))
        return self.found[-1].id

    def jobs(self, **_):
        self.check()
        return self.found

    def progress(self, job):
        return "waiting for a GPU"

    def logs(self, job_id):
        self.check()
        return f"log of {job_id}"

    def stop(self, job_id):
        self.stopped.append(job_id)
        self.check()


@pytest.fixture
def cluster(monkeypatch):
    found = Cluster()
    monkeypatch.setattr(module, "JobServer", found)
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.0)
    return found


def test_with_a_cluster_a_command_is_a_job_of_it(cluster, tmp_path):
    files = RunFiles(str(tmp_path), str(tmp_path / "explore"))
    other = Job("other", "RUNNING", "raydrgn sweep", "", 1.0, None, None, "")
    cluster.found.append(other)
    held = Jobs(files, lambda: "http://head:8265")
    assert held.typed(ANALYZE) == "raydrgn submit analyze run"
    job_id = held.start(ANALYZE)
    assert cluster.found[-1].metadata["raydrgn.run"] == "run"  # as `raydrgn submit` sends it
    found = held.listed()
    assert found["dashboard"] == "http://head:8265"
    assert {job["id"]: job["is_own"] for job in found["jobs"]} == {job_id: True, "other": False}
    assert found["jobs"][0]["waits"] == "waiting for a GPU"
    assert held.log("other") == "log of other"
    with pytest.raises(ConfigError, match="was not started from a page of this run"):
        held.stop("other")
    Jobs(files, lambda: "http://head:8265").stop(job_id)  # of a server that was started again
    while not cluster.stopped:
        time.sleep(0.02)
    assert cluster.stopped == [job_id]


def test_a_job_that_could_not_be_stopped_says_why_and_can_be_stopped_again(cluster, tmp_path):
    held = Jobs(RunFiles(str(tmp_path), str(tmp_path / "explore")), lambda: "http://head:8265")
    job_id = held.start(ANALYZE)

    def stopping():
        return held.listed()["jobs"][0]["is_stopping"]

    held.listed()  # it is connected
    cluster.is_away = True
    held.stop(job_id)
    while job_id in held._stopping:
        time.sleep(0.01)
    cluster.is_away = False
    assert f"{job_id} could not be stopped: No Ray job server" in held.listed()["problem"]
    assert not stopping()
    held.stop(job_id)
    held.stop(job_id)  # it is stopping already
    assert stopping()
    assert held.listed()["problem"] == ""
    while len(cluster.stopped) < 2:
        time.sleep(0.01)
    assert cluster.stopped == [job_id, job_id]


def test_a_cluster_that_is_gone_is_a_message_until_it_is_back(cluster, tmp_path):
    held = Jobs(RunFiles(str(tmp_path), str(tmp_path / "explore")), lambda: "http://head:8265")
    job_id = held.start(ANALYZE)
    cluster.is_away = True
    found = held.listed()
    assert found["problem"] == "No Ray job server answers at http://head:8265."
    assert found["jobs"] == []
    with pytest.raises(ClusterError, match="answers"):
        held.start(ANALYZE)
    cluster.is_away = False
    assert [job["id"] for job in held.listed()["jobs"]] == [job_id]


def test_the_job_server_is_that_of_the_cluster_or_of_the_environment(monkeypatch):
    from raydrgn.remote import executor

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert executor.Executor().job_server is None
    assert executor.IN_PROCESS.job_server is None
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265/")
    assert executor.Executor().job_server == "http://head:8265"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(executor, "dashboard_url", lambda: "10.0.0.1:8265")
    assert executor.Executor().job_server == "http://10.0.0.1:8265"


def test_the_folder_of_a_run_that_was_deleted_is_not_made_again(tmp_path):
    run = finished_run(tmp_path, epochs=1)
    with running_server(open_explorer(settings(run))) as server:
        assert server.json("/api/facts")["epoch"] == 1
        shutil.rmtree(run)
        some = [{"join": "and", "range": {"column": "z0", "low": 0, "high": None}}]
        shown = {"level": 1.0, "colours": ["#0072b2"], "rows": [1]}
        for path, body in (
            ("/api/save-selection", {"epoch": 1, "conditions": some, "name": "right"}),
            ("/api/save-volumes", {"epoch": 1, "name": "one", **shown}),
            ("/api/start", {"name": "analyze", "filled": {}}),
        ):
            assert "is gone, so nothing is written" in server.refusal(path, body)[1]
        assert not run.exists()
