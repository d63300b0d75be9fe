"""A job: a raydrgn command, what it needs of a cluster, and what is sent there.

A job runs as if its user had typed the command in the same folder of the cluster. The package of
the submitting checkout is sent along and wins over one that is installed there; data never is:
particles and results lie on storage that the cluster sees too.
"""

import os
import re
import shlex
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import raydrgn
from raydrgn.errors import ConfigError, StorageError
from raydrgn.remote.environment import HELD_CPUS, HELD_GPUS, TOKEN_VARIABLES
from raydrgn.remote.job_queue import LIMITS
from raydrgn.remote.metrics import JOB_ID
from raydrgn.remote.process import user_name
from raydrgn.yaml_tables import parse_table

PROGRAM = "raydrgn"

STOP_ENVIRONMENT = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "120"}
"""How Ray stops a job: as Ctrl-C does, with time to keep the state of a training run.

By default it sends SIGTERM, and three seconds later ends what is left.
"""

OWN_KEYS = ("working_dir", "excludes")
"""Keys of a runtime environment that raydrgn fills itself, with its package."""

SECRETS = (*TOKEN_VARIABLES, "RAY_AUTH_MODE")

SENT_SUFFIXES = {".py", ".typed", ".sh", ".html", ".css", ".js", ".svg", ".json", ".txt", ".yaml"}
"""Files of the package that are sent; nothing large is named like these."""

PLACEHOLDER = re.compile(r"(\$?)\$\{(\w+)\}")
"""``${NAME}``, filled by ``--set``; ``$${NAME}`` stands for itself, as Ray fills that one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """One YAML file of ``jobs/``; the fields are those of Ray's ``submit_job``."""

    entrypoint: str
    """A raydrgn command, as typed in a shell; ``${NAME}`` is filled by ``--set NAME=VALUE``."""

    entrypoint_num_cpus: float = 0.0
    """CPUs kept for the command itself, beside those of its workers."""

    entrypoint_num_gpus: float = 0.0
    """GPUs kept for the command itself."""

    entrypoint_memory: int = 0
    """Bytes of memory kept for the command itself."""

    entrypoint_resources: dict[str, float] = field(default_factory=dict)
    """Other resources of the cluster kept for the command itself."""

    runtime_env: dict[str, Any] = field(default_factory=dict)
    """Ray's runtime environment, such as ``env_vars``; raydrgn adds its package."""

    metadata: dict[str, str] = field(default_factory=dict)
    """Kept with the job, and shown in Ray's dashboard."""

    def __post_init__(self) -> None:
        for name in ("entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        program, *words = _split(self.entrypoint) or [""]
        if program != PROGRAM or not words:
            raise ConfigError(
                f"entrypoint should be a raydrgn command, such as 'raydrgn train …', got "
                f"{self.entrypoint!r}."
            )
        for name in OWN_KEYS:
            if name in self.runtime_env:
                raise ConfigError(
                    f"runtime_env.{name} cannot be set: raydrgn sends its own package, and nothing "
                    "else. Put data on storage that the cluster sees."
                )
        variables = self.runtime_env.get("env_vars") or {}
        if not isinstance(variables, dict):
            raise ConfigError(f"runtime_env.env_vars should be a table, got {variables!r}.")
        for name, value in variables.items():
            if name in SECRETS:
                raise ConfigError(
                    f"runtime_env.env_vars.{name} cannot be set: Ray shows a job's environment. "
                    "The job uses the token that its cluster was started with."
                )
            if name == LIMITS:
                raise ConfigError(f"{name} is set on the head of a cluster, not by a job.")
            if not isinstance(value, str):
                raise ConfigError(
                    f"runtime_env.env_vars.{name} should be text, got {value!r}; put it in quotes."
                )

    @property
    def words(self) -> list[str]:
        """The command without the program's name, word by word."""
        return _split(self.entrypoint)[1:]

    @property
    def placeholders(self) -> set[str]:
        """Names that ``--set`` is to fill."""
        found: set[str] = set()

        def note(match: re.Match[str]) -> str:
            if not match[1]:
                found.add(match[2])
            return ""

        for item in (self.entrypoint, self.runtime_env, self.metadata):
            _replace(item, note)
        return found

    @classmethod
    def from_command(cls, words: Sequence[str], *, num_cpus: float = 0.0) -> "JobSpec":
        """Return the spec of a command line."""
        return cls(entrypoint=shlex.join([PROGRAM, *words]), entrypoint_num_cpus=num_cpus)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, where: str) -> "JobSpec":
        """Build from plain values.

        Raises:
            ConfigError: If a key is unknown, missing, not of its type or not allowed; names
                ``where`` and the key.
        """
        known = [item.name for item in fields(cls)]
        for name in raw:
            if name not in known:
                raise ConfigError(f"Unknown key {name!r} in {where}. Known: {', '.join(known)}.")
        if "entrypoint" not in raw:
            raise ConfigError(f"{where} has no key 'entrypoint': the raydrgn command to run.")
        try:
            return _adapter().validate_python(dict(raw))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            cause = first.get("ctx", {}).get("error")
            if isinstance(cause, ConfigError):
                raise ConfigError(f"{where}: {cause}") from error
            key = ".".join(map(str, first["loc"]))
            raise ConfigError(
                f"{where}: {key} is {first['input']!r}: {_lower(first['msg'])}."
            ) from error

    @classmethod
    def read(cls, path: str | Path) -> "JobSpec":
        """Read a spec.

        Raises:
            ConfigError: If it is not a job spec; names the file and the key.
            StorageError: If the file cannot be read.
        """
        try:
            content = Path(path).expanduser().read_bytes()
        except FileNotFoundError as error:
            raise StorageError(f"{path} does not exist; check the path of the spec.") from error
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
        return cls.from_dict(parse_table(content, str(path)), where=str(path))

    def filled(self, values: Mapping[str, str], *, where: str) -> "JobSpec":
        """Return the spec with each ``${NAME}`` replaced; a value stays one word of the command.

        Raises:
            ConfigError: If a name has no value, or a value no placeholder.
        """
        names = self.placeholders
        missing, unused = sorted(names - set(values)), sorted(set(values) - names)
        if missing:
            wanted = " ".join(f"--set {name}=…" for name in missing)
            raise ConfigError(f"{where} has the placeholder ${{{missing[0]}}}; add {wanted}.")
        if unused:
            known = ", ".join(sorted(names)) or "none"
            raise ConfigError(
                f"{where} has no placeholder ${{{unused[0]}}}; its placeholders: {known}."
            )

        def put(match: re.Match[str]) -> str:
            return match[0][1:] if match[1] else values[match[2]]

        words = [_replace(word, put) for word in _split(self.entrypoint)]
        raw = {item.name: getattr(self, item.name) for item in fields(self)}
        raw |= {
            "entrypoint": shlex.join(words),
            "runtime_env": _replace(self.runtime_env, put),
            "metadata": _replace(self.metadata, put),
        }
        return JobSpec.from_dict(raw, where=where)

    def with_variables(self, names: Iterable[str]) -> "JobSpec":
        """Return the spec with the values that variables have in this process.

        Raises:
            ConfigError: If a variable is not set here, or must not be sent.
        """
        found = {}
        for name in names:
            if "=" in name:
                raise ConfigError(
                    f"--env takes the name of a variable, such as {name.partition('=')[0]}; its "
                    "value is that in this shell."
                )
            if name not in os.environ:
                raise ConfigError(f"--env {name}: this variable is not set here.")
            found[name] = os.environ[name]
        variables = {**(self.runtime_env.get("env_vars") or {}), **found}
        return replace(self, runtime_env={**self.runtime_env, "env_vars": variables})

    def submit_arguments(self, *, job_id: str, folder: str, package: Path) -> dict[str, Any]:
        """Return the arguments of Ray's ``submit_job``.

        Args:
            job_id: Name of the job; its workers label their metrics with it.
            folder: Where the command runs, on the cluster.
            package: Archive that ``write_package`` has written.
        """
        environment = {
            **STOP_ENVIRONMENT,
            JOB_ID: job_id,
            "RAYDRGN_JOB_FOLDER": folder,
            "RAYDRGN_JOB_PYTHON": sys.executable,
            **(self.runtime_env.get("env_vars") or {}),
        }
        held = {HELD_CPUS: self.entrypoint_num_cpus, HELD_GPUS: self.entrypoint_num_gpus}
        environment |= {name: str(value) for name, value in held.items() if value}
        wanted = {
            "entrypoint_num_cpus": self.entrypoint_num_cpus,
            "entrypoint_num_gpus": self.entrypoint_num_gpus,
            "entrypoint_memory": self.entrypoint_memory,
            "entrypoint_resources": self.entrypoint_resources,
        }
        return {
            "submission_id": job_id,
            "entrypoint": entrypoint(self.words),
            "runtime_env": {
                **self.runtime_env,
                "working_dir": str(package),
                "env_vars": environment,
            },
            "metadata": {
                **self.metadata,
                "raydrgn.command": shlex.join([PROGRAM, *self.words]),
                "raydrgn.folder": folder,
                "raydrgn.version": raydrgn.__version__,
                "raydrgn.user": user_name(),
                "raydrgn.submitted": f"{time.time():.3f}",
            },
            **{name: value for name, value in wanted.items() if value},
        }


def entrypoint(words: Sequence[str]) -> str:
    """Return what Ray runs for a command, where the package has been unpacked."""
    # `exec`: no shell stays between Ray and the command to take its signals.
    return f"exec sh raydrgn/remote/job.sh {shlex.join(words)}"


def parse_value(text: str) -> tuple[str, str]:
    """Return name and value of a ``NAME=VALUE``.

    Raises:
        ConfigError: If it is not of that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\w+", name):
        raise ConfigError(f"--set takes NAME=VALUE for a ${{NAME}} of the spec, got {text!r}.")
    return name, value


def write_package(path: Path) -> None:
    """Write this package as an archive; the same files always give the same bytes.

    So Ray does not store twice what has not changed. Only files of the kinds that a package
    consists of are taken, whatever else lies beside them.
    """
    root = Path(raydrgn.__file__).parent
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            if file.suffix in SENT_SUFFIXES and file.is_file() and "__pycache__" not in file.parts:
                name = Path(PROGRAM, file.relative_to(root)).as_posix()
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o100644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())


def folder_here() -> str:
    """Return the current folder by the name the user knows it by, links of the path included."""
    folder, named = os.getcwd(), os.environ.get("PWD", "")
    if os.path.isabs(named) and os.path.isdir(named) and os.path.samefile(named, folder):
        return named
    return folder


@cache
def _adapter() -> Any:
    return TypeAdapter(JobSpec)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"entrypoint is not a command: {error}: {command!r}.") from error


def _replace(item: Any, put: Any) -> Any:
    if isinstance(item, str):
        return PLACEHOLDER.sub(put, item)
    if isinstance(item, dict):
        return {name: _replace(value, put) for name, value in item.items()}
    if isinstance(item, list):
        return [_replace(value, put) for value in item]
    return item
