"""The command ``raydrgn``."""

import errno
import os
import sys
import tempfile
from contextlib import suppress
from typing import NoReturn

from raydrgn.cli.analyze import analyze
from raydrgn.cli.application import app
from raydrgn.cli.backproject import backproject
from raydrgn.cli.bench import bench
from raydrgn.cli.clean import clean
from raydrgn.cli.command import NumberOptions
from raydrgn.cli.compare import compare
from raydrgn.cli.console import (
    error,
    message,
    set_up_interrupts,
    set_up_logging,
    set_up_streams,
)
from raydrgn.cli.convergence import convergence
from raydrgn.cli.demo import demo
from raydrgn.cli.downsample import downsample
from raydrgn.cli.embed import embed
from raydrgn.cli.evaluate import evaluate
from raydrgn.cli.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER
from raydrgn.cli.explore import explore
from raydrgn.cli.export import export
from raydrgn.cli.filter import filter_
from raydrgn.cli.halves import halves
from raydrgn.cli.info import info
from raydrgn.cli.jobs import jobs, logs, status, stop, submit
from raydrgn.cli.landscape import landscape
from raydrgn.cli.maps import flip, fsc, invert
from raydrgn.cli.montage import montage
from raydrgn.cli.occupancy import occupancy
from raydrgn.cli.parse import parse
from raydrgn.cli.plot import plot
from raydrgn.cli.protocol import protocol
from raydrgn.cli.relocate import relocate
from raydrgn.cli.runs import runs
from raydrgn.cli.select import select
from raydrgn.cli.simulate import simulate
from raydrgn.cli.sweep import sweep
from raydrgn.cli.top import top
from raydrgn.cli.train import train
from raydrgn.cli.traverse import traverse
from raydrgn.cli.volumes import volumes
from raydrgn.errors import LostWorkersError, RaydrgnError, StorageError, StorageFailureError

for command in (demo, simulate, parse, downsample, backproject, info, train, volumes, evaluate):
    app.command()(command)
app.command()(sweep)
app.command()(protocol)
app.command()(analyze)
app.command()(compare)
app.command("plot", cls=NumberOptions)(plot)
app.command()(montage)
app.command()(embed)
for map_command in (fsc, flip, invert):
    app.command()(map_command)
app.command()(relocate)
app.command()(clean)
app.command()(runs)
app.command()(convergence)
app.command()(halves)
app.command("filter", cls=NumberOptions)(filter_)
app.command()(explore)
app.command()(landscape)
app.add_typer(traverse, name="traverse")
app.add_typer(occupancy, name="occupancy")
app.add_typer(export, name="export")
app.add_typer(select, name="select")
app.add_typer(bench, name="bench")
# What follows the command to submit belongs to that command.
app.command(context_settings={"allow_interspersed_args": False})(submit)
for job_command in (jobs, top, status, logs, stop):
    app.command()(job_command)


OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a file or terminal to which standard output or error leads."""


def main() -> None:
    """Run the command line; a mistake that the user can correct is one message and exit code 2.

    So is a loss or failure that may pass, with exit code 1.
    """
    set_up_streams()
    set_up_interrupts()
    set_up_logging()
    try:
        _require_current_folder()
        app()
    except (LostWorkersError, StorageFailureError) as loss:
        _end_with_error(str(loss), EXIT_FAILED)
    except RaydrgnError as mistake:
        _end_with_error(str(mistake))
    except MemoryError as problem:
        _end_with_error(
            f"There is not enough memory ({str(problem) or 'of unknown size'}). Take a smaller box "
            "or fewer particles, or a machine with more memory."
        )
    except RuntimeError as problem:
        _end_with_error(_gpu_problem(problem))
    except KeyboardInterrupt:
        message("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe went away
        _discard_output()
    except OSError as problem:
        if not _can_use_a_temporary_folder():
            _end_with_error(
                "No folder for temporary files can be written: neither that of TMPDIR, nor /tmp, "
                "/var/tmp or the current folder, or they are full. Free space, or set TMPDIR to "
                "another folder."
            )
        if problem.errno not in OUTPUT_ERRORS or problem.filename:
            raise
        _discard_output()
        _end_with_error(
            f"The output of the command cannot be written: {problem.strerror}. Free space, or send "
            "it elsewhere."
        )


def _gpu_problem(problem: RuntimeError) -> str:
    """Return what to do about a GPU that is full, or taken; raise any other error again."""
    from raydrgn.model.device import busy_gpu, full_gpu

    held, busy = full_gpu(problem), busy_gpu(problem)
    if busy is not None:
        return busy
    if held is None:
        raise problem
    return (
        f"The memory of the GPU is full. {held or 'The driver names no process that holds it.'} "
        "End what else uses it, or hide the GPU from the command, which then computes on CPUs: "
        "CUDA_VISIBLE_DEVICES= raydrgn …"
    )


def _require_current_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as problem:
        raise StorageError(
            "The current folder does not exist any more; change to another one (cd)."
        ) from problem


def _can_use_a_temporary_folder() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def _discard_output() -> None:
    """Let the interpreter end without writing what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_with_error(text: str, exit_code: int = EXIT_USER) -> NoReturn:
    with suppress(OSError):  # standard error may be full or closed; the exit code remains
        error(text)
    sys.exit(exit_code)
