"""What the explorer is handed from above: commands as forms, and a project. Loads nothing heavy."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from raydrgn.io.uri import Uri

Filled = Mapping[str, str | bool]
"""What a form was filled with, by the names of its fields."""


class Command(NamedTuple):
    """A form that was filled in, as the command line has read it."""

    words: list[str]
    """Of the command line, after the program's name."""

    written: Mapping[str, Uri]
    """Where results go, by the option or argument that says so; a folder or a file."""

    metadata: dict[str, str]
    """What it works on, as `raydrgn submit` sends it along."""

    deleted: str = ""
    """What it deletes for good, in words, which a person agrees to first; empty if nothing."""


@runtime_checkable
class Commands(Protocol):
    """The commands of a command line whose results go where one of their settings says."""

    def forms(self) -> list[dict[str, Any]]:
        """Return each command with its fields, which are its settings."""
        ...

    def command(self, name: str, filled: Filled, *, base: Uri) -> Command:
        """Return the command that a form stands for, checked as typed ones are.

        Args:
            name: Of the command.
            filled: What the form was filled with.
            base: Folder from which a relative place of results is meant.

        Raises:
            ConfigError: As the command line would word it.
        """
        ...


class Round(NamedTuple):
    """A round of a project."""

    name: str
    run: Uri
    epoch: int | None
    """The epoch that the project goes on with; None while it trains."""


class Pause(NamedTuple):
    """What a project waits for: a person to agree to what it proposes to drop."""

    round: str
    key: str
    """Of the proposal."""

    summary: str
    report: Uri
    conditions: Sequence[Mapping[str, Any]]
    """What is proposed to be kept, as a file of conditions has it."""

    answer: str = ""
    """What was answered, in words, and `raydrgn protocol` has not yet gone on from; else empty."""

    go_on: str = ""
    """The command that goes on."""


@runtime_checkable
class Project(Protocol):
    """A project of `raydrgn protocol`."""

    root: Uri

    def rounds(self) -> list[Round]:
        """Return the rounds of which an epoch is finished, in their order."""
        ...

    def is_flipped(self) -> bool:
        """Return whether the hand of its maps is opposite to that of its poses."""
        ...

    def pause(self) -> Pause | None:
        """Return what the project waits for; None if it waits for nothing."""
        ...

    def answer(self, pause: Pause, kept: Uri | None) -> None:
        """Record what a person has answered.

        Args:
            pause: What the project waits for.
            kept: File of the particles to keep; None agrees to what is proposed.
        """
        ...
