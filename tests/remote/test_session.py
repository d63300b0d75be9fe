"""Joining a cluster and starting Ray: interrupts, and what Ray prints."""

import os
import signal
import subprocess
import sys

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote import session, turn
from raydrgn.remote.address import RayAddress
from raydrgn.remote.job_queue import Amount
from raydrgn.remote.session import _ensure_token, _interrupt_afterwards, _join

STARTS_RAY = """
import logging, os, time
import ray
from raydrgn.remote.session import connected

told = []
handler = logging.Handler()
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger("raydrgn.remote.session").addHandler(handler)
logging.getLogger("raydrgn.remote.session").setLevel("DEBUG")

@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), 9)

@ray.remote
def niceness():
    return os.nice(0)

with connected(None):
    print("priority of workers", ray.get(niceness.remote()) - os.nice(0))
    try:
        ray.get(die.remote())
    except ray.exceptions.WorkerCrashedError:
        print("a worker has crashed")
    end = time.monotonic() + 60
    while time.monotonic() < end and not told:
        time.sleep(0.1)
    print("A worker died" in told[0])
"""


@pytest.mark.ray
def test_workers_share_cores_evenly_and_what_raylets_tell_all_drivers_is_not_printed():
    done = subprocess.run(
        [sys.executable, "-c", STARTS_RAY], capture_output=True, text=True, check=True
    )
    assert done.stdout == "priority of workers 0\na worker has crashed\nTrue\n"
    assert "raylet" not in done.stderr


@pytest.mark.ray
def test_trials_of_a_sweep_have_the_turn_of_its_command(ray_session):
    """They would take its place in the queue, with the user of their node."""
    import ray

    @ray.remote(num_cpus=0)
    class Trial:
        def wait(self):
            turn.wait_for_turn(workers=Amount(10**6), held=Amount(0), capacity=Amount(1))
            return list(turn._held)

    assert ray.get(Trial.remote().wait.remote()) == []


def test_an_address_that_may_be_one_of_several_is_refused_with_those_there_are(monkeypatch):
    import ray

    def init(**_):
        raise ConnectionError(
            "Found multiple active Ray instances: {'10.0.0.1:6379', '10.0.0.1:6390'}. Please "
            "specify the one to connect to by setting `--address` flag."
        )

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterError) as caught:
        _join(RayAddress("auto", "--address"))
    assert str(caught.value) == (
        "Several Ray clusters run on this machine, at '10.0.0.1:6379', '10.0.0.1:6390': auto from "
        "--address does not say which is meant. Give its address, HOST:PORT."
    )


@pytest.fixture
def _interrupts():
    """Ctrl-C as in a terminal: a shell that starts tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
@pytest.mark.parametrize(("interrupts", "steps"), [(0, ["started"]), (1, ["started"]), (2, [])])
def test_an_interrupt_waits_until_ray_has_started_and_a_second_one_does_not(interrupts, steps):
    done = []

    def start():
        with _interrupt_afterwards():
            for _ in range(interrupts):
                os.kill(os.getpid(), signal.SIGINT)
            done.append("started")

    if interrupts:
        with pytest.raises(KeyboardInterrupt):
            start()
    else:
        start()
    assert done == steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("RPC error: InvalidAuthToken: missing", "wants a token, and this process has none"),
        ("other", r"No Ray at a:6379: no answer\. The address comes from RAY_ADDRESS\. Unset"),
    ],
)
def test_what_ray_prints_is_kept_from_the_terminal(monkeypatch, capfd, printed, message):
    import ray

    def fail(**_):
        os.write(2, printed.encode())  # as its C++ code does
        raise ConnectionError("no answer.\nmore")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ClusterError, match=message):
        _join(RayAddress("a:6379", "RAY_ADDRESS"))
    assert capfd.readouterr().err == ""


@pytest.fixture
def tokenless(tmp_path, monkeypatch):
    """A user without a token of Ray, whose home is the folder."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "to be removed")  # so that what a test sets is removed again
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("has_token", [False, True])
def test_the_token_of_a_home_folder_is_used_and_made_by_ray(tokenless, has_token):
    if has_token:
        (tokenless / ".ray").mkdir()
        (tokenless / ".ray" / "auth_token").write_text("abc")
    _ensure_token()
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_ray_has_a_token_where_the_home_cannot_be_written(tokenless, monkeypatch):
    monkeypatch.setattr(session, "can_be_written", lambda folder: False)
    _ensure_token()
    first = os.environ["RAY_AUTH_TOKEN"]
    assert len(first) == 64
    _ensure_token()
    assert os.environ["RAY_AUTH_TOKEN"] == first
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    _ensure_token()
    assert os.environ["RAY_AUTH_TOKEN"] != first
