"""``raydrgn submit``, ``jobs``, ``status``, ``logs`` and ``stop``: work on a cluster."""

import json
import shlex
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import columns, message, result
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.cli.job_table import HEAD, exit_code, row, took
from raydrgn.cli.submission import SubmitSettings, read_submission
from raydrgn.remote.job import as_dict

if TYPE_CHECKING:
    from raydrgn.remote.jobserver import JobServer

MESSAGE_LINES = 10

ServerAddress = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ray dashboard of the cluster, as http://HOST:8265; or RAY_ADDRESS; or this machine.",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Job, as `raydrgn jobs` lists it.")]


@command(SubmitSettings)
def submit(settings: SubmitSettings) -> None:
    """Run a raydrgn command on a cluster, as a Ray job.

    To the cluster goes this raydrgn package (its Python files, under 1 MB), the command and the
    name of the current folder. Data does not: the command runs in the folder of the same name on
    the cluster, so relative paths mean what they mean here where storage is shared. The cluster
    needs Ray, torch and raydrgn's other dependencies; of raydrgn, the version sent is the one used.

    Options of submit come before COMMAND. With --follow, Ctrl-C leaves the job running.
    """
    from raydrgn.remote.jobs import folder_here
    from raydrgn.remote.jobserver import JobServer

    spec, options = read_submission(settings)
    server = JobServer(options.address)
    job_id = server.submit(
        spec,
        folder=options.folder or folder_here(),
        retries=options.retries or 0,
        notify=options.notify,
    )
    if options.follow:
        message(f"{job_id} → {server.url}")
        _follow(server, job_id, options.address)
    result(job_id)
    message(*_next_commands(job_id, options.address))


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def jobs(address: ServerAddress = None, as_json: Json = False) -> None:
    """List the jobs of a cluster, the newest last, with their owners and how far they are."""
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    found = [(job, server.progress(job)) for job in server.jobs()]
    if as_json:
        result(json.dumps([as_dict(*entry) for entry in found], indent=1))
    elif found:
        result(*columns([HEAD, *(row(*entry) for entry in found)]))
    else:
        message(f"no jobs at {server.url}")


def status(job_id: JobId, address: ServerAddress = None) -> None:
    """Show the status of a job."""
    from raydrgn.remote.jobserver import JobServer
    from raydrgn.remote.progress_line import ProgressLine

    server = JobServer(address)
    job = server.job(job_id)
    progress = server.progress(job)
    lines = {
        "job": job.id,
        "status": job.status,
        "owner": job.owner,
        "command": job.command,
        "folder": job.folder,
        "began": _moment(job.began),
        "took": took(job),
        "exit code": exit_code(job),
        "progress": progress.text() if isinstance(progress, ProgressLine) else progress or "",
    }
    result(*columns([(name, value) for name, value in lines.items() if value], least=10))
    text = job.message.splitlines()
    if len(text) > MESSAGE_LINES:
        text = [text[0], "…", *text[-MESSAGE_LINES:]]
    names = ("message", *[""] * len(text))
    result(*columns(list(zip(names, text, strict=False)), least=10))


def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends; end with its exit code.")
    ] = False,
    address: ServerAddress = None,
) -> None:
    """Print the log of a job so far."""
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    if follow:
        _follow(server, job_id, address)
    typer.echo(server.logs(job_id), nl=False)


def stop(job_id: JobId, address: ServerAddress = None) -> None:
    """Stop a job as Ctrl-C would, and wait until it has stopped.

    Training writes a checkpoint: submit the same command with --resume to go on.
    """
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    before = server.job(job_id)
    if before.is_over:
        result(f"{job_id} has ended already: {before.status}")
        return
    message("stopping; training has two minutes to write a checkpoint")
    result(f"{job_id}: {server.stop(job_id).status}")


def _follow(server: "JobServer", job_id: str, address: str | None) -> NoReturn:
    """Show a job's log until it is over, and end with its exit code."""
    try:
        job = server.follow(job_id, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        message("", f"{job_id} goes on.", *_next_commands(job_id, address))
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if job.status == "FAILED" and job.driver_exit_code is None:  # its command never ran
        message(f"{job_id} failed: {job.message}")
    else:
        message(f"{job_id}: {job.status}, exit code {job.exit_code}")
    raise typer.Exit(job.exit_code or 0)


def _next_commands(job_id: str, address: str | None) -> list[str]:
    where = f" --address {shlex.quote(address)}" if address else ""
    return [
        f"follow: raydrgn logs {job_id} --follow{where}",
        f"status: raydrgn status {job_id}{where}",
        f"stop:   raydrgn stop {job_id}{where}",
    ]


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
