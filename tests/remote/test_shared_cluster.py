"""Several jobs on one cluster: who waits for whom, what is stopped, and what is started again."""

import json
import os
import signal
from pathlib import Path

import pytest

from job_cluster import job_id, wait_until
from notice_receiver import receiver
from raydrgn.simulation.dataset import Simulation, simulate

pytestmark = pytest.mark.ray

STANDING = {"JobQueue", "TrainStateActor", "_AutoscalingCoordinatorActor"}
"""Actors of the cluster itself, without CPUs."""

SMALL = ("--zdim", "2", "--enc-dim", "16", "--dec-dim", "16", "--set", "resources.cpus=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with particles."""
    found = tmp_path_factory.mktemp("shared")
    simulate(str(found / "data"), Simulation(num_particles=200, box=16, snr=1.0, seed=5))
    return found


def submit_training(cluster, folder, run, *options, epochs=100_000):
    """Submit a training on both CPUs of the cluster; return its id."""
    words = ("train", "data/particles.star", "-o", run, "-n", str(epochs), "--workers", "2")
    code, text = cluster.raydrgn("submit", *options, *words, *SMALL, folder=folder)
    assert code == 0, text
    return job_id(text)


def submit_downsampling(cluster, folder, out, *options):
    """Submit tasks on both CPUs of the cluster; return the job's id."""
    words = ("downsample", "data/particles.star", "-D", "8", "-o", out, "--workers", "2")
    code, text = cluster.raydrgn("submit", *options, *words, folder=folder)
    assert code == 0, text
    return job_id(text)


def stop(cluster, name, folder):
    code, text = cluster.raydrgn("stop", name, folder=folder)
    assert code == 0, text
    assert f"{name}: STOPPED" in text


def listed(cluster, folder, *command):
    code, text = cluster.raydrgn(*(command or ("jobs",)), "--json", folder=folder)
    assert code == 0, text
    return {job["id"]: job for job in json.loads(text)}


def alive(cluster):
    """Return the classes of actors that are alive, but for the job server's own."""
    actors = json.loads(cluster.get("/api/v0/actors?detail=0&limit=1000"))["data"]["result"]
    names = [a["class_name"] for a in actors["result"] if a["state"] != "DEAD"]
    return sorted(name for name in names if name != "JobSupervisor")


@pytest.mark.clusters
def test_jobs_wait_by_priority_and_leave_nothing_when_they_are_stopped(cluster, folder):
    first = submit_training(cluster, folder, "first")
    cluster.wait_for_log(first, "training: ")
    second = submit_downsampling(cluster, folder, "second.star")
    urgent = submit_downsampling(cluster, folder, "urgent.star", "--priority", "5")
    for job in (second, urgent):  # the second may have been overtaken before it says so
        cluster.wait_for_log(job, "waiting for 2 CPUs of 2 CPUs: before this one is ")
        cluster.wait_for_log(job, f"{first} (")
    begins = ("submit", "--cpus", "1", "simulate", "never", "--particles", "10")
    code, text = cluster.raydrgn(*begins, folder=folder)
    assert code == 0, text
    pending = job_id(text)

    found = listed(cluster, folder, "top", "--once")
    assert found[first]["progress"]["what"] == "training"
    assert found[first]["progress"]["total"] == 200 * 100_000
    assert found[first]["progress"]["seconds_left"] > 0
    assert found[first]["run"] == "first"
    assert found[first]["particles"] == "data/particles.star"
    assert found[first]["owner"] == found[second]["owner"] != ""
    assert f"before this one is {first}" in found[urgent]["waits"]
    assert found[pending]["status"] == "PENDING"

    stop(cluster, pending, folder)
    assert not (folder / "never").exists()
    assert listed(cluster, folder)[pending]["exit_code"] == 130

    stop(cluster, first, folder)
    wait_until(lambda: listed(cluster, folder)[second]["status"] == "SUCCEEDED")
    found = listed(cluster, folder)
    assert found[urgent]["ended"] < found[second]["ended"]  # though it came later
    assert (folder / "urgent.star").exists()
    wait_until(lambda: set(alive(cluster)) <= STANDING)


def attempt_of(run):
    """Return the process of the command that trains a run."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "raydrgn" in words and "train" in words and run in words:
            return int(entry.name)
    return None


PARSE = ("parse", "none.star", "--table", "t.parquet")
"""A command whose file is not there."""


@pytest.mark.long
def test_a_job_that_was_killed_is_started_again_and_goes_on(cluster, folder):
    with receiver() as server:
        options = ("--retries", "1", "--notify", server.url)
        name = submit_training(cluster, folder, "retried", *options, epochs=80)
        wait_until((folder / "retried" / "weights.2.pkl").exists)
        os.kill(attempt_of("retried"), signal.SIGKILL)
        code, text = cluster.raydrgn("logs", name, "--follow", folder=folder)
        assert code == 0, text
        assert "attempt 1 failed (exit code -9); starting it again, 1 of 1" in text
        assert "80 epochs of 200 particles" in text
        wait_until(lambda: len(server.received) == 3)
    assert [body["event"] for _, _, body in server.received] == ["start", "restart", "end"]
    assert {body["job"] for _, _, body in server.received} == {name}
    log = (folder / "retried" / "run.log").read_text()
    assert "continues from epoch" in log
    assert [found for found in listed(cluster, folder) if found.startswith(name)] == [name]
    code, text = cluster.raydrgn("submit", "--retries", "3", *PARSE, folder=folder)
    code, text = cluster.raydrgn("logs", job_id(text), "--follow", folder=folder)
    assert code == 2, text  # a mistake of the user's is not tried again
    assert "starting it again" not in text
