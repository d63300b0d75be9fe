"""What is decided in a project, by whom and why, as ``project.yaml`` has it.

A person may edit the file: a decision whose ``by`` is ``user`` is kept.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import yaml

from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.protocol.decision_values import problem
from raydrgn.run.config import read_yaml
from raydrgn.settings import PROJECT

if TYPE_CHECKING:
    from raydrgn.io.particles import ParticleTable

Decider = Literal["program", "user"]

ALL = "all"
"""Value of the decision on particles where none was dropped."""

CHECKED_BYTES = 256_000_000
"""Files up to this size are known by their content, larger ones by size and time."""

MAY_CHANGE = ("model", "by")
"""Inputs that concern the occupancies alone, and may be given later."""

IMAGES, SAMPLED_IMAGES = "images", 16
"""What is known of the images beside the files: the content of some, taken evenly."""

EDITED = f"set in {PROJECT}"
"""Reason of a decision that a person has edited without giving one."""

IND, CHECKSUM = "ind", "checksum"
"""Of a decision which particles are kept: the file of a saved selection, and its content."""

HEAD = """# What is decided in this project. A decision that you change here is kept if its `by` is
# `user`; the next `raydrgn protocol` makes again what it changes.
"""


PARTS = ("inputs", "checksums", "decisions")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One decision."""

    value: Any
    by: Decider
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectInputs:
    """What a project was begun with."""

    source: ParticleSource
    map: Uri
    model: Uri | None = None
    by: str | None = None

    def absolute(self) -> "ProjectInputs":
        """Return the inputs with every path meaning the same from anywhere."""
        by = self.by
        return ProjectInputs(
            source=self.source.absolute(),
            map=storage.absolute(self.map),
            model=self.model and storage.absolute(self.model),
            by=storage.absolute(by) if by and by != "chain" else by,
        )

    @property
    def files(self) -> dict[str, Uri]:
        """All files, by what they are."""
        given = {
            "particles": self.source.particles,
            "poses": self.source.poses,
            "ctf": self.source.ctf,
            "ind": self.source.ind,
            "map": self.map,
            "model": self.model,
            "by": self.by if self.by != "chain" else None,
        }
        given |= {f"passthrough {k}": uri for k, uri in enumerate(self.source.passthrough)}
        return {name: uri for name, uri in given.items() if uri}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without what is not given."""
        plain = {**asdict(self.source), "map": self.map, "model": self.model, "by": self.by}
        plain["passthrough"] = list(self.source.passthrough)
        return {name: value for name, value in plain.items() if value}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, where: Uri) -> "ProjectInputs":
        """Read what ``to_dict`` returned.

        Raises:
            InputError: If something is missing or unknown.
        """
        names = {field.name for field in fields(ParticleSource)}
        own = {name: raw.get(name) for name in ("map", "model", "by")}
        given = {name: value for name, value in raw.items() if name not in own}
        if not raw.get("map") or not raw.get("particles") or set(given) - names:
            raise InputError(f"{where} lacks the particles or the map of the project.")
        given["passthrough"] = tuple(given.get("passthrough", ()))
        return cls(source=ParticleSource(**given), **own)  # type: ignore[arg-type]


def file_identity(uri: Uri) -> str:
    """Return what identifies a file: its content, or size and time of a large one."""
    if storage.file_size(uri) <= CHECKED_BYTES:
        return storage.checksum(storage.read_bytes(uri))
    return storage.stamp(uri)


def image_identity(table: "ParticleTable") -> str:
    """Return what identifies the images of particles, wherever their stacks are.

    Raises:
        InputError: If images cannot be read.
    """
    from raydrgn.data.particle_images import read_images

    rows = np.unique(np.linspace(0, len(table) - 1, SAMPLED_IMAGES).astype(np.int64))
    return storage.checksum(read_images(table, rows).tobytes())


def is_project_folder(root: Uri) -> bool:
    """Return whether a folder has a ``project.yaml`` of ours, whole or damaged."""
    uri = storage.join(root, PROJECT)
    if not storage.exists(uri) or storage.is_folder(uri):
        return False
    if storage.read_bytes(uri).startswith(HEAD.splitlines()[0].encode()):
        return True
    try:
        return set(PARTS) <= read_yaml(uri).keys()
    except ConfigError:
        return False


def _decision(name: str, values: Any, *, where: Uri) -> Decision:
    """Read a decision, which a person may have edited.

    Raises:
        InputError: Naming the decision, and what is expected of it.
    """
    parts = [field.name for field in fields(Decision)]
    if not isinstance(values, Mapping) or set(values) != set(parts):
        raise InputError(f"{where}: “{name}” needs {', '.join(parts)}, and nothing else.")
    if values["by"] not in get_args(Decider):
        raise InputError(f"{where}: “{name}”: `by` is program or user, not {values['by']}.")
    wrong = problem(name, values["value"], is_of_user=values["by"] == "user")
    if wrong:
        raise InputError(f"{where}: {wrong} Correct it, or delete it: it is decided anew then.")
    return Decision(**values)


class Decisions:
    """The decisions of a project, written whenever one changes.

    A person, or the explorer, may change the file while `raydrgn protocol` works on it, so that it
    is read again before each change: only what is decided anew replaces what it has then.
    """

    def __init__(self, uri: Uri) -> None:
        """Read the file, if there is one.

        Raises:
            RaydrgnError: If it is no such file.
        """
        self.uri = uri
        self.inputs: ProjectInputs | None = None
        self.checksums: dict[str, str] = {}
        self._found: dict[str, Decision] = {}
        self.read()

    def read(self) -> None:
        """Read the file again; what is known stays where there is none.

        Raises:
            RaydrgnError: If it is no such file.
        """
        uri = self.uri
        if not storage.exists(uri):
            return
        raw = read_yaml(uri)
        try:
            self.inputs = ProjectInputs.from_dict(raw["inputs"], where=uri)
            self.checksums = dict(raw["checksums"])
            self._found = {
                str(name): _decision(str(name), values, where=uri)
                for name, values in raw["decisions"].items()
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{uri} is damaged ({error}); correct it, or move it away and begin anew."
            ) from error

    def check(self, inputs: ProjectInputs, *, has_results: bool = True) -> dict[str, str]:
        """Compare what is given now with what the project was begun with; keep nothing.

        Args:
            inputs: What is given now.
            has_results: Whether anything was made of what it was begun with.

        Returns:
            What identifies each file, and the images as far as they are known.

        Raises:
            RunDirectoryError: If the project has results of something else.
        """
        checksums = {name: file_identity(uri) for name, uri in inputs.files.items()}
        if IMAGES in self.checksums:
            checksums[IMAGES] = self.checksums[IMAGES]
        if self.inputs is None or not has_results:
            return checksums
        for name in sorted({*checksums, *self.checksums} - {*MAY_CHANGE, IMAGES}):
            before, now = self.checksums.get(name), checksums.get(name)
            if before != now:
                how = (
                    "is not what it was" if before and now else "is missing" if before else "is new"
                )
                raise RunDirectoryError(
                    f"{storage.parent(self.uri)} was begun with other inputs: {name} {how} "
                    f"({inputs.files.get(name) or self.inputs.files[name]}). Choose another "
                    "-o, or give what it was begun with."
                )
        return checksums

    def check_images(self, images: str, *, has_results: bool = True) -> None:
        """Compare images, once they are open, with those that the project was begun with.

        Args:
            images: Their ``image_identity``.
            has_results: Whether anything was made of those before.

        Raises:
            RunDirectoryError: If they are others.
        """
        if has_results and self.checksums.get(IMAGES, images) != images:
            raise RunDirectoryError(
                f"{storage.parent(self.uri)} was begun with other images: the stacks of its "
                "particles have changed since. Choose another -o, or give the stacks that it was "
                "begun with (--datadir)."
            )

    def begin(
        self, inputs: ProjectInputs, *, images: str | None = None, has_results: bool = True
    ) -> None:
        """Keep what the project is begun with, after ``check``; files may have moved since."""
        self.read()
        checksums = self.check(inputs, has_results=has_results)
        if images is not None:
            self.check_images(images, has_results=has_results)
            checksums[IMAGES] = images
        if inputs != self.inputs or checksums != self.checksums:
            self.inputs, self.checksums = inputs, checksums
            self._write()

    def __getitem__(self, name: str) -> Any:
        return self._found[name].value

    def get(self, name: str) -> Decision | None:
        """Return a decision, or None if it was not made."""
        return self._found.get(name)

    def all(self) -> dict[str, Decision]:
        """Return all decisions, in the order in which they were made."""
        return dict(self._found)

    def by_user(self, name: str) -> Decision | None:
        """Return a decision of a person; None if there is none."""
        found = self._found.get(name)
        return found if found is not None and found.by == "user" else None

    def make(self, name: str, value: Any, *, by: Decider, why: str) -> Any:
        """Make a decision, and return its value."""
        self.read()
        decision = Decision(value=value, by=by, why=why)
        if self._found.get(name) != decision:
            self._found[name] = decision
            self._write()
        return value

    def preview(self, name: str, given: Any, default: Any, *, option: str, why: str) -> Any:
        """Return what ``choose`` would, and keep nothing."""
        kept = self.by_user(name)
        return given if given is not None else kept.value if kept else default

    def choose(self, name: str, given: Any, default: Any, *, option: str, why: str) -> Any:
        """Return what is given by an option, was decided by a person before, or is the default.

        Args:
            name: Of the decision.
            given: Value of the option; None where it was not given.
            default: Value of the program.
            option: How the command line calls it.
            why: Reason of the default.
        """
        self.read()
        if given is not None:
            return self.make(name, given, by="user", why=f"{option} was given")
        kept = self.by_user(name)
        if kept is None:
            return self.make(name, default, by="program", why=why)
        return self.keep(name, kept, program_why=why).value

    def keep(self, name: str, decision: Decision, *, program_why: str) -> Decision:
        """Keep a person's decision; one that was edited in the file loses the program's reason."""
        if decision.why != program_why:
            return decision
        self.make(name, decision.value, by="user", why=EDITED)
        return self._found[name]

    def _write(self) -> None:
        assert self.inputs is not None
        decisions = {name: asdict(found) for name, found in self._found.items()}
        parts = (self.inputs.to_dict(), self.checksums, decisions)
        content = dict(zip(PARTS, parts, strict=True))
        text = HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        storage.write_bytes(self.uri, text.encode())
