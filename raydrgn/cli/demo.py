"""``raydrgn demo``."""

import shlex
import time

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import message, result
from raydrgn.cli.evaluate import show_evaluation
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.remote.progress_line import clock
from raydrgn.workflows import demo as workflow
from raydrgn.workflows.demo import DemoSettings


@command(DemoSettings)
def demo(settings: DemoSettings, progress: Progress) -> None:
    """Simulate an assembling complex, train on it, and report how well its truth is recovered.

    Takes minutes on two cores. Writes particles and truth into OUT/data, the run into OUT/run, a
    volume of each state into OUT/volumes, and OUT/report.html, one file with all figures. The same
    command goes on where it was interrupted.
    """
    from raydrgn.evaluation.report import verdict

    began = time.monotonic()
    with Executor() as executor:
        found = workflow.run(settings, executor=executor, progress=progress)
    if found.evaluation is None:
        message("Stopped; the checkpoint is kept, and the same command goes on.")
        raise typer.Exit(EXIT_INTERRUPTED)
    show_evaluation(settings.out, found.evaluation)
    explore = shlex.join(["raydrgn", "explore", f"{settings.out}/run"])
    took = clock(time.monotonic() - began)
    result(verdict(found.evaluation), f"{took} → {found.report}; in a browser: {explore}")
