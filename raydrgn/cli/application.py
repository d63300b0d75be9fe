"""The program ``raydrgn`` before its commands: ``raydrgn.cli.main`` adds them."""

from functools import cache
from typing import Any

import typer

app = typer.Typer(
    help="Heterogeneous cryo-EM reconstruction on Ray.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # lines of a docstring flow
    pretty_exceptions_enable=False,
)


def application_context() -> typer.Context:
    """Return the program as the parser of command lines knows it, to check one without running."""
    return typer.Context(_program(), info_name="raydrgn")


@cache  # building all commands takes a second
def _program() -> Any:
    return typer.main.get_command(app)
