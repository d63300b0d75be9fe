"""Notices are sent to a server as they should be, and are never the reason for a failure."""

import logging
import socket
import threading
import time

import pytest

from notice_receiver import receiver
from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.remote import notices as module
from raydrgn.remote.notices import Notices, notices


@pytest.fixture
def server():
    with receiver() as found:
        yield found


def events(server):
    return [body["event"] for _, _, body in server.received]


def test_start_and_end_are_sent_as_json_with_a_sentence(server, monkeypatch):
    monkeypatch.setenv("RAYDRGN_JOB_ID", "raydrgn-train-1")
    with notices(server.url, command="train", run="/data/run7") as notice:
        notice.ended("20 epochs of 5,000 particles are done")
    [(path, kind, start), (_, _, end)] = sorted(
        server.received, key=lambda r: r[2]["event"] != "start"
    )
    assert (path, kind) == ("/hooks/secret", "application/json")
    assert start["text"] == "raydrgn train /data/run7: started"
    assert end["text"] == "raydrgn train /data/run7: 20 epochs of 5,000 particles are done"
    assert {
        "event": "end",
        "command": "train",
        "run": "/data/run7",
        "job": "raydrgn-train-1",
    }.items() <= end.items()
    assert set(end) == {"text", "event", "command", "run", "job", "user", "host", "time"}


def test_a_failure_is_sent_and_raised(server):
    with pytest.raises(RaydrgnError), notices(server.url, command="train"):
        raise RaydrgnError("no room is left")
    assert server.received[-1][2]["text"] == "raydrgn train: failed: no room is left"
    assert events(server) == ["start", "failure"]
    with pytest.raises(KeyboardInterrupt), notices(server.url, command="train"):
        raise KeyboardInterrupt
    assert events(server) == ["start", "failure", "start", "stop"]


def test_convergence_is_an_event_of_its_own(server):
    with notices(server.url, command="convergence --watch", run="run") as notice:
        notice.send("convergence", "Converged at epoch 12.")
    assert events(server) == ["start", "convergence", "end"]


def test_what_cannot_be_delivered_is_one_warning_without_the_path(server, closed_port, caplog):
    server.status = 404
    with caplog.at_level(logging.WARNING), notices(server.url, command="train"):
        pass
    nobody = f"http://127.0.0.1:{closed_port}/hooks/secret"
    with caplog.at_level(logging.WARNING), notices(nobody, command="train"):
        pass
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == "no notice could be sent to 127.0.0.1 (HTTP 404)"
    assert "secret" not in caplog.text


def test_a_server_that_says_nothing_does_not_hold_a_command(monkeypatch, caplog):
    monkeypatch.setattr(module, "POST_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with notices(f"http://127.0.0.1:{silent.getsockname()[1]}/", command="train"):
            assert time.monotonic() - began < 30
    assert "(ReadTimeout)" in caplog.text


@pytest.mark.parametrize(
    "url", ["", "hooks.example.org/x", "ftp://host/x", "http://", "http://[::1"]
)
def test_other_kinds_of_url_are_refused(url):
    with pytest.raises(ConfigError, match="--notify takes a URL such as"):
        Notices(url, command="train")


def test_without_a_url_nothing_is_started():
    before = threading.active_count()
    with notices(None, command="train"):
        assert threading.active_count() == before
