"""``raydrgn submit``, ``jobs``, ``status``, ``logs`` and ``stop``: work on a cluster."""

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from raydrgn.cli.console import clock, console, messages
from raydrgn.errors import ConfigError

if TYPE_CHECKING:
    from raydrgn.remote.jobserver import Job, JobServer

EXIT_INTERRUPTED = 130
SPEC_SUFFIXES = (".yaml", ".yml")
OWN_OPTIONS = {"--follow", "--cpus", "--folder"}
HERE_ONLY = ("submit", "jobs", "status", "logs", "stop")
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
) -> None:
    """Run a raydrgn command on a cluster, as a Ray job.

    To the cluster goes this raydrgn package (its Python files, under 1 MB), the command and the
    name of the current folder. Data does not: the command runs in the folder of the same name on
    the cluster, so relative paths mean what they mean here where storage is shared. The cluster
    needs Ray, torch and raydrgn's other dependencies; of raydrgn, the version sent is the one used.

    Options of submit come before COMMAND. With --follow, Ctrl-C leaves the job running.
    """
    from raydrgn.remote.jobs import JobSpec, folder_here, parse_value
    from raydrgn.remote.jobserver import JobServer

    given: dict[str, Any] = {
        "address": address,
        "follow": follow,
        "cpus": cpus,
        "folder": folder,
        "set_": set_,
    }
    if command[0].endswith(SPEC_SUFFIXES):
        given = _with_later_options(command, given)
        if given["cpus"] is not None:
            raise ConfigError("--cpus: a spec says this itself, as entrypoint_num_cpus.")
        values = dict(map(parse_value, given["set_"]))
        spec = JobSpec.read(command[0]).filled(values, where=command[0])
    else:
        if set_:
            raise ConfigError(
                "--set before COMMAND fills a spec; that of the command itself comes after it."
            )
        spec = JobSpec.from_command(command, num_cpus=cpus or 0.0)
    check_command(spec.words)
    server = JobServer(given["address"])
    job_id = server.submit(spec, folder=given["folder"] or folder_here())
    if given["follow"]:
        messages.print(f"{job_id} → {server.url}", highlight=False, soft_wrap=True)
        _follow(server, job_id, given["address"])
    console.print(job_id, highlight=False, soft_wrap=True)
    messages.print(_next_commands(job_id, given["address"]), highlight=False, soft_wrap=True)


def jobs(address: ServerAddress = None) -> None:
    """List the jobs of a cluster, the newest last."""
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    found = server.jobs()
    if not found:
        messages.print(f"no jobs at {server.url}", highlight=False)
        return
    rows = [("job", "status", "exit", "took", "command")]
    for job in found:
        code = "" if job.exit_code is None else str(job.exit_code)
        rows.append((job.id, job.status, code, _length(job), job.command))
    # Not a table of rich: that would fold an id or a command where the screen is narrow.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *cells, command in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        typer.echo("  ".join([*padded, command]))


def status(job_id: JobId, address: ServerAddress = None) -> None:
    """Show how a job stands."""
    from raydrgn.remote.jobserver import JobServer

    job = JobServer(address).job(job_id)
    lines = {
        "job": job.id,
        "status": job.status,
        "command": job.command,
        "folder": job.folder,
        "began": _moment(job.began),
        "took": _length(job),
        "exit code": "" if job.exit_code is None else str(job.exit_code),
    }
    said = job.message.splitlines()
    if len(said) > MESSAGE_LINES:
        said = [said[0], "…", *said[-MESSAGE_LINES:]]
    for name, value in lines.items():
        if value:
            typer.echo(f"{name:<10} {value}")
    for name, line in zip(("message", *[""] * len(said)), said, strict=False):
        typer.echo(f"{name:<10} {line}")


def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends; end with its exit code.")
    ] = False,
    address: ServerAddress = None,
) -> None:
    """Print what a job has said so far."""
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    if follow:
        _follow(server, job_id, address)
    typer.echo(server.logs(job_id), nl=False)


def stop(job_id: JobId, address: ServerAddress = None) -> None:
    """Stop a job as Ctrl-C would, and wait until it has stopped.

    Training keeps its state: submit the same command with --resume to go on.
    """
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    before = server.job(job_id)
    if before.is_over:
        console.print(f"{job_id} was over already: {before.status}", highlight=False)
        return
    messages.print("stopping; it has two minutes to keep its state", highlight=False)
    job = server.stop(job_id)
    if job.is_over:
        console.print(f"{job_id}: {job.status}", highlight=False)
    else:
        console.print(f"{job_id} has not begun; it ends as soon as it would begin")


def check_command(words: Sequence[str]) -> None:
    """Refuse, before anything is sent, what is no command for a cluster.

    Raises:
        ConfigError: If it works only here, or has an option that is meant for submit.
        UsageError: If there is no such command, or its options are wrong; as when run here.
    """
    name, *rest = words
    if name in HERE_ONLY:
        raise ConfigError(f"raydrgn {name} works from here, not as a job on a cluster.")
    parent = _application()
    command: Any = parent.command
    while hasattr(command, "resolve_command") and words:
        name, command, words = command.resolve_command(parent, list(words))
    known = {text for parameter in command.params for text in parameter.opts}
    for word in rest[: rest.index("--")] if "--" in rest else rest:
        if word.split("=")[0] in OWN_OPTIONS - known:
            raise ConfigError(
                f"{word} is an option of submit and comes before the command: raydrgn submit "
                f"{word} {shlex.join([name])} …"
            )
    used = command.make_context(name, list(words), parent=parent).params
    if used.get("address"):
        raise ConfigError(
            "A job uses the cluster it runs on. To choose that, put --address before the command: "
            f"raydrgn submit --address {used['address']} {name} …"
        )


def _application() -> typer.Context:
    from raydrgn.cli.main import app  # which imports this module

    return typer.Context(typer.main.get_command(app), info_name="raydrgn")


def _with_later_options(words: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Read the options of submit that follow the name of a spec."""
    spec, *rest = words
    parent = _application()
    command = parent.command.get_command(parent, "submit")  # type: ignore[attr-defined]
    later = command.make_context("submit", [*rest, spec], parent=parent).params
    if later["command"] != [spec]:
        raise ConfigError(
            f"{later['command'][0]!r} follows the spec {spec}, which is a whole command. Give "
            "values for its places as --set NAME=VALUE."
        )
    merged = {name: later[name] or value for name, value in given.items()}
    return merged | {"set_": [*(given["set_"] or []), *(later["set_"] or [])]}


def _follow(server: "JobServer", job_id: str, address: str | None) -> NoReturn:
    """Show a job's log until it is over, and end with its exit code."""
    try:
        job = server.follow(job_id, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        messages.print(
            f"\n{job_id} goes on.\n{_next_commands(job_id, address)}",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if job.status == "FAILED" and job.driver_exit_code is None:  # its command never ran
        messages.print(f"{job_id} failed: {job.message}", highlight=False, markup=False)
    else:
        messages.print(
            f"{job_id}: {job.status}, exit code {job.exit_code}", highlight=False, soft_wrap=True
        )
    raise typer.Exit(job.exit_code or 0)


def _next_commands(job_id: str, address: str | None) -> str:
    where = f" --address {shlex.quote(address)}" if address else ""
    return "\n".join(
        [
            f"follow: raydrgn logs {job_id} --follow{where}",
            f"status: raydrgn status {job_id}{where}",
            f"stop:   raydrgn stop {job_id}{where}",
        ]
    )


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _length(job: "Job") -> str:
    if job.began is None:
        return ""
    return clock(max((job.ended or time.time()) - job.began, 0.0))
