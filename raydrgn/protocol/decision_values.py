"""What the value of each decision of a project may be: a person edits them by hand."""

import re
from collections.abc import Mapping
from typing import Any

from raydrgn.errors import ConfigError
from raydrgn.protocol.settings import TrainingPlan

CHOICES = {
    "contrast": ("bright", "dark"),
    "contrast given": ("bright", "dark"),
    "hand": ("as it is", "flipped"),
    "hand given": ("as it is", "flipped"),
}
"""Decisions between two words."""

FEWEST = {"rounds": 1, "seed": 0}
"""Decisions on a whole number, and the smallest."""

PIXEL_SIZE = "pixel size, Å"

MEASURED = {
    "contrast": "It is what the check against the map found; set “contrast given” instead.",
    "hand": "It is what the check against the map found; set “hand given” instead.",
    PIXEL_SIZE: "It is that of the particles.",
}
"""Decisions of the program alone, and where they come from."""

PLANS, KEPT, BAD_IMAGES = ("low", "high"), "particles", "drop bad images"

OF_ROUND = re.compile(r"(epoch of round|selection) ([1-9][0-9]*)")
"""Decisions of a round: what it is of, and the number."""


def problem(name: str, value: Any, *, is_of_user: bool) -> str | None:
    """Return what is wrong with a decision, in words; None if nothing is.

    Args:
        name: Of the decision.
        value: As the file has it.
        is_of_user: Whether a person made it.
    """
    if is_of_user and name in MEASURED:
        return f"“{name}” cannot be decided by the user. {MEASURED[name]}"
    expected = _expected(name, value)
    if expected is not None:
        return f"“{name}” is {value!r}; expected {expected}."
    if is_of_user and not _is_known(name):
        known = [*PLANS, *FEWEST, *CHOICES, BAD_IMAGES, "epoch of round 1", "selection 1"]
        names = ", ".join(other for other in known if other not in MEASURED)
        return f"there is no decision “{name}”; there are {names}."
    return None


def _is_known(name: str) -> bool:
    known = {*PLANS, *FEWEST, *CHOICES, *MEASURED, BAD_IMAGES, KEPT}
    return name in known or bool(OF_ROUND.fullmatch(name))


def _expected(name: str, value: Any) -> str | None:
    """Return what the value of a decision should be; None if it is such."""
    if name in CHOICES:
        return None if value in CHOICES[name] else " or ".join(CHOICES[name])
    if name in FEWEST:
        least = FEWEST[name]
        return None if _is_whole(value, least) else f"a whole number from {least}"
    if name == BAD_IMAGES:
        return None if isinstance(value, bool) else "true or false"
    if name in PLANS:
        return _expected_plan(value, name)
    if name == KEPT:
        return None if isinstance(value, str) and value else "all, or the folder of a selection"
    if OF_ROUND.fullmatch(name):
        return _expected_epoch(value) if name.startswith("epoch") else _expected_selection(value)
    return None


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _expected_plan(value: Any, name: str) -> str | None:
    if not isinstance(value, str):
        return 'words as "128 256x3 epochs=50" (box, network, epochs)'
    try:
        TrainingPlan.read(value, f"--{name}")
    except ConfigError as error:
        return f'words as "128 256x3 epochs=50" ({str(error).rstrip(".")})'
    return None


def _expected_epoch(value: Any) -> str | None:
    is_right = (
        isinstance(value, Mapping)
        and isinstance(value.get("run"), str)
        and _is_whole(value.get("epoch"), 1)
    )
    return None if is_right else "run, the folder of the training, and epoch, a whole number from 1"


def _expected_selection(value: Any) -> str | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("proposal"), str):
        return "proposal, clusters and null, as raydrgn protocol wrote them"
    clusters, null = value.get("clusters"), value.get("null")
    if not isinstance(clusters, list) or not all(_is_whole(number, 0) for number in clusters):
        return "clusters, a list of cluster numbers, as [3, 11]"
    is_number = isinstance(null, int | float) and not isinstance(null, bool)
    if "null" not in value or (null is not None and not (is_number and 0 <= null <= 1)):
        return "null, a probability from 0 to 1 above which particles are dropped, or null for none"
    if ("ind" in value) != ("checksum" in value):
        return "ind and checksum, as the explorer wrote them, or neither"
    return None
