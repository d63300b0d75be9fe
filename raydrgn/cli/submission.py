"""From the words after ``raydrgn submit`` to a job, checked before anything is sent."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raydrgn.cli.application import application_context
from raydrgn.errors import ConfigError

if TYPE_CHECKING:
    from raydrgn.remote.jobs import JobSpec

SPEC_SUFFIXES = (".yaml", ".yml")
SUBMIT_OPTIONS = {"--follow", "--cpus", "--folder", "--env"}
PIPES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Beginnings of the names of pipes, which lead nowhere on another machine; ``-`` is one too."""

NOT_AS_JOB = ("submit", "jobs", "status", "logs", "stop")


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """Options of ``raydrgn submit``."""

    address: str | None = None
    follow: bool = False
    cpus: float | None = None
    folder: str | None = None
    set_: Sequence[str] = ()
    env: Sequence[str] = ()


def read_submission(words: list[str], options: SubmitOptions) -> tuple["JobSpec", SubmitOptions]:
    """Return the job of a command line or a spec, and the options with those that follow a spec.

    Raises:
        ConfigError: If the spec, the command or an option cannot be used.
        UsageError: If there is no such command, or its options are wrong; as when run here.
    """
    from raydrgn.remote.jobs import JobSpec, parse_value

    if words[0].endswith(SPEC_SUFFIXES):
        options = _with_options_after_spec(words, options)
        if options.cpus is not None:
            raise ConfigError("--cpus is not for specs: set entrypoint_num_cpus in the spec.")
        spec = JobSpec.read(words[0])
        spec = spec.filled(dict(map(parse_value, options.set_)), where=words[0])
    else:
        if options.set_:
            raise ConfigError(
                "--set before COMMAND fills a spec; --set of the command itself comes after it."
            )
        spec = JobSpec.from_command(words, num_cpus=options.cpus or 0.0)
    check_command(spec.words)
    return (spec.with_variables(options.env) if options.env else spec), options


def check_command(words: Sequence[str]) -> None:
    """Refuse, before anything is sent, what is no command for a cluster.

    Args:
        words: The command without the program's name.

    Raises:
        ConfigError: If it works only here, or has an option that is meant for submit.
        UsageError: If there is no such command, or its options are wrong; as when run here.
    """
    name, *rest = words
    if name in NOT_AS_JOB:
        raise ConfigError(f"raydrgn {name} runs on this machine only, not as a job.")
    application = application_context()
    command: Any = application.command
    while hasattr(command, "resolve_command") and words:
        name, command, words = command.resolve_command(application, list(words))
    known = {text for parameter in command.params for text in parameter.opts}
    for word in rest[: rest.index("--")] if "--" in rest else rest:
        if word.split("=")[0] in SUBMIT_OPTIONS - known:
            raise ConfigError(
                f"{word} is an option of submit and comes before the command: raydrgn submit "
                f"{word} {shlex.join([name])} …"
            )
    for word in rest:
        if word == "-" or word.startswith(PIPES):
            raise ConfigError(
                f"{word} is a pipe of this machine, which a job cannot read. Write what comes "
                "through it to a file that the cluster sees, and give that."
            )
    used = command.make_context(name, list(words), parent=application).params
    if used.get("address"):
        raise ConfigError(
            "A job uses the cluster it runs on. To choose that, put --address before the command: "
            f"raydrgn submit --address {used['address']} {name} …"
        )


def _with_options_after_spec(words: list[str], options: SubmitOptions) -> SubmitOptions:
    """Return the options with those that follow the name of a spec."""
    spec, *rest = words
    application = application_context()
    submit: Any = application.command.get_command(application, "submit")  # type: ignore[attr-defined]
    after = submit.make_context("submit", [*rest, spec], parent=application).params
    if after["command"] != [spec]:
        raise ConfigError(
            f"{after['command'][0]!r} follows the spec {spec}, which is a whole command. Give "
            "values for its placeholders as --set NAME=VALUE."
        )
    given = {name: after[name] for name in ("address", "follow", "cpus", "folder") if after[name]}
    return replace(
        options,
        **given,
        set_=[*options.set_, *(after["set_"] or [])],
        env=[*options.env, *(after["env"] or [])],
    )
