"""The program ``raydrgn`` before its commands: ``raydrgn.cli.main`` adds them."""

from functools import cache
from typing import Annotated, Any

import typer

from raydrgn import __version__
from raydrgn.cli.usage import Program

app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # lines of a docstring flow
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> bool:
    if is_asked:
        typer.echo(f"raydrgn {__version__}")
        raise typer.Exit
    return is_asked


@app.callback()
def raydrgn(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Heterogeneous cryo-EM reconstruction on Ray."""


def application_context() -> typer.Context:
    """Return the program as the parser of command lines knows it, to check one without running."""
    return typer.Context(_program(), info_name="raydrgn")


@cache  # building all commands takes a second
def _program() -> Any:
    return typer.main.get_command(app)
