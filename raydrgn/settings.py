"""Settings of a workflow: one record, from which every way of calling it is made.

A field of a settings class is annotated with a ``Setting``. The command line makes its options of
the fields, a form in a browser its inputs, and Python callers fill the class itself, so that names,
defaults, bounds and explanations are written once. This module loads nothing heavy.
"""

import dataclasses
import inspect
import math
import numbers
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from raydrgn.errors import ConfigError

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
MAP_SUFFIXES = (".mrc", ".map")

LONGEST_RANGE = 10_000
"""Numbers that a range such as ``8-12`` may stand for."""

PROJECT = "project.yaml"
"""File of a project's inputs and decisions; its runs and results lie in the folder beside it."""

NO_PROJECT = "none"
"""Value of ``--project`` with which a command takes nothing from a project."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Explanation, option names and bounds of a field of a settings class."""

    help: str
    """What it is, in a sentence, with its unit."""

    flags: tuple[str, ...] = ()
    """Option names on the command line; made of the field's name if empty."""

    is_argument: bool = False
    """Whether it is given by its position on the command line, without a name."""

    min: float | None = None
    max: float | None = None
    above: float | None = None
    """Bound that the value itself must not reach."""

    metavar: str | None = None
    """What stands for the value in the help text."""

    bare: float | None = None
    """Value of an option for a number that is given without one."""

    is_list: bool = False
    """Whether the value is a list of numbers, as in ``0,3``."""

    project: str | None = None
    """What of a project holds where nothing is given: see ``raydrgn.protocol.inheritance``."""

    def option(self, name: str) -> str:
        """Return what a message calls the field of this name."""
        if self.is_argument:
            return (self.metavar or name).upper()
        own = f"--{name.replace('_', '-')}"
        flags = [flag.split("/")[0] for flag in self.flags]
        return own if own in flags or not flags else flags[-1]


@dataclass(frozen=True, slots=True)
class SettingField:
    """A field of a settings class, or of a record inside it."""

    name: str
    type: Any
    default: Any
    """``dataclasses.MISSING`` if the field must be given."""

    setting: Setting
    path: tuple[str, ...]
    """Names of the records that hold the field, from the outermost."""


def setting_fields(settings: type, path: tuple[str, ...] = ()) -> Iterator[SettingField]:
    """Yield the fields of a settings class that have a ``Setting``: its own before inherited."""
    hints = get_type_hints(settings, include_extras=True)
    depth = {  # later entries replace earlier ones: the class nearest to ``settings`` counts
        name: level
        for level, owner in reversed(list(enumerate(settings.__mro__)))
        for name in inspect.get_annotations(owner)
    }
    for field in sorted(dataclasses.fields(settings), key=lambda field: depth[field.name]):
        hint = hints[field.name]
        if get_origin(hint) is Annotated:
            kind, *metadata = get_args(hint)
            found = [entry for entry in metadata if isinstance(entry, Setting)]
            if found:
                default = field.default
                if field.default_factory is not dataclasses.MISSING:
                    default = field.default_factory()
                yield SettingField(field.name, kind, default, found[0], path)
        elif dataclasses.is_dataclass(hint):
            yield from setting_fields(hint, (*path, field.name))  # type: ignore[arg-type]


def check_bounds(settings: Any) -> None:
    """Check the type of every field of a settings record, its bounds, and every choice.

    Paths become text, and numbers of NumPy those of Python, so that the record has what its
    annotations name.

    Raises:
        ConfigError: Naming the option, its value, and the type, the bound or the choices.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
            name = hint.__name__  # type: ignore[union-attr]
            raise ConfigError(f"{field.name} takes a {name}, got {_named(value)}.")
        kind, *metadata = get_args(hint) or (None,)
        for entry in metadata:
            if isinstance(entry, Setting):
                option = entry.option(field.name)
                _check_choices(kind, option, value)
                value = typed(kind, option, value)
                if value != field.default:
                    _refuse_empty(option, value)
                object.__setattr__(settings, field.name, value)  # records are frozen
                if isinstance(value, int | float):
                    _check(entry, option, value)


def typed(kind: Any, option: str, value: Any) -> Any:
    """Return a value as the type of its field: text of a path, a whole number of ``4.0``.

    Raises:
        ConfigError: Naming the option, if the value is of another type.
    """
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if value is None and NoneType in parts:
        return None
    kinds = [part for part in parts if part is not NoneType]
    for candidate in kinds:
        if get_origin(candidate) is Literal:  # choices are compared as they are
            return value
        if get_origin(candidate) is tuple:
            return _typed_tuple(get_args(candidate), option, value)
        if (found := _converted(candidate, value)) is not None:
            return found
    expected = " or ".join(_EXPECTED[candidate] for candidate in kinds)
    raise ConfigError(f"{option} takes {expected}, got {_named(value)}.")


def typed_path(option: str, value: Any) -> str:
    """Return a path as text.

    Raises:
        ConfigError: Naming the option, if the value is no path, or empty.
    """
    path: str = typed(str, option, value)
    _refuse_empty(option, path)
    return path


_EXPECTED = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text or a path",
}


def _typed_tuple(parts: tuple[Any, ...], option: str, value: Any) -> tuple[Any, ...]:
    is_open = parts[-1] is Ellipsis
    if not isinstance(value, tuple | list) or not (is_open or len(value) == len(parts)):
        expected = "a list" if is_open else f"{len(parts)} numbers"
        raise ConfigError(f"{option} takes {expected}, got {_named(value)}.")
    return tuple(typed(parts[0], option, each) for each in value)


def _converted(kind: type, value: Any) -> Any:
    """Return a value as one of the four types of settings; None if it is of another."""
    if kind is bool:
        is_truth = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
        return bool(value) if is_truth else None
    if kind is str:
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        return text if isinstance(text, str) else None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is float and is_number:
        return value if isinstance(value, int) else float(value)
    is_whole = isinstance(value, numbers.Integral) or (is_number and float(value).is_integer())
    return int(value) if is_number and is_whole else None


def _named(value: Any) -> str:
    """Return what a message calls a value of a wrong type."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def build(settings: type, values: dict[str, Any]) -> Any:
    """Make a settings record, and those inside it, of values by the names of their fields.

    Raises:
        ConfigError: If the record refuses a value.
    """
    nested: dict[tuple[str, ...], dict[str, Any]] = {(): {}}
    for field in setting_fields(settings):
        if field.name in values:
            nested.setdefault(field.path, {})[field.name] = values[field.name]
    return _build(settings, (), nested)


def _build(settings: type, path: tuple[str, ...], nested: dict[tuple[str, ...], Any]) -> Any:
    hints = get_type_hints(settings)
    inside = {
        field.name: _build(hints[field.name], (*path, field.name), nested)
        for field in dataclasses.fields(settings)
        if dataclasses.is_dataclass(hints[field.name]) and (*path, field.name) in nested
    }
    return settings(**nested.get(path, {}), **inside)


def check_percentiles(values: tuple[float, float], option: str) -> None:
    """Check that two percentiles are a range.

    Raises:
        ConfigError: Naming the option, if they are not.
    """
    low, high = values
    if not 0 <= low < high <= 100:
        raise ConfigError(
            f"{option} takes two percentiles, low then high; got {low:g} and {high:g}."
        )


def check_figure_name(out: str) -> None:
    """Check that the name of a figure to write ends in one of the formats of figures.

    Raises:
        ConfigError: If it does not.
    """
    if PurePosixPath(out).suffix not in FIGURE_SUFFIXES:
        raise ConfigError(f"-o {out} should end in .png, .svg or .pdf.")


def check_map_name(out: str) -> None:
    """Check that the name of a map to write ends as maps' names do.

    Raises:
        ConfigError: If it does not.
    """
    if PurePosixPath(out).suffix not in MAP_SUFFIXES:
        raise ConfigError(f"-o {out} should end in .mrc or .map: maps are written in MRC format.")


def whole_numbers(text: str | None, option: str, *, ranges: bool = False) -> tuple[int, ...]:
    """Return the numbers in a text such as ``0,3,5``; none if there is no text.

    Args:
        text: Numbers.
        option: The option, for messages.
        ranges: Whether the text may have ranges, as in ``0,3,8-12``.

    Raises:
        ConfigError: Naming the option, if the text contains anything else.
    """
    found: list[int] = []
    for part in (text or "").replace(",", " ").split():
        ends = re.fullmatch(r"(\d{1,9})-(\d{1,9})", part) if ranges else None
        first, last = map(int, ends.groups()) if ends else (0, -1)
        if ends and first <= last < first + LONGEST_RANGE:
            found += range(first, last + 1)
            continue
        try:
            found.append(int(part))
        except ValueError as error:
            example = "0,3,8-12" if ranges else "0,3,5"
            raise ConfigError(
                f"{option} takes whole numbers such as {example}; got {text!r}."
            ) from error
    return tuple(found)


def _refuse_empty(option: str, value: Any) -> None:
    """Refuse text without a word, which as a path would be the current folder."""
    for each in value if isinstance(value, tuple) else [value]:
        if isinstance(each, str) and not each.strip():
            raise ConfigError(f"{option} is empty: got {each!r}.")


def _check_choices(kind: Any, option: str, value: Any) -> None:
    """Refuse what is none of the choices of a ``Literal``, which may be optional or in a tuple."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            listed = ", ".join(map(str, get_args(kind)))
            raise ConfigError(f"{option} must be one of {listed}, got {value!r}.")
        return
    inner = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    if len(inner) != 1 or value is None:
        return
    for each in value if isinstance(value, tuple | list) else [value]:
        _check_choices(inner[0], option, each)


def _check(setting: Setting, option: str, value: float) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ConfigError(f"{option} is a whole number beyond {sys.float_info.max:.1e}: too large.")
    if not math.isfinite(value):
        raise ConfigError(f"{option} must be a finite number, got {value}.")
    if setting.min is not None and value < setting.min:
        raise ConfigError(f"{option} must be at least {setting.min:g}, got {value:g}.")
    if setting.max is not None and value > setting.max:
        raise ConfigError(f"{option} must be at most {setting.max:g}, got {value:g}.")
    if setting.above is not None and value <= setting.above:
        raise ConfigError(f"{option} must be greater than {setting.above:g}, got {value:g}.")
