"""What workers are given of a cluster."""

import os
import signal
import subprocess
import sys

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote.address import RayAddress
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import (
    HELD_CPUS,
    HELD_GPUS,
    SPARE_RESOURCE,
    _interrupt_afterwards,
    _join,
    allocate,
    reserve,
)


def test_workers_share_all_cpus_but_the_spare_ones():
    allocation = allocate(Resources(num_workers=2), available={"CPU": 10, SPARE_RESOURCE: 2})
    assert (allocation.cpus, allocation.gpus) == (4, 0)


def test_workers_are_not_given_what_a_job_keeps_for_its_command(monkeypatch):
    monkeypatch.setenv(HELD_CPUS, "0.5")
    monkeypatch.setenv(HELD_GPUS, "1.0")
    available = {"CPU": 4, "GPU": 2}
    assert allocate(Resources(), available=available).cpus == 3
    with pytest.raises(ClusterError, match=r"2 workers of 2 CPUs each .* the 3 CPUs there"):
        allocate(Resources(num_workers=2, cpus=2), available=available)
    with pytest.raises(ClusterError, match=r"2 workers of 1 GPUs each .* the 1 GPUs there"):
        allocate(Resources(num_workers=2, gpus=1), available=available)


@pytest.mark.ray
def test_who_has_to_wait_for_others_is_told_so(ray_session, monkeypatch, caplog):
    import ray

    monkeypatch.setattr("raydrgn.remote.session.RELEASE_SECONDS", 0.1)
    others = ray.util.placement_group([{"CPU": ray.available_resources()["CPU"]}])
    ray.get(others.ready(), timeout=30)
    try:
        assert reserve(Resources(num_workers=2, cpus=1)).num_workers == 2
    finally:
        ray.util.remove_placement_group(others)
    assert "2 CPUs are wanted and 0 are free; waiting" in caplog.text


LOSES_A_WORKER = """
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

with connected(None):
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
def test_what_raylets_tell_all_drivers_is_not_printed():
    done = subprocess.run(
        [sys.executable, "-c", LOSES_A_WORKER], capture_output=True, text=True, check=True
    )
    assert done.stdout == "a worker has crashed\nTrue\n"
    assert "raylet" not in done.stderr


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
        "Several Rays run on this machine, at '10.0.0.1:6379', '10.0.0.1:6390': auto from "
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
