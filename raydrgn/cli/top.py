"""``raydrgn top``."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raydrgn.cli.console import columns, console, message, result
from raydrgn.cli.job_table import HEAD, row
from raydrgn.cli.jobs import Json, ServerAddress
from raydrgn.remote.job import as_dict

if TYPE_CHECKING:
    from raydrgn.remote.job import Job
    from raydrgn.remote.jobserver import JobServer
    from raydrgn.remote.progress_line import ProgressLine

SHOWN_SECONDS = 600.0
"""Time for which a job that has ended is still shown."""


def top(
    address: ServerAddress = None,
    every: Annotated[
        float, typer.Option(min=0.5, help="Seconds between two views; 2 on a terminal.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Follow all jobs of a cluster: who runs what, how far it is, what it waits for.

    Commands that have joined the cluster by its address are listed too, without their progress.
    Jobs that have ended stay for ten minutes. Ctrl-C ends the view, and no job.
    """
    from raydrgn.remote.jobserver import JobServer

    server = JobServer(address)
    try:
        if console.is_terminal and not (once or as_json):
            _show_live(server, every)
        while True:
            _print(server, as_json=as_json)
            if once:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _current(server: "JobServer") -> list[tuple["Job", "ProgressLine | str | None"]]:
    since = time.time() - SHOWN_SECONDS
    jobs = server.jobs(with_drivers=True)
    return [
        (job, server.progress(job)) for job in jobs if not job.is_over or (job.ended or 0) > since
    ]


def _print(server: "JobServer", *, as_json: bool) -> None:
    found = _current(server)
    if as_json:
        result(json.dumps([as_dict(*entry) for entry in found]))
    elif found:
        result(*columns([HEAD, *(row(*entry) for entry in found)]))
    else:
        message(f"nothing runs at {server.url}")


def _show_live(server: "JobServer", every: float) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_table(server), refresh=True)
            time.sleep(every)


def _table(server: "JobServer") -> Table:
    table = Table(title=Text(f"{server.url}  {time.strftime('%H:%M:%S')}"), expand=True)
    for name in HEAD:
        table.add_column(name, no_wrap=name != "command", overflow="ellipsis")
    for entry in _current(server):
        table.add_row(*map(Text, row(*entry)))
    return table
