"""Training by one worker in this process, without Ray.

The same loop, writer and files as on Ray: a run may begin here and go on there. What Ray adds, and
a small run on one machine does without, are other workers, and workers that are started again.
"""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import FrameType
from typing import Any

import torch

from raydrgn.data.ingest import bad_images_message, prepared_blocks
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import Sharing
from raydrgn.errors import InputError, RaydrgnError
from raydrgn.model.device import busy_gpu, default_device
from raydrgn.remote.allocation import Allocation
from raydrgn.remote.progress import Progress, silent
from raydrgn.run.claim import RunClaim
from raydrgn.run.config import RunConfig
from raydrgn.run.writer import RunWriter
from raydrgn.training.assembly import batch_plan, make_loop, own_store, resume, use_threads
from raydrgn.training.beginning import begin_run, cut_off_line, last_line
from raydrgn.training.memory import Room, out_of_memory_message
from raydrgn.training.plan import BatchPlan
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.training.progress_log import (
    PhaseProgress,
    TrainProgress,
    show_progress,
    stop_message,
)
from raydrgn.training.result import TrainResult
from raydrgn.training.sinks import DirectSink

log = logging.getLogger(__name__)


class _Stopped(Exception):
    """It was asked to stop before the loop began."""


def train_here(
    run: PreparedRun,
    allocation: Allocation,
    *,
    claim: RunClaim | None = None,
    progress: Progress = silent,
) -> TrainResult:
    """Train a run to its last epoch, going on from its latest checkpoint.

    The configuration is written, and the particles of a new run. Ctrl-C and SIGTERM let the loop
    keep a checkpoint and end; a second one ends it at once.

    Args:
        run: The run.
        allocation: CPU cores and GPU of the one worker.
        claim: This command's claim to the run, where other commands may know of its directory.
        progress: Called with the particles read, and then with those trained on.

    Raises:
        RaydrgnError: If the particles or the run directory do not allow it, or memory is too small.
    """
    writer = RunWriter(
        run.root,
        num_particles=len(run.table),
        claim=claim.ticket if claim else None,
        keep_epochs=run.config.train.keep_epochs,
    )
    workers = f"in this process, with {allocation.worker}"
    try:
        begin_run(run, workers, claim, writer=writer, call=_call)
        with _StopRequest(run.config) as stop, _threads(allocation.cpus):
            finished = _fit(run, writer, allocation, stop, progress)
        kept = writer.newest_position()
        result = TrainResult.of(run, finished=finished, stopped=stop.is_set, kept=kept)
        writer.log(last_line(result))
    except BaseException as error:
        final = error
        if not isinstance(error, RaydrgnError):
            message = out_of_memory_message(error) or busy_gpu(error)
            final = error if message is None else RaydrgnError(message)
        with suppress(RaydrgnError):  # the error before it matters more
            writer.log(cut_off_line(final))
            writer.flush()
        if final is error:
            raise
        raise final from None
    return result


def _fit(
    run: PreparedRun,
    writer: RunWriter,
    allocation: Allocation,
    stop: "_StopRequest",
    progress: Progress,
) -> bool:
    """Return whether the last epoch is done."""
    config = run.config
    device = default_device() if allocation.gpus else torch.device("cpu")
    room = Room.of(config, device, Sharing.of_worker(gpus=allocation.gpus))
    plan = batch_plan(config, len(run.table))

    def show_training(row: TrainProgress | PhaseProgress) -> bool:
        show_progress(progress, run, asdict(row))
        return stop.is_set

    sink = DirectSink(
        writer,
        on_progress=show_training,
        on_note=lambda message: log.warning("%s", message),
        is_interrupted=lambda: stop.is_set,
    )
    try:
        shard = _read_images(run, plan, device, room, stop, progress)
    except _Stopped:
        return False
    loop = make_loop(config, plan, shard, device, sink, room=room)
    start = resume(loop, config, plan, writer=writer, call=_call, note=sink.note)
    finished = loop.run(start)
    if finished:
        writer.finish(config.train.epochs)
    return finished


def _read_images(
    run: PreparedRun,
    plan: BatchPlan,
    device: torch.device,
    room: Room,
    stop: "_StopRequest",
    progress: Progress,
) -> ResidentShard:
    """Read and prepare all images.

    Raises:
        _Stopped: If it was asked to stop meanwhile.
        InputError: If an image cannot be used.
    """
    config, table = run.config, run.table

    def show_reading(done: int) -> None:
        if stop.is_set:
            raise _Stopped
        reading = PhaseProgress(phase="reading", done=done, of=len(table))
        show_progress(progress, run, asdict(reading))

    store, bad = own_store(
        config,
        plan,
        device,
        prepared_blocks(table, config.data),
        run=run.root,
        room=room,
        progress=show_reading,
    )
    if stop.is_set:
        raise _Stopped
    if len(bad):
        raise InputError(bad_images_message(table.select(bad)))
    return ResidentShard(
        table, store, pixel_size_angstrom=config.pixel_size_angstrom, device=device
    )


def _call(method: Any, *arguments: Any) -> Any:
    return method(*arguments)


@contextmanager
def _threads(cpus: int) -> Iterator[None]:
    """Compute with some threads for the length of a block."""
    before = torch.get_num_threads()
    use_threads(cpus)
    try:
        yield
    finally:
        use_threads(before)


class _StopRequest:
    """Takes the first Ctrl-C, or the SIGTERM that schedulers send, as a request to stop."""

    def __init__(self, config: RunConfig) -> None:
        """Take the configuration of the training that is asked."""
        self.is_set = False
        self._message = stop_message(config)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True
        log.warning("%s", self._message)
