"""Attempts of a job: how many there are, and what a request to stop does."""

import json
from types import SimpleNamespace

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote import job_supervisor
from raydrgn.remote.job import EXIT_STOPPED, Job
from raydrgn.remote.job_attempts import RETRIES
from raydrgn.remote.jobserver import JobServer
from raydrgn.remote.metrics import JOB_ID
from raydrgn.remote.notices import Notices
from raydrgn.remote.own_job import RAY_JOB_CONFIG


def ended(job_id, status, code=None):
    return Job(job_id, status, "train", "", 0.0, 1.0, code, "")


class Server(JobServer):
    """A job server whose attempts all fail; a request to stop may come while one is started."""

    def __init__(self, interrupted=""):
        self.interrupted, self.calls = interrupted, []

    def start(self, arguments):
        self.calls.append(("start", arguments["submission_id"]))
        if self.interrupted == "start":
            raise KeyboardInterrupt

    def follow(self, attempt_id, write):
        if self.interrupted == "follow":
            raise KeyboardInterrupt
        return ended(attempt_id, "FAILED", 1)

    def stop(self, attempt_id):
        self.calls.append(("stop", attempt_id))
        return ended(attempt_id, "STOPPED")


def run(monkeypatch, server, retries):
    monkeypatch.setenv(JOB_ID, "job")
    monkeypatch.setenv(RETRIES, str(retries))
    config = {"runtime_env": {"working_dir": "gcs://package.zip"}}
    monkeypatch.setenv(RAY_JOB_CONFIG, json.dumps(config))
    client = SimpleNamespace(get_address=lambda: "http://head:8265")
    monkeypatch.setattr(job_supervisor, "JobSubmissionClient", lambda: client)
    monkeypatch.setattr(job_supervisor, "JobServer", lambda _: server)
    attempt = {"entrypoint": "sh job.sh train", "runtime_env": {}, "metadata": {}}
    sender = Notices(None, command="train")
    return job_supervisor._run_attempts(attempt, sender)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_job_that_fails_is_started_again_as_often_as_asked(monkeypatch, retries):
    server = Server()
    assert run(monkeypatch, server, retries).exit_code == 1
    assert server.calls == [("start", f"job-{n}") for n in range(1, retries + 2)]


@pytest.mark.parametrize("interrupted", ["start", "follow"])
def test_a_request_to_stop_ends_the_attempt_whenever_it_comes(monkeypatch, interrupted):
    server = Server(interrupted)
    assert run(monkeypatch, server, 2).exit_code == EXIT_STOPPED
    assert server.calls == [("start", "job-1"), ("stop", "job-1")]


def test_the_last_notice_tells_of_attempts_that_are_not_followed_any_more(monkeypatch):
    server, notices = Server(), []
    monkeypatch.setattr(server, "follow", refuse)
    monkeypatch.setattr(Notices, "send", lambda _, event, text: notices.append((event, text)))
    attempt = {"metadata": {"raydrgn.command": "raydrgn train", "raydrgn.run": "run"}}
    monkeypatch.setenv(job_supervisor.ATTEMPT, json.dumps(attempt | {"entrypoint": "sh job.sh"}))
    monkeypatch.setenv(job_supervisor.NOTIFY, "")
    monkeypatch.setattr(job_supervisor, "_run_attempts", lambda *_: server.follow("job-1", print))
    with pytest.raises(ClusterError):
        job_supervisor.main()
    assert notices == [
        ("start", "started"),
        ("failure", "is not followed any more: no job server answers"),
    ]


def refuse(*_):
    raise ClusterError("no job server answers")
