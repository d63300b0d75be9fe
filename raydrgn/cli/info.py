"""``raydrgn info``."""

from typing import Annotated

import typer
from rich.table import Table

from raydrgn.cli.console import console
from raydrgn.cli.options import Datadir


def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|RUN", help="Stack, map, .star, .cs, .txt, .parquet, .pkl, .npy or run."
        ),
    ],
    datadir: Datadir = None,
) -> None:
    """Say in one table what a file or a run contains, and what about it looks wrong."""
    from raydrgn.inputs.inspection import inspect

    found = inspect(what, datadir=datadir)
    table = Table(title=f"{what}: {found.kind}", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for name, value in found.facts:
        table.add_row(name, value)
    for concern in found.concerns:
        table.add_row("[bold red]looks wrong[/]", concern)
    console.print(table, highlight=False)
