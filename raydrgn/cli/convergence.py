"""``raydrgn convergence``."""

from typing import Annotated

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, message, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import convergence as workflow
from raydrgn.workflows.convergence import ConvergenceSettings

Watch = Annotated[
    bool, typer.Option("--watch", help="Follow a run in training, and report when it can stop.")
]


@command(ConvergenceSettings)
def convergence(
    settings: ConvergenceSettings, executor: Executor, progress: Progress, *, watch: Watch = False
) -> None:
    """Judge whether training has converged: the protocol's criteria, each by a stated rule.

    Writes RUN/convergence.N: the loss, the latent space at intervals, the shifts of latents from
    epoch to epoch, and how volumes at ten representative points agree with those of the epochs
    before, as figures and tables in one report.html. With --watch a line is printed for every new
    epoch; once losses and latents have converged at the end of the learning-rate schedule, or
    training has ended, volumes are compared too.
    """
    if watch:
        found = workflow.watch(settings, executor=executor, progress=progress, report=message)
    else:
        found = workflow.run(settings, executor=executor, progress=progress)
    result(*found.lines())
    end_with(found.failures)
