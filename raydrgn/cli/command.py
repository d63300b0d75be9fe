"""From the settings of a workflow to a command: its options are the fields of the settings."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from inspect import Parameter
from itertools import takewhile, zip_longest
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from raydrgn.cli.console import progress_display
from raydrgn.errors import ConfigError
from raydrgn.remote.executor import Executor
from raydrgn.remote.resources import parse_duration
from raydrgn.settings import SettingField, build, setting_fields

Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join, or RAY_ADDRESS; starts Ray on this machine if unset."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Worker processes; by default this process, or one for each GPU for many volumes; on "
        "a cluster one for each GPU, or for each node without GPUs.",
    ),
]
Tasks = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Tasks at a time, one core each; one per core by default, and none for small inputs.",
    ),
]

CpusPerWorker = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU cores of each worker; by default those of the nodes are divided."
    ),
]
CpusPerTask = Annotated[
    int | None, typer.Option("--cpus-per-worker", min=1, help="CPU cores of a task (default: 1).")
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="GPUs of each worker; a fraction lets several share one, and 0 computes on CPUs. By "
        "default one, or a fraction where there are fewer GPUs than workers.",
    ),
]


def read_duration(text: str) -> float:
    """Return the seconds of an option's value."""
    try:
        return parse_duration(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


EXECUTOR_NAMES = {"wait": "wait_seconds"}
"""Arguments of ``Executor`` that are not called as the option is."""

Wait = Annotated[
    float | None,
    typer.Option(
        parser=read_duration,
        metavar="TIME",
        help="Wait this long for room on the cluster, such as 90s, 30m or 2h, and give up with "
        "code 2; without limit by default.",
    ),
]


Project = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|none",
        help="Project of raydrgn protocol that provides what is not given here: contrast, hand, "
        "epochs, seed, and the selection of its particles. By default the project that the current "
        "folder lies in, and then only for its own particles and runs; none: no project.",
    ),
]


def command(
    settings: type, *, are_tasks: bool = False, uses_gpus: bool = True, inherits: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function of settings into a command whose options are their fields.

    The function is called with the settings, and by name with what else it takes: ``executor``,
    which adds ``--workers``, what each gets, ``--wait`` and ``--address``; ``progress``, shown for
    the length of the call; and options of the command alone, annotated as typer wants them, which
    are added at the end.

    Args:
        settings: Settings class of a workflow.
        are_tasks: Whether the work is done by tasks of one core, as many as there are cores.
        uses_gpus: Whether workers of it can use GPUs.
        inherits: Whether ``--project`` is added, if a setting names what it takes from a project.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        taken = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        names = {parameter.name for parameter in taken}
        options = [_parameter(field) for field in setting_fields(settings)]
        options += [
            _keyword(parameter.name, parameter.annotation, parameter.default)
            for parameter in taken
            if parameter.name not in ("executor", "progress")
        ]
        in_project = inherits and any(f.setting.project for f in setting_fields(settings))
        if in_project:
            options += [_keyword("project", Project, None), CONTEXT]
        execution = _execution(are_tasks, uses_gpus) if "executor" in names else {}
        options += [_keyword(name, kind, None) for name, kind in execution.items()]
        record_of = partial(_record_of, settings)

        def run(**words: Any) -> None:
            given = {name: words[name] for name in names & words.keys()}
            where = {EXECUTOR_NAMES.get(name, name): words[name] for name in execution}
            if in_project:
                words |= _inherited(settings, words)
            record = record_of(words)
            with ExitStack() as stack:
                stack.push(_put_back)
                if "executor" in names:
                    given["executor"] = stack.enter_context(Executor(**where))
                if "progress" in names:
                    given["progress"] = stack.enter_context(progress_display())
                body(record, **given)

        _take_options(run, options, described_by=body)
        run.bare = _bare_options(settings)  # type: ignore[attr-defined]
        run.lists = _list_options(settings)  # type: ignore[attr-defined]
        run.settings, run.record_of = settings, record_of  # type: ignore[attr-defined]
        return run

    return decorate


def _record_of(settings: type, words: dict[str, Any]) -> Any:
    """Return the settings that the words of a command line are, those of other options aside."""
    own = {field.name for field in setting_fields(settings)}
    return build(settings, {name: _frozen(words[name]) for name in own & words.keys()})


def _take_options(
    run: Callable[..., None], options: list[Parameter], *, described_by: Callable[..., None]
) -> None:
    """Give a function the signature from which typer reads its options, and another's words."""
    run.__name__, run.__doc__ = described_by.__name__, described_by.__doc__
    run.__module__ = described_by.__module__
    required_first = sorted(options, key=lambda option: option.default is not Parameter.empty)
    run.__signature__ = inspect.Signature(required_first)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}


def _put_back(kind: type[BaseException] | None, error: object, traceback: object) -> None:
    """Put earlier results back where an error ends the command that was to replace them."""
    results = sys.modules.get("raydrgn.reporting.result_folder")  # not loaded if nothing was begun
    if kind is not None and results is not None:
        results.put_back_earlier_results()


CONTEXT = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
"""Typer gives the parsed command line to a parameter of this type."""


def _inherited(settings: type, words: dict[str, Any]) -> dict[str, Any]:
    """Return what the settings take from a project; take what names it from the words."""
    context, project = words.pop("context"), words.pop("project")
    from raydrgn.protocol.inheritance import inherited  # loads how files are read

    given = {n for n in words if context.get_parameter_source(n).name != "DEFAULT"}
    return inherited(settings, words, given, project)


NUMBERS = re.compile(r"\d+(?:[-,]\d+)*")
"""A word of a list of numbers, such as ``0,3,8-12``."""


class NumberOptions(TyperCommand):
    """A command with options for lists of numbers, or for a number that can be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the number where none follows an option that has one (``Setting.bare``), then read.

        Raises:
            ConfigError: If a number follows a list (``Setting.is_list``): it would be the epoch.
        """
        for option in getattr(self.callback, "lists", ()):
            _refuse_number_after(option, args)
        bare: dict[str, str] = getattr(self.callback, "bare", {})
        filled = []
        for word, following in zip_longest(args, args[1:], fillvalue=""):
            filled.append(word)
            if word in bare and not _is_number(following):
                filled.append(bare[word])
        return super().parse_args(ctx, filled)


def _refuse_number_after(option: str, words: list[str]) -> None:
    """Refuse ``--keep-clusters 1 2``, whose 2 is no cluster to the command line, but the epoch."""
    flat = [part for word in words for part in _split_option(word, option)]
    for place in (i for i, word in enumerate(flat) if word == option):
        listed = list(takewhile(NUMBERS.fullmatch, flat[place + 1 :]))
        if len(listed) > 1:
            first, *rest = listed
            raise ConfigError(
                f"{option} {' '.join(listed)}: only {first} belongs to {option}, and {rest[0]} "
                f"would be the epoch. Write {option} {','.join(listed)} for all of these, or give "
                f"the epoch before the options: {rest[0]} {option} {first}."
            )


def _split_option(word: str, option: str) -> list[str]:
    return word.split("=", 1) if word.startswith(f"{option}=") else [word]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _bare_options(settings: type) -> dict[str, str]:
    """Return the options that can be given without a value, and the value that they have then."""
    return {
        field.setting.option(field.name): f"{field.setting.bare:g}"
        for field in setting_fields(settings)
        if field.setting.bare is not None
    }


def _list_options(settings: type) -> list[str]:
    """Return the options that take a list of numbers."""
    fields = setting_fields(settings)
    return [field.setting.option(field.name) for field in fields if field.setting.is_list]


def _execution(are_tasks: bool, uses_gpus: bool) -> dict[str, Any]:
    """Return the options of a command that spreads work, by their names."""
    options: dict[str, Any] = {
        "workers": Tasks if are_tasks else Workers,
        "cpus_per_worker": CpusPerTask if are_tasks else CpusPerWorker,
        "gpus_per_worker": GpusPerWorker,
        "wait": Wait,
        "address": Address,
    }
    return {name: options[name] for name in options if uses_gpus or name != "gpus_per_worker"}


def _parameter(field: SettingField) -> Parameter:
    """Return a field as typer takes it."""
    setting = field.setting
    default: Any = Parameter.empty if field.default is dataclasses.MISSING else field.default
    kind = field.type
    if get_args(kind) and get_args(kind)[-1] is Ellipsis:  # typer knows lists of any length
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
        default = default if default is Parameter.empty else list(default)
    if {int, str} <= set(get_args(kind)):  # a number, or words: words on the command line
        kind = str | None
    bounds: dict[str, Any] = {}
    if int in (kind, *get_args(kind)):  # fractional numbers are checked by the settings
        bounds = {"min": setting.min, "max": setting.max}
    if setting.is_argument:
        info: Any = typer.Argument(
            help=setting.help,
            metavar=setting.option(field.name),  # as messages name it
            show_default=default is not None,
            **bounds,
        )
    else:
        flags = setting.flags or (f"--{field.name.replace('_', '-')}",)
        info = typer.Option(*flags, help=setting.help, metavar=setting.metavar, **bounds)
    return _keyword(field.name, Annotated[kind, info], default)


def _keyword(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
