"""``raydrgn halves``."""

import shlex

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.remote.executor import Executor
from raydrgn.remote.own_command import program_here
from raydrgn.remote.progress import Progress
from raydrgn.workflows import halves as workflow
from raydrgn.workflows.halves import HalvesSettings


@command(HalvesSettings)
def halves(settings: HalvesSettings, executor: Executor, progress: Progress) -> None:
    """Train a run anew on each half of its particles, and compare the states of both.

    Writes RUN/halves.N: the two halves as runs of their own, the volumes of each state by both, how
    they agree by shell and by region, and report.html. It takes about as long as the run itself;
    stopped, the same command goes on.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    if found.agreement is None:
        again = shlex.join([*program_here(), "halves", settings.run])
        result(f"Stopped. To go on: {again}, as before")
        raise typer.Exit(EXIT_INTERRUPTED)
    support = [found.support.summary] if found.support else []
    result(found.agreement.summary, *support, f"→ {found.folder.at('report.html')}")
