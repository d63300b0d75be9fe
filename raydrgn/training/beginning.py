"""What a run directory is given before training begins, and how its log says that it ended."""

import io
import logging
import shlex
from typing import Any

import numpy as np

from raydrgn.io import storage
from raydrgn.run.claim import RunClaim
from raydrgn.run.directory import RunDirectory
from raydrgn.training.assembly import WriterCall
from raydrgn.training.prepare_run import PreparedRun
from raydrgn.training.result import TrainResult
from raydrgn.wording import counted

log = logging.getLogger(__name__)


def begin_run(
    run: PreparedRun, workers: str, claim: RunClaim | None, *, writer: Any, call: WriterCall
) -> None:
    """Write configuration, particles and first weights of a new run, and the log's first lines.

    Args:
        run: The run.
        workers: Who trains, in words.
        claim: This command's claim to the run.
        writer: Of the run.
        call: Calls a method of it.
    """
    config = run.config
    is_new = not storage.exists(RunDirectory(run.root).config)
    lines = [
        f"training on {len(run.table):,} particles of {config.data.box} px to epoch "
        f"{config.train.epochs}; {workers}",
    ]
    if claim is not None and claim.predecessor is not None:
        lines.append(f"the command before this one ended without a word: {claim.predecessor.name}")
    if run.note:
        lines.append(run.note)
    go_on = f"raydrgn train -o {shlex.quote(run.root)} --resume"
    if run.initial is not None:
        call(writer.save_checkpoint, run.initial.to_bytes(), run.initial.position)
    particles = run.table.to_bytes() if is_new else None
    held_out = run.held_out.to_bytes() if is_new and run.held_out else None
    targets = _npy(run.targets) if is_new and run.targets is not None else None
    call(writer.begin, config.to_yaml().encode(), particles, held_out, targets)
    for line in lines[1:]:
        log.info("%s", line)
    for line in (*lines, f"should this command be cut off, go on with: {go_on}"):
        call(writer.log, line)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def last_line(result: TrainResult) -> str:
    """Return the last line of the log."""
    if result.finished:
        count = counted(result.epochs, "epoch")
        return f"training finished: {count} of {result.num_particles:,} particles"
    if not result.has_checkpoint:
        return "training stopped on request before its first checkpoint; --resume begins it again"
    return "training stopped on request; the checkpoint is kept, and --resume goes on"


def cut_off_line(error: BaseException) -> str:
    """Return the last line of the log where an error, or a second Ctrl-C, ended training."""
    reason = str(error) or "interrupted; the last checkpoint is kept, and --resume goes on"
    return f"training ended early: {reason}"
