"""``raydrgn submit``, ``jobs``, ``status``, ``logs`` and ``stop``: work on a cluster."""

import shlex
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from raydrgn.cli.console import EXIT_INTERRUPTED, clock, columns, message, result
from raydrgn.cli.submission import SubmitOptions, read_submission

if TYPE_CHECKING:
    from raydrgn.remote.jobserver import Job, JobServer

MESSAGE_LINES = 10

ServerAddress = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ray dashboard of the cluster, as http://HOST:8265; or RAY_ADDRESS; or this machine.",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Job, as `raydrgn jobs` lists it.")]


def submit(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND",
            help="raydrgn command with its options, or a spec such as jobs/train-8gpu.yaml.",
        ),
    ],
    address: ServerAddress = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the job's log, and end with its exit code.")
    ] = False,
    cpus: Annotated[
        float | None,
        typer.Option(
            min=0, help="CPUs kept for the command itself, beside those of its workers; 0."
        ),
    ] = None,
    folder: Annotated[
        str | None, typer.Option(help="Folder of the cluster to run in; the current one.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Fill ${NAME} in a spec; repeatable."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Send the value that this variable has here; repeatable. The cluster keeps it "
            "with the job, and shows it to whoever can see its dashboard.",
        ),
    ] = None,
) -> None:
    """Run a raydrgn command on a cluster, as a Ray job.

    To the cluster goes this raydrgn package (its Python files, under 1 MB), the command and the
    name of the current folder. Data does not: the command runs in the folder of the same name on
    the cluster, so relative paths mean what they mean here where storage is shared. The cluster
    needs Ray, torch and raydrgn's other dependencies; of raydrgn, the version sent is the one used.

    Options of submit come before COMMAND. With --follow, Ctrl-C leaves the job running.
    """
    from raydrgn.remote.jobs import folder_here
    from raydrgn.remote.jobserver import JobServer

    given = SubmitOptions(
        address=address, follow=follow, cpus=cpus, folder=folder, set_=set_ or (), env=env or ()
    )
    spec, options = read_submission(command, given)
    server = JobServer(options.address)
    job_id = server.submit(spec, folder=options.folder or folder_here())
    if options.follow:
        message(f"{job_id} → {server.url}")
        _follow(server, job_id, options.address)
    result(job_id)
    message(*_next_commands(job_id, options.address))


def jobs(address: ServerAddress = None) -> None:
    """List the jobs of a cluster, the newest last."""
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    found = server.jobs()
    if not found:
        message(f"no jobs at {server.url}")
        return
    rows = [(job.id, job.status, _code(job), _length(job), job.command) for job in found]
    result(*columns([("job", "status", "exit", "took", "command"), *rows]))


def status(job_id: JobId, address: ServerAddress = None) -> None:
    """Show the status of a job."""
    from raydrgn.remote.jobserver import JobServer

    job = JobServer(address).job(job_id)
    lines = {
        "job": job.id,
        "status": job.status,
        "command": job.command,
        "folder": job.folder,
        "began": _moment(job.began),
        "took": _length(job),
        "exit code": _code(job),
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
    job = server.stop(job_id)
    if job.is_over:
        result(f"{job_id}: {job.status}")
    else:
        result(f"{job_id} has not begun; it will end as soon as it begins")


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


def _code(job: "Job") -> str:
    return "" if job.exit_code is None else str(job.exit_code)


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _length(job: "Job") -> str:
    return "" if job.seconds is None else clock(job.seconds)
