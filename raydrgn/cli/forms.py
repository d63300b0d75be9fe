"""Commands as forms for the explorer: their fields are the settings, and the answer is words."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

from typer.exceptions import TyperException

from raydrgn.cli.application import application_context
from raydrgn.cli.submission import check_command, subject
from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.explore.interfaces import Command, Filled
from raydrgn.settings import setting_fields

NOT_OFFERED = ("bench", "demo", "explore", "simulate")
"""Commands that are for other things than a run."""

OF_RESULTS = ("run", "table")
"""Arguments into whose folder results go."""

WRITTEN = ("out", "table")
"""Fields that say where results go; the run is given by the explorer."""

OPTION_LIKE = re.compile(r"-(?![\d.])")
"""Beginning of a word that is an option, and no number."""

BESIDE_SETTINGS = ("project", "workers", "cpus_per_worker", "gpus_per_worker")
"""Fields beside the settings: what is taken from a project, and where the work is done.

The cluster is that of the explorer.
"""


class CommandForms:
    """All commands whose results go into the run, or where a setting ``out`` says."""

    def forms(self) -> list[dict[str, Any]]:
        """Return each command: its name, what it does, and its fields."""
        return [
            {
                "name": name,
                "help": " ".join((command.callback.__doc__ or "").strip().split("\n\n")[0].split()),
                "fields": [_field(command, parameter) for parameter in _parameters(command)],
            }
            for name, command in self._offered.items()
        ]

    def command(self, name: str, filled: Filled, *, base: str) -> Command:
        """Return the command that a filled form stands for.

        Args:
            name: Of the command.
            filled: Values of its fields.
            base: Folder from which a relative place of results is meant.

        Raises:
            ConfigError: If there is no such form or field, or the command line refuses the words.
        """
        from raydrgn.io import uri

        if name not in self._offered:
            raise ConfigError(f"There is no form for a command {name!r:.80}.")
        parameters = _parameters(self._offered[name])
        unknown = filled.keys() - {parameter.name for parameter in parameters}
        if unknown:
            raise ConfigError(f"raydrgn {name} has no field {min(unknown)!r:.80}.")
        options: list[str] = []
        arguments: list[str] = []
        for parameter in parameters:
            value = filled.get(parameter.name, "")
            if parameter.name in WRITTEN and (text := str(value).strip()):
                value = uri.absolute(text, base=base)
            words = _words(parameter, value)
            (arguments if _is_argument(parameter) else options).extend(words)
        words = [*name.split(), *arguments, *options]
        if any(word.startswith("-") for word in arguments):
            words = [*name.split(), *options, "--", *arguments]
        try:
            used = check_command(words)
        except TyperException as error:
            raise ConfigError(error.format_message()) from error
        written = {
            _option(parameter): str(place)
            for parameter in parameters
            if parameter.name in WRITTEN and (place := used.get(parameter.name))
        }
        deleted = _deleted(used) if name == "clean" else ""
        return Command(words, written, subject(used), deleted)

    @cached_property
    def _offered(self) -> dict[str, Any]:
        """The commands by their names."""
        found = {}
        for name, command in _commands(application_context().command, ()):
            settings = getattr(command.callback, "settings", None)
            if settings is not None and name.split()[0] not in NOT_OFFERED:
                fields = {field.name: field for field in setting_fields(settings)}
                needs_out = "out" in fields and fields["out"].default is dataclasses.MISSING
                known = [fields[argument] for argument in OF_RESULTS if argument in fields]
                if needs_out or any(field.setting.is_argument for field in known):
                    found[name] = command
        return found


def _commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def _parameters(command: Any) -> list[Any]:
    """Return the parameters of a command that are fields of its form."""
    known = {field.name for field in setting_fields(command.callback.settings)}
    names = {*known, *BESIDE_SETTINGS}
    return [parameter for parameter in command.params if parameter.name in names]


def _field(command: Any, parameter: Any) -> dict[str, Any]:
    """Return a field of a form as plain values."""
    types = {field.name: field.type for field in setting_fields(command.callback.settings)}
    kind = types.get(parameter.name)
    default = None if parameter.required else parameter.default
    if isinstance(default, list | tuple):
        default = shlex.join(map(str, default))
    return {
        "name": parameter.name,
        "option": _option(parameter),
        "help": parameter.help,
        "is_flag": _is_flag(parameter) and not _is_switch(parameter),
        "is_required": parameter.required,
        "choices": _switch_words(parameter) if _is_switch(parameter) else [
            c for part in (kind, *get_args(kind)) if _is_choice(part) for c in get_args(part)
        ],
        "default": default if isinstance(default, bool) or default is None else str(default),
    }  # fmt: skip


def _option(parameter: Any) -> str:
    """Return what the command line calls a parameter."""
    return str(parameter.metavar if _is_argument(parameter) else parameter.opts[-1])


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False))


def _is_switch(parameter: Any) -> bool:
    """Return whether a flag is on or off or left to a default that is neither here."""
    return _is_flag(parameter) and parameter.default is None and bool(parameter.secondary_opts)


def _switch_words(parameter: Any) -> list[str]:
    return [parameter.opts[-1], parameter.secondary_opts[-1]]


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _deleted(used: dict[str, Any]) -> str:
    """Return what `clean` deletes; empty if nothing, or if it only lists it.

    Raises:
        ConfigError: If there is no run that it could clean.
    """
    from raydrgn.wording import counted, in_bytes
    from raydrgn.workflows import clean

    if used["dry_run"]:
        return ""
    settings = clean.CleanSettings(run=used["run"], every=used["every"], dry_run=True)
    try:
        found = clean.run(settings)
    except RaydrgnError as error:
        raise ConfigError(str(error)) from error
    if not found.deleted:
        return ""
    epochs = ", ".join(str(weights.epoch) for weights in found.deleted)
    return (
        f"This deletes the weights of {counted(len(found.deleted), 'epoch')} "
        f"({in_bytes(found.num_bytes)}) from {found.run} for good: {epochs}."
    )


def _words(parameter: Any, value: str | bool) -> list[str]:
    """Return the words that give a value; none where it is left out.

    Raises:
        ConfigError: If a value would be read as another option, or values are missing.
    """
    if _is_switch(parameter):
        return [str(value)] if value in _switch_words(parameter) else []
    if _is_flag(parameter):
        if value == "" or bool(value) == bool(parameter.default):
            return []
        return [parameter.opts[-1] if value else parameter.secondary_opts[-1]]
    text = str(value).strip()
    if not text:
        return []
    has_several = parameter.nargs != 1 or parameter.multiple
    values = _split(text) if has_several else [text]
    if _is_argument(parameter):
        return values
    option = parameter.opts[-1]
    if wrong := [value for value in values if OPTION_LIKE.match(value)]:
        raise ConfigError(f"{option} cannot be {wrong[0]!r:.80}, which begins like an option.")
    if parameter.nargs > 1 and len(values) != parameter.nargs:  # the next option would be taken
        raise ConfigError(f"Option '{option}' requires {parameter.nargs} arguments.")
    if parameter.multiple:
        return [word for value in values for word in (option, value)]
    return [option, *values]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{text!r:.80} has a quotation mark without another.") from error
