"""``raydrgn explore``."""

from dataclasses import replace

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.cli.forms import CommandForms
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import explore as workflow
from raydrgn.workflows.explore import ExploreSettings


@command(ExploreSettings)
def explore(settings: ExploreSettings, executor: Executor, progress: Progress) -> None:
    """Look at a run in a browser: its latent space, selections, volumes, images and reports.

    Prints an address to open, on this machine or through a tunnel: ssh -L 8787:localhost:8787
    MACHINE. Needs no network. Selections and volumes that are saved go into RUN/explore, or into
    NAME.explore beside a file of latents. Of a project it shows the rounds, and answers its pause.
    Ctrl-C ends it, and the commands that were started from the page on this machine.
    """
    from raydrgn.protocol.explored import find_project  # loads what the explorer needs

    own = replace(settings, commands=CommandForms(), project=find_project(settings.run))
    found = workflow.run(own, executor=executor, progress=progress)
    if found.saved:
        result(f"saved selections: {', '.join(found.saved)}")
