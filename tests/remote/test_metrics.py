"""Gauges and counters: labels that Ray takes, and work that goes on whatever becomes of them."""

import logging

import pytest

from raydrgn.remote import metrics

RUN = "/data/klein ü/ラン 7"
LABEL = "/data/klein %C3%BC/%E3%83%A9%E3%83%B3 7"


class Broken:
    def set(self, *_):
        raise ValueError("no such tag")

    inc = set


@pytest.fixture
def recorded(monkeypatch):
    """What is set, as if there were Ray."""
    found = []

    class Recorder:
        def set(self, value, labels):
            found.append((value, labels))

        inc = set

    monkeypatch.setattr(metrics, "_has_ray", lambda: True)
    monkeypatch.setattr(metrics, "_start_repeating", lambda: None)
    monkeypatch.setattr(metrics, "_gauge", lambda name: Recorder())
    monkeypatch.setattr(metrics, "_counter", lambda name: Recorder())
    monkeypatch.setattr(metrics, "_latest", {})
    monkeypatch.setattr(metrics, "_failures", [])
    return found


def test_labels_are_ascii_and_a_path_in_ascii_is_as_it_is():
    assert metrics.ascii_label(RUN) == LABEL
    assert metrics.ascii_label("/data/run 7%") == "/data/run 7%"
    assert metrics.ascii_label(b"\xff".decode("utf-8", "surrogateescape")).isascii()


def test_gauges_of_a_run_are_forgotten_by_its_path(recorded, monkeypatch):
    monkeypatch.setattr(
        metrics,
        "_labels",
        lambda run, worker: {"run": metrics.ascii_label(run), "worker": worker},
    )
    metrics.record({"epoch": 1}, run=RUN, worker="0")
    metrics.record({"epoch": 2}, run="other", worker="0")
    assert recorded == [(1, {"run": LABEL, "worker": "0"}), (2, {"run": "other", "worker": "0"})]
    metrics.forget(run=RUN)
    assert list(metrics._latest.values()) == [2]


def test_work_goes_on_where_a_number_cannot_be_recorded(recorded, monkeypatch, caplog):
    monkeypatch.setattr(metrics, "_labels", lambda run, worker: {"run": run})
    monkeypatch.setattr(metrics, "_gauge", lambda name: Broken())
    monkeypatch.setattr(metrics, "_counter", lambda name: Broken())
    with caplog.at_level(logging.WARNING):
        metrics.record({"epoch": 1}, run="run")
        metrics.count("volumes", 3, run="run")
    [message] = caplog.messages
    assert message == "numbers of this process for Prometheus are not recorded: no such tag"


@pytest.mark.ray
def test_ray_takes_the_labels_of_a_run_with_an_umlaut(ray_session, monkeypatch, caplog):
    monkeypatch.setattr(metrics, "_failures", [])
    monkeypatch.setenv(metrics.JOB_ID, "raydrgn-train-ü")
    with caplog.at_level(logging.WARNING):
        metrics.record({"epoch": 1}, run=RUN, worker="ü")
        metrics.count("volumes", 3, run=RUN)
        metrics.forget(run=RUN)
    assert not caplog.messages
