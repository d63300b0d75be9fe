"""``raydrgn sweep``."""

import typer

from raydrgn.cli.command import Address, Wait, command
from raydrgn.cli.console import result
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.remote.progress_line import clock
from raydrgn.workflows import sweep as workflow
from raydrgn.workflows.sweep import SweepSettings


@command(SweepSettings)
def sweep(
    settings: SweepSettings, *, progress: Progress, wait: Wait = None, address: Address = None
) -> None:
    """Train with many settings, and find those that suit the particles, without a truth.

    Each trial is a run directory OUT/trial-NNN. Writes OUT/trials.csv, OUT/report.html, and the
    command that trains the best trial for longer. Stopped, and given again, the command goes on.
    """
    with Executor(address=address, wait_seconds=wait) as executor:
        found = workflow.run(settings, executor=executor, progress=progress)
    if found.estimate is not None:
        guess = found.estimate
        result(
            f"{guess.trials} trials, {guess.concurrent} at a time: about {clock(guess.seconds)}, "
            f"estimated from {guess.basis}."
        )
    elif found.finished:
        result(found.summary, f"To train it for longer: {found.command}", f"→ {found.report}")
    else:
        ended = sum(trial.has_ended for trial in found.trials)
        result(f"Stopped; {ended} trials have ended, and the same command goes on.")
        raise typer.Exit(EXIT_INTERRUPTED)
