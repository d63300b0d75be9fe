"""What commands take from a project, so that what is decided there is not typed again.

A command belongs to the project that is named, or to the one whose folder it is started in or
below. Each ``Setting`` names what holds for it there. Contrast, hand, images that are left out and
seed hold for the project's particles, what its steps have made, and runs that were trained on
either; where the project is named, for whatever the command works on. Poses, CTF, folders and the
selection of particles hold for the particles that the project was begun with; the epoch for the
runs of its rounds. A command that works on nothing of a project, such as ``train --resume``, takes
nothing.

Where there is no project, this loads nothing heavy.
"""

import logging
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.io import uri as uris
from raydrgn.io.uri import Uri
from raydrgn.settings import NO_PROJECT, PROJECT, SettingField, setting_fields

if TYPE_CHECKING:
    from raydrgn.protocol.project import Project

log = logging.getLogger(__name__)

WORKED_ON = ("run", "particles", "path")
"""Settings that name what a command works on."""

OF_FILE = ("poses", "ctf", "datadir", "passthrough", "half_size_shifts")
"""What belongs to a particle file."""


def find_project(given: str | None) -> Uri | None:
    """Return the folder of the project that a command belongs to; None if there is none.

    Args:
        given: Value of ``--project``; None looks at the current folder and those above it.

    Raises:
        ConfigError: If the folder that is given has no project.
    """
    if given == NO_PROJECT:
        return None
    if given is not None:
        root = uris.absolute(given)
        if not _is_project_folder(root):
            raise ConfigError(
                f"--project {given} is not a project: it has no {PROJECT} that raydrgn "
                "protocol wrote."
            )
        return root
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PROJECT).exists() and _is_project_folder(str(folder)):
            return str(folder)
    return None


def _is_project_folder(root: Uri) -> bool:
    from raydrgn.protocol.decisions import is_project_folder

    return is_project_folder(root)


def inherited(
    settings: type, values: Mapping[str, Any], given: Collection[str], project: str | None
) -> dict[str, Any]:
    """Return what settings take from a project, by the names of their fields; log it in a line.

    Args:
        settings: Settings class of a workflow.
        values: Its values so far, by the names of its fields.
        given: Names of those that the user has given, which hold.
        project: Value of ``--project``.

    Raises:
        RaydrgnError: If there is no such project, or its file is damaged.
    """
    known = list(setting_fields(settings))
    if not any(field.name == "particles" and field.setting.is_argument for field in known):
        values = {**values, "particles": None}  # rows of the run, or where its images are now
    fields = [field for field in known if field.setting.project]
    root = find_project(project)
    if root is None or not any(values.get(name) for name in WORKED_ON):
        return {}
    from raydrgn.protocol.project import Project

    opened = Project(root)
    decided = _decided(opened, values)
    other = _other_particles(opened, values)
    taken, differing = {}, []
    for field in fields:
        assert field.setting.project is not None
        value = decided.get(field.setting.project)
        if field.name in given:
            if value is not None and value != values[field.name]:
                differing.append(_in_words(field, values[field.name]))
        elif value and value != field.default:
            taken[field.name] = value
    words = ", ".join(_in_words(f, taken[f.name]) for f in fields if f.name in taken)
    if other and project is None:
        if words:
            log.info(
                "project %s: nothing is taken, since %s is not of its particles; to take %s, give "
                "--project %s",
                *(root, other, words, shlex.quote(root)),
            )
        return {}
    parts = []
    if words:
        parts.append(f"takes {words}" + (f", though {other} is not of its particles" * bool(other)))
    if differing:
        parts.append(f"{', '.join(differing)} is used as given, not as the project has it")
    if parts:
        log.info("project %s: %s", root, "; ".join(parts))
    return taken


def _decided(project: "Project", values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a project has for a command, by the names that settings have for it."""
    from raydrgn.protocol.decisions import ALL
    from raydrgn.protocol.inputs import SMALLER
    from raydrgn.protocol.rounds import ROWS, ROWS_OF_ORIGINAL

    root, inputs = project.root, project.decisions.inputs
    assert inputs is not None
    known = {name: decision.value for name, decision in project.decisions.all().items()}
    found = {
        "uninvert_data": known.get("contrast") == "dark",
        "flip": known.get("hand") == "flipped",
        "drop_bad": known.get("drop bad images", False),
        "seed": known.get("seed", 0),
    }
    works_on = {uris.absolute(str(values[n])) for n in WORKED_ON if values.get(n)}
    kept = known.get("particles", ALL)
    is_smaller = re.compile(re.escape(uris.join(root, SMALLER)) + r"\d+(\.\d+)?/")
    if any(_are_given(project, uri) for uri in works_on):
        found |= {name: getattr(inputs.source, name) for name in OF_FILE}
        found["ind"] = inputs.source.ind if kept == ALL else uris.join(root, kept, ROWS_OF_ORIGINAL)
    elif kept != ALL and any(is_smaller.match(uri) for uri in works_on):
        found["ind"] = uris.join(root, kept, ROWS)
    for name, value in known.items():
        if not name.startswith("epoch of round") or not isinstance(value, dict):
            continue
        if "epoch" in value and uris.join(root, str(value.get("run"))) in works_on:
            found["epoch"] = value["epoch"]
    return found


def _other_particles(project: "Project", values: Mapping[str, Any]) -> Uri | None:
    """Return what a command works on if that is not of the project's particles; else None.

    Of the project are the particles that it was begun with, at any path; what its steps have made;
    and runs that were trained on one of these.
    """
    for name in ("particles", "path", "run"):  # a run with other particles is asked about these
        if values.get(name):
            uri = uris.absolute(str(values[name]))
            return None if _is_own(project, uri) else uri
    return None


def _is_own(project: "Project", uri: Uri) -> bool:
    from raydrgn.io import storage

    is_made = any(f"{uri}/".startswith(f"{folder}/") for folder in project.folders())
    if is_made or uri == project.root:
        return True
    if not storage.is_at_hand(uri) or not storage.is_folder(uri):
        return _are_given(project, uri)
    from raydrgn.run.reader import open_run

    try:
        source = open_run(uri).source
    except RaydrgnError:
        return False  # the command reports what is wrong with it
    return source is not None and _is_own(project, uris.absolute(source.particles))


def _are_given(project: "Project", uri: Uri) -> bool:
    """Return whether a file has the particles that a project was begun with."""
    from raydrgn.io import storage
    from raydrgn.protocol.decisions import file_identity

    inputs, checksums = project.decisions.inputs, project.decisions.checksums
    assert inputs is not None
    if uri == inputs.source.particles:
        return True
    if "particles" not in checksums or not storage.is_at_hand(uri) or storage.is_folder(uri):
        return False
    return not storage.is_pipe(uri) and file_identity(uri) == checksums["particles"]


def _in_words(field: SettingField, value: Any) -> str:
    """Return an option as the user would give it."""
    option = field.setting.option(field.name)
    if value is True:
        return option
    words = value if isinstance(value, list | tuple) else [value]
    return " ".join([option, *map(str, words)])
