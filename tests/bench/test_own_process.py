"""A measurement in a process of its own: what comes back of it, and that it ends."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from raydrgn.bench.own_process import in_own_process
from raydrgn.errors import ConfigError, RaydrgnError, reworded


def test_what_it_returns_or_raises_comes_back():
    assert in_own_process(os.getpid) not in (os.getpid(), os.getppid())
    with pytest.raises(ZeroDivisionError):
        in_own_process(divmod, 1, 0)
    mistake = ConfigError("No such box.")
    assert str(in_own_process(reworded, mistake, "A box of 3.")) == "A box of 3."


def test_a_process_that_is_killed_is_an_error_in_words():
    with pytest.raises(RaydrgnError, match="The process that measures was killed"):
        in_own_process(os._exit, 1)


def test_an_interrupt_ends_it_at_once():
    began = time.monotonic()
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        in_own_process(time.sleep, 120)
    assert time.monotonic() - began < 60
    assert not multiprocessing.active_children()
