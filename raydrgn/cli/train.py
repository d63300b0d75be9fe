"""``raydrgn train``."""

import dataclasses
import shlex

import typer

from raydrgn.cli.command import Address, Wait, command
from raydrgn.cli.console import ask, result, warning
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.remote.executor import Executor
from raydrgn.remote.own_command import program_here
from raydrgn.remote.progress import Progress
from raydrgn.wording import counted
from raydrgn.workflows import train as workflow
from raydrgn.workflows.train_settings import TrainSettings

RATE_RISES = (
    " The learning rate rises once more then, and falls again; for a low constant rate instead, "
    "add --set train.schedule=constant --lr RATE."
)


@command(TrainSettings)
def train(
    settings: TrainSettings, *, progress: Progress, wait: Wait = None, address: Address = None
) -> None:
    """Train the variational autoencoder, or fit a mixture of factor analysers (--method mfa).

    Writes the run directory: config.yaml, particles.parquet, run.log, and after every epoch
    weights.N.pkl and z.N.pkl. Ctrl-C keeps a checkpoint; the same command with --resume goes on.
    With --analyze, RUN/analyze.N too, as `raydrgn analyze` makes it; if that fails, training is
    finished all the same, a warning has the reason, and the exit code is 0.
    """
    if not settings.resume and _wants_to_go_on(settings.out):
        settings = dataclasses.replace(settings, resume=True)
    with Executor(address=address, wait_seconds=wait) as executor:
        found = workflow.run(settings, executor=executor, progress=progress)
    program = " ".join(program_here())
    resume = f"{program} train -o {shlex.quote(settings.out)} --resume"
    done = f"{counted(found.epochs, 'epoch')} of {found.num_particles:,} particles"
    if not found.trained:
        longer = f"{resume} --epochs N, with N above {found.epochs}"
        rate = RATE_RISES if found.restarts else ""
        result(f"{found.root} is finished: {done}. To train further: {longer}.{rate}")
    elif found.finished:
        result(f"{done} → {found.root}")
    else:
        result(f"Stopped; {found.what_is_kept}. To go on: {resume}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if found.report:
        result(f"→ {found.report}")
    if found.analysis_problem:
        warning(f"training is finished; {found.analysis_problem}")
    if found.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)


def _wants_to_go_on(out: str) -> bool:
    """Ask whether to go on with the run that the directory holds, if it holds one."""
    from raydrgn.io import storage
    from raydrgn.run.status import find_run

    root = storage.absolute(out)
    status = find_run(root)
    if status is None or status.is_finished:
        return False
    return ask(f"{root} holds a run with {status.count}. Go on with it?")
