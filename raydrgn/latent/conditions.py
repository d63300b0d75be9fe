"""A selection as conditions on values of particles, joined one after the other.

A file of conditions is JSON. Each condition is joined to what those before it have left: with
``and``, ``or``, ``and not``, ``or not``; the first one to all particles (``and``, ``and not``) or
to none (``or``, ``or not``)::

    {"conditions": [
      {"join": "and", "inside": {"x": "umap1", "y": "umap2", "corners": [[0, 0], [4, 0], [4, 5]]}},
      {"join": "and", "range": {"column": "defocus_u_angstrom", "low": 8000, "high": null}},
      {"join": "and not", "among": {"column": "kmeans20", "values": [3, 11]}}]}

Neither a condition on a missing value nor its negation is true. What a column is,
``raydrgn.latent.values`` knows.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from raydrgn.clustering.three_valued import ThreeValued
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.latent.column_words import clusters_in_words, column_in_words
from raydrgn.latent.filters import Method, inside_polygon
from raydrgn.latent.values import Values
from raydrgn.shapes import Bool

JOINS = ("and", "or", "and not", "or not")
MOST_CONDITIONS = 100
MOST_CORNERS = 10_000

ValuesOf = Callable[[str], Values]
"""Values of all particles, by the name of their column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """Within a polygon in the plane of two columns."""

    kind: ClassVar[str] = "inside"
    x: str
    y: str
    corners: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Inside":
        """Read a polygon.

        Raises:
            ConfigError: If it is none.
        """
        x, y = (_text(given, name) for name in ("x", "y"))
        corners = given.get("corners")
        if not isinstance(corners, Sequence) or not 3 <= len(corners) <= MOST_CORNERS:
            raise ConfigError(f"A polygon has 3 to {MOST_CORNERS} corners, as [[x, y], …].")
        pairs = []
        for corner in corners:
            if not isinstance(corner, Sequence) or len(corner) != 2:
                raise ConfigError(f"A corner of a polygon is [x, y], got {corner!r:.40}.")
            pairs.append((_number(corner[0], "a corner"), _number(corner[1], "a corner")))
        return cls(x=x, y=y, corners=tuple(pairs))

    def __call__(self, values_of: ValuesOf) -> ThreeValued:
        """Return which particles are inside."""
        x, y = (values_of(name).numbers() for name in (self.x, self.y))
        found = inside_polygon(np.stack([x, y], axis=1), np.array(self.corners))
        return ThreeValued.of(found, x, y)

    def __str__(self) -> str:
        return f"inside a polygon of {column_in_words(self.x)} and {column_in_words(self.y)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {"x": self.x, "y": self.y, "corners": [list(corner) for corner in self.corners]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A column between two values, both of them included; None is no bound."""

    kind: ClassVar[str] = "range"
    column: str
    low: float | None
    high: float | None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Range":
        """Read a range.

        Raises:
            ConfigError: If it is none.
        """
        low, high = (
            None if given.get(name) is None else _number(given[name], name)
            for name in ("low", "high")
        )
        if low is None and high is None:
            raise ConfigError("A range has a low or a high end, or both.")
        if low is not None and high is not None and low > high:
            raise ConfigError(f"A range goes from low to high, got {low:g} to {high:g}.")
        return cls(column=_text(given, "column"), low=low, high=high)

    def __call__(self, values_of: ValuesOf) -> ThreeValued:
        """Return which particles are within."""
        values = values_of(self.column).numbers()
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return ThreeValued.of((values >= low) & (values <= high), values)

    def __str__(self) -> str:
        words = column_in_words(self.column)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} ≤ {words} ≤ {self.high:g}"
        return f"{words} ≤ {self.high:g}" if self.low is None else f"{words} ≥ {self.low:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {"column": self.column, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True, slots=True)
class Among:
    """A column of clusters, classes or names with one of some values."""

    kind: ClassVar[str] = "among"
    column: str
    values: tuple[int | str, ...]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Among":
        """Read a list of values.

        Raises:
            ConfigError: If it is none.
        """
        values = given.get("values")
        is_list = isinstance(values, Sequence) and not isinstance(values, str)
        if not is_list or not values or not all(type(value) in (int, str) for value in values):
            raise ConfigError("'among' takes a list of cluster numbers or names.")
        return cls(column=_text(given, "column"), values=tuple(values))

    def __call__(self, values_of: ValuesOf) -> ThreeValued:
        """Return which particles have one of the values.

        Raises:
            ConfigError: If no particle has one of them.
        """
        found = values_of(self.column)
        codes = [found.code(value) for value in self.values]
        return ThreeValued.of(np.isin(found.numbers(), codes), found.numbers())

    def __str__(self) -> str:
        return clusters_in_words(self.column, self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {"column": self.column, "values": list(self.values)}


Condition = Inside | Range | Among
KINDS: dict[str, type[Condition]] = {kind.kind: kind for kind in (Inside, Range, Among)}


@dataclass(frozen=True, slots=True)
class Joined:
    """A condition, and how it is joined to those before it."""

    join: str
    condition: Condition

    @classmethod
    def parse(cls, given: Any) -> "Joined":
        """Read a condition as a file has it.

        Raises:
            ConfigError: If it is none.
        """
        if not isinstance(given, Mapping) or given.get("join") not in JOINS:
            raise ConfigError(f"A condition has a 'join': one of {', '.join(JOINS)}.")
        kinds = [kind for kind in KINDS if isinstance(given.get(kind), Mapping)]
        if len(kinds) != 1:
            raise ConfigError(f"A condition has one of {', '.join(KINDS)}.")
        return cls(str(given["join"]), KINDS[kinds[0]].parse(given[kinds[0]]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {"join": self.join, self.condition.kind: self.condition.to_dict()}


Conditions = tuple[Joined, ...]


def parse_conditions(given: Any) -> Conditions:
    """Read conditions from plain values, as JSON has them.

    Raises:
        ConfigError: If they are none: which of them is wrong, and how.
    """
    listed = given.get("conditions") if isinstance(given, Mapping) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_CONDITIONS:
        raise ConfigError(f"There should be a list 'conditions' of 1 to {MOST_CONDITIONS}.")
    found = []
    for number, entry in enumerate(listed, start=1):
        try:
            found.append(Joined.parse(entry))
        except ConfigError as error:
            raise ConfigError(f"Condition {number}: {error}") from error
    return tuple(found)


def read_conditions(uri: Uri) -> Conditions:
    """Read a file of conditions.

    Raises:
        InputError: If it is none.
    """
    try:
        return parse_conditions(json.loads(storage.read_bytes(uri)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{uri} is not a file of conditions: {error}") from error


def to_json(conditions: Conditions) -> bytes:
    """Return the content of a file of conditions."""
    return json.dumps({"conditions": [entry.to_dict() for entry in conditions]}, indent=1).encode()


def fulfilled(conditions: Conditions, values_of: ValuesOf) -> Bool[np.ndarray, " n"]:
    """Return which particles fulfil conditions.

    Raises:
        ConfigError: If a column or value is not known.
    """
    kept: ThreeValued | None = None
    for entry in conditions:
        found = entry.condition(values_of)
        if entry.join.endswith("not"):
            found = ~found
        if kept is None:
            kept = found
        elif entry.join.startswith("and"):
            kept = kept & found
        else:
            kept = kept | found
    if kept is None:
        raise ConfigError("There is no condition.")
    return kept.true


def in_words(conditions: Conditions) -> str:
    """Return conditions as a sentence has them; brackets where the order matters."""
    text = ""
    for number, entry in enumerate(conditions):
        join = entry.join if number else entry.join.removeprefix("and").removeprefix("or")
        before = conditions[number - 1].join.split()[0] if number > 1 else None
        if before is not None and before != entry.join.split()[0]:
            text = f"({text})"
        text = f"{text} {join} {entry.condition}".replace("  ", " ").strip()
    return text


def by_conditions(conditions: Conditions, values_of: ValuesOf) -> Method:
    """Keep particles that fulfil conditions."""
    return Method(in_words(conditions), fulfilled(conditions, values_of))


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name!r} should name a column, got {value!r:.40}.")
    return value


def _number(value: Any, what: str) -> float:
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:  # a whole number of more digits than floating point has room for
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"{what} should be a finite number, got {value!r:.40}.")
    return number
