"""The command ``raydrgn``."""

import os
import sys

from raydrgn.cli.analyze import analyze
from raydrgn.cli.application import app
from raydrgn.cli.backproject import backproject
from raydrgn.cli.bench import bench
from raydrgn.cli.console import (
    EXIT_INTERRUPTED,
    EXIT_USER,
    error,
    message,
    set_up_logging,
    set_up_streams,
)
from raydrgn.cli.convergence import convergence
from raydrgn.cli.demo import demo
from raydrgn.cli.downsample import downsample
from raydrgn.cli.evaluate import evaluate
from raydrgn.cli.export import export
from raydrgn.cli.filter import filter_
from raydrgn.cli.info import info
from raydrgn.cli.jobs import jobs, logs, status, stop, submit
from raydrgn.cli.landscape import landscape
from raydrgn.cli.occupancy import occupancy
from raydrgn.cli.parse import parse
from raydrgn.cli.relocate import relocate
from raydrgn.cli.simulate import simulate
from raydrgn.cli.sweep import sweep
from raydrgn.cli.train import train
from raydrgn.cli.traverse import traverse
from raydrgn.cli.volumes import volumes
from raydrgn.errors import RaydrgnError
from raydrgn.remote.session import limit_spinning

for command in (demo, simulate, parse, downsample, backproject, info, train, volumes, evaluate):
    app.command()(command)
app.command()(sweep)
app.command()(analyze)
app.command()(relocate)
app.command()(convergence)
app.command("filter")(filter_)
app.command()(landscape)
app.add_typer(traverse, name="traverse")
app.add_typer(occupancy, name="occupancy")
app.add_typer(export, name="export")
app.add_typer(bench, name="bench")
# What follows the command to submit belongs to that command.
app.command(context_settings={"allow_interspersed_args": False})(submit)
for job_command in (jobs, status, logs, stop):
    app.command()(job_command)


def main() -> None:
    """Run the command line; a mistake that the user can correct is one message and exit code 2."""
    limit_spinning()
    set_up_streams()
    set_up_logging()
    try:
        app()
    except RaydrgnError as mistake:
        error(str(mistake))
        sys.exit(EXIT_USER)
    except KeyboardInterrupt:
        message("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
