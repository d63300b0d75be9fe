"""Numbers of running work for Prometheus: gauges and counters with labels for job, run and worker.

The agent that Ray has on each node exports them, as ``ray_raydrgn_NAME``; counters end in
``_total``. ``cluster/grafana/raydrgn.json`` shows them. A process without Ray records nothing. What
cannot be recorded is missing there; the work goes on.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote

log = logging.getLogger(__name__)

PREFIX = "raydrgn_"
LABELS = ("job_id", "run", "worker")
"""Not ``job``, which Prometheus itself adds to all that it scrapes."""

JOB_ID = "RAYDRGN_JOB_ID"
"""Variable in which a job finds its own id, and so do its workers."""

REPEAT_SECONDS = 2.0
"""Time after which gauges are set again: Ray drops those of which it hears nothing for 20 s."""

GAUGES = {
    "epoch": "Epoch in training, from 1.",
    "epochs": "Epochs that the run is to have.",
    "particles": "Particles of the run.",
    "particles_per_second": "Particles trained on per second, over all workers.",
    "loss": "Total loss, mean over the particles since the last value.",
    "reconstruction_loss": "Reconstruction error, mean over the particles since the last value.",
    "kl_divergence": "KL divergence, mean over the particles since the last value.",
    "learning_rate": "Learning rate of the last step.",
    "time_left_seconds": "Time to the end of the last epoch, at the present rate.",
    "shard_bytes": "Prepared particles that a training worker keeps.",
    "checkpoint_timestamp_seconds": "When the latest checkpoint was whole, since 1970.",
    "checkpoint_duration_seconds": "Time to write the latest checkpoint.",
    "checkpoint_bytes": "Size of the latest checkpoint.",
    "queue_wait_seconds": "Time for which a command has waited for CPUs and GPUs.",
}
COUNTERS = {
    "volumes": "Volumes decoded.",
    "scored_volumes": "Volumes whose occupancies were scored.",
    "restarts": "Times that training was started again after a failure.",
}


def record(values: Mapping[str, float], *, run: str = "", worker: str | None = None) -> None:
    """Set gauges.

    Args:
        values: By the names of ``GAUGES``.
        run: Run directory.
        worker: Rank of a training worker; by default the name of this actor, or ``command``.
    """
    if _has_ray():
        with _going_on():
            labels = tuple(_labels(run, worker).items())
            _latest.update({(name, labels): value for name, value in values.items()})
            for name, value in values.items():
                _gauge(name).set(value, dict(labels))
            _start_repeating()


def forget(*, run: str) -> None:
    """Let the gauges of a run vanish that this process has set."""
    for key in list(_latest):
        if ("run", ascii_label(run)) in key[1]:
            _latest.pop(key, None)


def count(name: str, number: int, *, run: str = "") -> None:
    """Add at least 1 to a counter of ``COUNTERS``."""
    if _has_ray():
        with _going_on():
            _counter(name).inc(number, _labels(run, None))


@contextmanager
def queue_wait(*, run: str = "") -> Iterator[None]:
    """Record how long a block waits, in which a command is allocated CPUs and GPUs."""
    began = time.monotonic()
    yield
    record({"queue_wait_seconds": time.monotonic() - began}, run=run)


_latest: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
"""Value of each gauge of this process, by its name and labels."""

_repeating: list[threading.Thread] = []


def _start_repeating() -> None:
    if not any(thread.is_alive() for thread in _repeating):
        _repeating[:] = [threading.Thread(target=_repeat, daemon=True, name="raydrgn-metrics")]
        _repeating[0].start()


def _repeat() -> None:
    """Set all gauges again at intervals, until Ray is left."""
    while True:
        time.sleep(REPEAT_SECONDS)
        if not _has_ray():
            _latest.clear()
            return
        with _going_on():
            for (name, labels), value in list(_latest.items()):
                _gauge(name).set(value, dict(labels))


_failures: list[str] = []
"""The first error of this process, which has been logged."""


@contextmanager
def _going_on() -> Iterator[None]:
    """Log the first error of a block that records, and raise none: the numbers are not the work."""
    try:
        yield
    except Exception as error:
        if not _failures:
            _failures.append(str(error))
            log.warning("numbers of this process for Prometheus are not recorded: %s", error)


def _has_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _labels(run: str, worker: str | None) -> dict[str, str]:
    import ray

    context = ray.get_runtime_context()
    if worker is None:
        is_command = context.worker.mode == ray.SCRIPT_MODE
        worker = "command" if is_command else context.get_actor_name() or "task"
    job_id = os.environ.get(JOB_ID) or context.get_job_id()
    return {"job_id": ascii_label(job_id), "run": ascii_label(run), "worker": ascii_label(worker)}


def ascii_label(text: str) -> str:
    """Return a text as Ray takes labels: other characters as in URLs, ``%C3%BC`` for ``ü``."""
    return "".join(
        character if character.isascii() else quote(character, errors="backslashreplace")
        for character in text
    )


@cache
def _gauge(name: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(PREFIX + name, description=GAUGES[name], tag_keys=LABELS)


@cache
def _counter(name: str) -> Any:
    from ray.util.metrics import Counter

    return Counter(PREFIX + name, description=COUNTERS[name], tag_keys=LABELS)
