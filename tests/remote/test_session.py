"""Joining a cluster and starting Ray: interrupts, and what Ray prints."""

import os
import signal

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote.address import RayAddress
from raydrgn.remote.session import _interrupt_afterwards, _join


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
