"""One command at a time has a run, wherever it runs; a lost one stops by itself."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import fsspec
import pytest

from claim_race import race
from failing_disk import fail_at
from raydrgn.errors import StorageFailureError
from raydrgn.io import storage
from raydrgn.remote.process import ProcessIdentity
from raydrgn.run import claim as module
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.claim import ClaimError, Owner, RunClaim
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.writer import RunWriter


@pytest.fixture(params=["disk", "memory"])
def root(request, tmp_path):
    """A run directory on a disk, and in a store."""
    if request.param == "disk":
        return str(tmp_path / "run")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/run"


def elsewhere(root: str, number: int = 1, **changes) -> Owner:
    """Leave the claim of a command on another machine."""
    owner = dataclasses.replace(
        Owner.here(), host="node7", machine="another boot", user="ada", token="theirs", **changes
    )
    files = RunDirectory(root)
    storage.write_bytes(files.claim(number), json.dumps(dataclasses.asdict(owner)).encode())
    storage.write_bytes(files.heartbeat(number), module._now().encode())
    return owner


def claims(root: str) -> list[str]:
    return [name for name in storage.list_names(root) if name.startswith("claim.")]


def test_a_claim_is_given_back_with_all_its_files(root):
    with RunClaim(root) as claim:
        claim.take()
        claim.ticket.check()
        assert claims(root) == ["claim.1.heartbeat", "claim.1.json"]
    assert claims(root) == []


def test_a_second_command_is_refused_with_who_where_and_since_when(root):
    with RunClaim(root) as first, RunClaim(root) as second:
        first.take()
        with pytest.raises(ClaimError) as caught:
            second.take()
    text = str(caught.value)
    assert f"process {os.getpid()}" in text
    assert "its last heartbeat was at 20" in text
    assert "Ctrl-C" in text
    assert claims(root) == []


def test_a_job_is_stopped_by_its_name(root, monkeypatch):
    job = json.dumps({"metadata": {"job_submission_id": "raydrgn-train-7"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    with RunClaim(root) as first:
        first.take()
        with pytest.raises(ClaimError, match="`raydrgn stop raydrgn-train-7`"):
            RunClaim(root).take()


def test_an_attempt_of_a_job_is_stopped_by_the_name_that_is_listed(root, monkeypatch):
    job = json.dumps({"metadata": {"job_submission_id": "raydrgn-train-7-1"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    monkeypatch.setenv("RAYDRGN_JOB_ID", "raydrgn-train-7")
    assert Owner.here().job == "raydrgn-train-7"


def test_a_heartbeat_from_another_machine_refuses(root, monkeypatch):
    """Clocks of two machines are not compared: what counts is that the heartbeat changes."""
    elsewhere(root)
    beat = threading.Timer(
        0.3, storage.write_bytes, (RunDirectory(root).heartbeat(1), b"2031-01-01 00:00:00 UTC")
    )
    beat.start()
    with pytest.raises(ClaimError, match="ada on node7"):
        RunClaim(root).take()


def test_a_claim_without_heartbeat_is_taken_over(root, monkeypatch):
    monkeypatch.setattr(module, "STALE_SECONDS", 1.5)
    theirs = elsewhere(root)
    with RunClaim(root) as claim:
        claim.take()
        assert claim.predecessor == theirs
        assert claims(root) == ["claim.2.heartbeat", "claim.2.json"]


def test_a_claim_of_yesterday_is_taken_over_at_once(root):
    elsewhere(root)
    storage.write_bytes(RunDirectory(root).heartbeat(1), b"2020-01-01 00:00:00 UTC")
    with RunClaim(root) as claim:
        claim.take()


def test_a_killed_command_of_this_machine_is_followed_at_once(root):
    """Nobody waits for heartbeats of a process that is seen to be gone."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    start = ProcessIdentity.of(process.pid).start
    owner = dataclasses.replace(Owner.here(), pid=process.pid, process_start=start)
    content = json.dumps(dataclasses.asdict(owner)).encode()
    storage.write_bytes(RunDirectory(root).claim(1), content)
    with pytest.raises(ClaimError):
        RunClaim(root).take()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunClaim(root) as claim:
        claim.take()
        assert claim.predecessor.pid == process.pid


def test_of_many_at_once_one_has_the_run(tmp_path):
    context = multiprocessing.get_context("forkserver")  # a fork of this process may hang its Ray
    context.set_forkserver_preload(["claim_race"])
    barrier, queue = context.Barrier(6), context.Queue()
    folder = str(tmp_path)
    owner = dataclasses.replace(Owner.here(), pid=2**22 + 1)  # it is taken over from a dead one
    storage.write_bytes(
        RunDirectory(folder).claim(1), json.dumps(dataclasses.asdict(owner)).encode()
    )
    racers = [context.Process(target=race, args=(folder, barrier, queue)) for _ in range(6)]
    for racer in racers:
        racer.start()
    won = [queue.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(timeout=60)
    assert sorted(won) == [False] * 5 + [True]
    assert claims(folder) == []


def checkpoint(position: Position) -> bytes:
    return Checkpoint(position=position, model={}, optimiser={}, sums=[0.0] * 3).to_bytes()


def test_a_writer_that_was_overtaken_writes_and_deletes_nothing_more(root):
    with RunClaim(root) as claim:
        claim.take()
        writer = RunWriter(root, num_particles=4, claim=claim.ticket)
        for step in (0, 5):
            writer.save_checkpoint(checkpoint(Position(1, step)), Position(1, step))
        elsewhere(root, number=2)
        before = sorted(storage.list_files(root))
        for call in (
            lambda: writer.save_checkpoint(checkpoint(Position(1, 9)), Position(1, 9)),
            lambda: writer.log("a line"),
            lambda: writer.latest_checkpoint(),
            lambda: writer.finish(1),
            lambda: writer.begin(b"", None),
        ):
            with pytest.raises(ClaimError, match="ada on node7"):
                call()
        assert sorted(storage.list_files(root)) == before


@pytest.mark.parametrize(("name", "times"), [("", 1), ("/claim.1.json", 2)])
def test_a_disk_that_fails_for_a_moment_does_not_end_a_run(tmp_path, monkeypatch, name, times):
    root = str(tmp_path / "run")
    with RunClaim(root) as claim:
        claim.take()
        fail_at(monkeypatch, f"{root}{name}", times=times)
        with pytest.raises(StorageFailureError, match="cannot be read: Input/output error"):
            claim.ticket.check()
        claim.ticket.check()


def test_a_claim_whose_heartbeat_cannot_be_read_is_not_taken_over(tmp_path, monkeypatch):
    root = str(tmp_path / "run")
    elsewhere(root, since="2020-01-01 00:00:00 UTC")
    fail_at(monkeypatch, RunDirectory(root).heartbeat(1))
    with RunClaim(root) as claim, pytest.raises(StorageFailureError, match="cannot be read"):
        claim.take()
    assert claims(root) == ["claim.1.heartbeat", "claim.1.json"]


def test_a_command_whose_claim_is_gone_finds_out_by_its_heartbeat(root, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)
    with RunClaim(root) as claim:
        claim.take()
        storage.remove(RunDirectory(root).claim(1))  # taken over, trained, and given back
        claim._ended.wait(1.0)
        assert "taken it over since, and ended" in str(claim.lost)
