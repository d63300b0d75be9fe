"""Why a value of the command line is refused, in the words of the program.

Typer checks types, bounds and choices with pydantic, and repeats its words.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from raydrgn.cli.console import message
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED

BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "greater than"),
    "less_than": ("lt", "less than"),
}
"""Pydantic's types of errors: where the bound is, and the words before it."""

NUMBERS = {"int": "a whole number", "float": "a number"}


@contextmanager
def plain_refusals() -> Iterator[None]:
    """Put what a block says of a refused value into words of the program."""
    try:
        yield
    except typer.BadParameter as refusal:
        found = getattr(refusal.__cause__, "errors", None)  # of a pydantic ValidationError
        if found and (errors := found()):
            refusal.message = in_words(errors[0])
        raise


def in_words(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, after its option, as in ``must be at least 1, got 0``."""
    kind, value = str(error["type"]), error["input"]
    if kind in BOUNDS:
        bound, words = BOUNDS[kind]
        return f"must be {words} {error['ctx'][bound]:g}, got {value}."
    if number := NUMBERS.get(kind.split("_")[0]):
        return f"must be {number}, got {value!r}."
    text = str(error["msg"]).removeprefix("Value error, ")
    if text.startswith("Input should be "):
        return f"must be {text.removeprefix('Input should be ')}, got {value!r}."
    return text


class Program(TyperGroup):
    """All commands, which refuse values in words of the program."""

    def invoke(self, ctx: Any) -> Any:
        """Read the words of a command and run it; name an interruption, as Typer does not."""
        try:
            with plain_refusals():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            message("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from stop
