"""Which results of a project's steps are those of its latest call."""

import json
from typing import Any

from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.settings import PROJECT

STEPS = "steps.json"
"""Of a project: the results of each step, with the key of what they were made from."""

CURRENT = "current.json"
"""Of a project: the key of the results that its latest call took, of each step."""

TIMES = "times.json"
"""Of a project: the seconds that each step took."""

RECORDS = (PROJECT, STEPS, CURRENT, TIMES)
"""What a project knows of itself, beside its steps' folders."""


def replaced_folders(project: Uri) -> set[str]:
    """Return the names of folders in a project of which a step has taken other results since.

    They are not always the older ones: a project may have gone back to earlier settings. None are
    known where the project's records are missing or damaged.
    """
    steps, current = (_read(storage.join(project, name)) for name in (STEPS, CURRENT))
    found = set()
    try:
        for name, key in current.items():
            found |= {record["folder"] for record in steps.get(name, ()) if record["key"] != key}
    except (TypeError, KeyError):
        return set()
    return found


def _read(uri: Uri) -> dict[str, Any]:
    if not storage.exists(uri):
        return {}
    try:
        content = json.loads(storage.read_bytes(uri))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
