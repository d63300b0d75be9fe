"""Two explorers of one run: each shows what the other has started, and can stop it."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from raydrgn.errors import ConfigError, StorageError
from raydrgn.explore import jobs as module
from raydrgn.explore.interfaces import Command
from raydrgn.explore.job_records import JobRecords, Record
from raydrgn.explore.jobs import Jobs
from raydrgn.explore.run_files import RunFiles
from raydrgn.remote.process import ProcessIdentity

TRAIN = Command(["train"], {}, {"raydrgn.particles": "p.star"})
HERE = ProcessIdentity.of(os.getpid())
GONE = replace(HERE, start="1")
"""A process whose number is used again, by this one."""

ELSEWHERE = ProcessIdentity("node7", "another boot", 1, "1")


@pytest.fixture
def files(tmp_path):
    return RunFiles(str(tmp_path), str(tmp_path / "explore"))


@pytest.fixture
def sleeper():
    """A process of its own session, as commands of the page are, that ends when interrupted."""
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(words, start_new_session=True) as process:
        yield process
        process.kill()


def kept(files, **record):
    """Return how an explorer lists a process that another one has recorded."""
    job = module._new("raydrgn-train-1", TRAIN)
    JobRecords(files).keep(Record(job=job, **record))
    [found] = Jobs(files, lambda: None).listed()["jobs"]
    return found


def test_what_another_explorer_has_started_is_running(files, sleeper):
    process = ProcessIdentity.of(sleeper.pid)
    found = kept(files, process=process, server=HERE)
    assert (found["status"], found["particles"], found["is_own"]) == ("RUNNING", "p.star", True)
    assert kept(files, process=process, server=GONE)["status"] == "RUNNING"  # outlived its server


def test_a_process_that_has_ended_without_its_explorer_has_failed(files):
    found = kept(files, process=GONE, server=GONE)
    assert (found["status"], found["exit_code"]) == ("FAILED", 1)
    assert "how it ended is in its log" in found["waits"]
    assert kept(files)["status"] == "FAILED"  # of an earlier version


def test_of_a_process_of_another_machine_its_last_record_is_shown(files):
    found = kept(files, process=ELSEWHERE, server=ELSEWHERE)
    assert (found["status"], found["waits"]) == ("RUNNING", "on node7, when it was last heard of")
    with pytest.raises(ConfigError, match="is a process of node7: stop it from an explorer there"):
        Jobs(files, lambda: None).stop(found["id"])


def test_the_end_that_another_explorer_has_recorded_is_seen(files):
    first = JobRecords(files)
    job = module._new("raydrgn-train-1", TRAIN)
    second = Jobs(files, lambda: None)
    assert second.listed()["jobs"] == []
    first.keep(Record(job=job, process=HERE, server=HERE))
    assert [entry["status"] for entry in second.listed()["jobs"]] == ["RUNNING"]
    first.keep(Record(job=replace(job, status="SUCCEEDED", driver_exit_code=0), process=HERE))
    assert [entry["exit_code"] for entry in second.listed()["jobs"]] == [0]


def test_a_damaged_record_is_left_out_and_named_once(files, tmp_path, caplog):
    kept(files, process=GONE, server=GONE)
    (tmp_path / "explore/jobs/raydrgn-train-1.json").write_text("{")
    jobs = Jobs(files, lambda: None)
    assert jobs.listed()["jobs"] == jobs.listed()["jobs"] == []
    assert caplog.text.count("raydrgn-train-1.json is damaged") == 1


def test_a_record_that_cannot_be_read_now_is_read_later(files, monkeypatch):
    kept(files, process=GONE, server=GONE)
    jobs = Jobs(files, lambda: None)

    def fail(uri):
        raise StorageError(f"{uri} cannot be read.")

    with monkeypatch.context() as patched:
        patched.setattr("raydrgn.explore.job_records.storage.read_bytes", fail)
        assert jobs.listed()["jobs"] == []
    assert len(jobs.listed()["jobs"]) == 1


def test_another_explorer_stops_a_process_and_never_one_of_the_same_number(files, sleeper):
    found = kept(files, process=replace(ProcessIdentity.of(sleeper.pid), start="1"), server=GONE)
    Jobs(files, lambda: None).stop(found["id"])
    time.sleep(0.3)
    assert sleeper.poll() is None
    found = kept(files, process=ProcessIdentity.of(sleeper.pid), server=GONE)
    Jobs(files, lambda: None).stop(found["id"])
    assert sleeper.wait(60) != 0


def test_a_command_that_the_system_does_not_start_leaves_no_record(files, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    jobs = Jobs(files, lambda: None)
    monkeypatch.setattr(module.subprocess, "Popen", refuse)
    with pytest.raises(ConfigError, match="train cannot be started on this machine: Cannot"):
        jobs.start(TRAIN)
    assert jobs.listed()["jobs"] == []
    assert not list((tmp_path / "explore" / "jobs").iterdir())


COUNTS_INTERRUPTS = """
import signal, sys, time
found = []
signal.signal(signal.SIGINT, lambda *_: found.append(1))
print("ready", flush=True)
while not found:
    time.sleep(0.01)
time.sleep(1)
print(len(found), flush=True)
sys.exit(130)
"""


def test_a_process_that_is_stopping_is_not_interrupted_again(files, monkeypatch):
    """In training, a second Ctrl-C ends it at once, without its checkpoint."""
    popen = subprocess.Popen

    def start(_, **options):
        return popen([sys.executable, "-c", COUNTS_INTERRUPTS], **options)

    monkeypatch.setattr(module.subprocess, "Popen", start)
    jobs = Jobs(files, lambda: None)
    job_id = jobs.start(TRAIN)
    while "ready" not in jobs.log(job_id):
        time.sleep(0.01)
    jobs.stop(job_id)
    time.sleep(0.3)
    jobs.stop(job_id)
    time.sleep(0.3)
    jobs.close()
    assert jobs.log(job_id).split() == ["ready", "1"]
    assert jobs.listed()["jobs"][0]["status"] == "STOPPED"
