"""From the words after ``raydrgn submit`` to a job, checked before anything is sent."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.cli.application import application_context
from raydrgn.cli.usage import plain_refusals
from raydrgn.errors import ConfigError
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.remote.jobs import JobSpec

SPEC_SUFFIXES = (".yaml", ".yml")
SUBMIT_OPTIONS = {"--follow", "--cpus", "--folder", "--priority", "--retries", "--env"}
PIPES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Beginnings of the names of pipes, which lead nowhere on another machine; ``-`` is one too."""

NOT_AS_JOB = ("submit", "jobs", "top", "status", "logs", "stop")


@dataclass(frozen=True, kw_only=True)
class SubmitSettings:
    """Command and options of ``raydrgn submit``."""

    command: Annotated[
        tuple[str, ...],
        Setting(
            "raydrgn command with its options, or a spec such as jobs/train-8gpu.yaml.",
            is_argument=True,
            metavar="COMMAND",
        ),
    ]

    address: Annotated[
        str | None,
        Setting(
            "Ray dashboard of the cluster, as http://HOST:8265; or RAY_ADDRESS; or this machine.",
            metavar="URL",
        ),
    ] = None

    follow: Annotated[
        bool,
        Setting("Show the job's log, and end with its exit code.", flags=("--follow",)),
    ] = False

    cpus: Annotated[
        float | None,
        Setting("CPUs kept for the command itself, beside those of its workers; 0.", min=0),
    ] = None

    folder: Annotated[str | None, Setting("Folder of the cluster to run in; the current one.")] = (
        None
    )

    priority: Annotated[
        int | None,
        Setting("Jobs of a higher priority get their workers before others that wait; 0."),
    ] = None

    retries: Annotated[
        int | None,
        Setting(
            "Start the job again, as often as this, after a lost node or a crash; training goes "
            "on from its latest checkpoint; 0.",
            min=0,
        ),
    ] = None

    notify: Annotated[
        str | None,
        Setting(
            "POST a JSON notice to this URL when the job starts, ends, fails or is started again.",
            metavar="URL",
        ),
    ] = None

    set_: Annotated[
        tuple[str, ...],
        Setting("Fill ${NAME} in a spec; repeatable.", flags=("--set",), metavar="NAME=VALUE"),
    ] = ()

    env: Annotated[
        tuple[str, ...],
        Setting(
            "Send the value that this variable has here; repeatable. The cluster keeps it with the "
            "job, and shows it to whoever can see its dashboard.",
            metavar="NAME",
        ),
    ] = ()

    def __post_init__(self) -> None:
        check_bounds(self)


def read_submission(options: SubmitSettings) -> tuple["JobSpec", SubmitSettings]:
    """Return the job of a command line or a spec, and the options with those that follow a spec.

    Raises:
        ConfigError: If the spec, the command or an option cannot be used.
        UsageError: If there is no such command, or its options are wrong; as when run here.
    """
    from raydrgn.remote.jobs import JobSpec, parse_value

    words = options.command
    if words[0].endswith(SPEC_SUFFIXES):
        options = _with_options_after_spec(options)
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
    given = check_command(spec.words)
    metadata = {**subject(given), **spec.metadata}
    if options.priority:
        metadata["raydrgn.priority"] = str(options.priority)
    spec = replace(spec, metadata=metadata)
    return (spec.with_variables(options.env) if options.env else spec), options


def subject(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what a command works on, as Ray's dashboard shows it beside the job."""
    found = {
        "raydrgn.run": given.get("run") or given.get("out"),
        "raydrgn.particles": given.get("particles"),
    }
    return {name: str(value) for name, value in found.items() if isinstance(value, str)}


def check_command(words: Sequence[str]) -> dict[str, Any]:
    """Refuse, before anything is sent, what is no command for a cluster; return its values.

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
    with plain_refusals():
        used: dict[str, Any] = command.make_context(name, list(words), parent=application).params
    if record_of := getattr(command.callback, "record_of", None):
        record_of(used)  # which checks what the words are together
    if used.get("address"):
        raise ConfigError(
            "A job uses the cluster it runs on. To choose that, put --address before the command: "
            f"raydrgn submit --address {used['address']} {name} …"
        )
    return used


def _with_options_after_spec(options: SubmitSettings) -> SubmitSettings:
    """Return the options with those that follow the name of a spec."""
    spec, *rest = options.command
    application = application_context()
    submit: Any = application.command.get_command(application, "submit")  # type: ignore[attr-defined]
    after = submit.make_context("submit", [*rest, spec], parent=application).params
    if list(after["command"]) != [spec]:
        raise ConfigError(
            f"{after['command'][0]!r} follows the spec {spec}, which is a whole command. Give "
            "values for its placeholders as --set NAME=VALUE."
        )
    lists = ("set_", "env")
    given = {
        name: value for name, value in after.items() if value and name not in ("command", *lists)
    }
    given |= {name: (*getattr(options, name), *(after[name] or ())) for name in lists}
    return replace(options, **given)
