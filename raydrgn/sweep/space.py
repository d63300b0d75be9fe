"""The settings that a sweep tries: ``section.field`` and its values, as the command line has them.

``model.zdim=2,4,8,16``                 these values
``train.points_fraction=0.1..0.5``      any value of a range
``train.learning_rate=log:1e-4..1e-2``  any value of a range, evenly on a logarithmic scale
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from raydrgn.errors import ConfigError
from raydrgn.run.config import RunConfig

RANGE = re.compile(r"(?P<log>log:)?(?P<low>[^,]+?)\.\.(?P<high>[^,]+)")

SECTIONS = ("model", "train")

NOT_SEARCHED = {
    "train.epochs": "all trials have the same number; give it with --epochs",
    "train.held_out_fraction": "all trials are scored with the same particles",
    "train.load": "all trials start from random weights",
    "train.init": "all trials start from random weights",
    "train.restarted_after": "a run sets it by itself",
    "train.checkpoint_minutes": "it does not change the result",
    "train.keep_epochs": "it does not change the result",
}
"""Settings of the sections that are the same for all trials, and why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting with a list of values."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A setting with all values between two, which count as values too."""

    name: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def values(self) -> Sequence[Any] | None:
        """All values of a range of whole numbers; None if there is no end of them."""
        return range(int(self.low), int(self.high) + 1) if self.is_whole else None


Search = Choice | Range


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """All settings that are searched."""

    searches: tuple[Search, ...]

    @classmethod
    def parse(cls, texts: Sequence[str], base: RunConfig) -> "SearchSpace":
        """Read the expressions of ``--search``, and check every value against a configuration.

        Raises:
            ConfigError: Naming the expression and what is wrong with it.
        """
        if not texts:
            raise ConfigError("A sweep needs at least one --search, such as model.zdim=2,4,8.")
        searches = [_parse(text, base) for text in texts]
        names = [search.name for search in searches]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"--search {name} is given twice; write its values in one.")
        return cls(tuple(searches))

    @property
    def names(self) -> list[str]:
        """Names of the settings, in their order."""
        return [search.name for search in self.searches]

    @property
    def num_combinations(self) -> int | None:
        """Number of different settings; None if a range has no end of values."""
        lists = self._values()
        return None if lists is None else math.prod(len(values) for values in lists)

    def combinations(self, first: int = 0) -> Iterator[dict[str, Any]]:
        """Yield all combinations of a finite number, the last setting changing fastest.

        Args:
            first: The one to begin with; those before it follow the last.
        """
        lists = self._values()
        assert lists is not None, "ranges without an end have no combinations"
        count = math.prod(len(values) for values in lists)
        for place in range(first, first + count):
            number, found = place % count, []
            for values in reversed(lists):
                number, position = divmod(number, len(values))
                found.append(values[position])
            yield dict(zip(self.names, reversed(found), strict=True))

    def _values(self) -> list[Sequence[Any]] | None:
        """Return the values of each setting; None if one has no end of them."""
        lists = [search.values for search in self.searches]
        return None if any(v is None for v in lists) else [v for v in lists if v is not None]


def _parse(text: str, base: RunConfig) -> Search:
    name, equals, expression = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ConfigError(
            f"--search takes section.field=values, such as model.zdim=2,4,8; got {text!r}."
        )
    _check_name(name)
    found = RANGE.fullmatch(expression)
    if found:
        return _parse_range(name, found, text, base)
    words = [word.strip() for word in expression.split(",")]
    if not all(words):
        raise ConfigError(f"--search {text!r} has an empty value; write values such as 2,4,8.")
    if expression.startswith("log:"):
        raise ConfigError(f"--search {text!r}: log: needs a range, such as log:1e-4..1e-2.")
    values = tuple(_typed(name, word, text, base) for word in words)
    if len(set(values)) < len(values):
        raise ConfigError(f"--search {text!r} has a value twice.")
    return Choice(name, values)


def _check_name(name: str) -> None:
    section, _, field = name.partition(".")
    if section not in SECTIONS or not field:
        raise ConfigError(
            f"--search {name}: settings of {' and '.join(SECTIONS)} can be searched, such as "
            "model.zdim=2,4,8; others do not change a network and its training."
        )
    if name in NOT_SEARCHED:
        raise ConfigError(f"--search {name} cannot be searched: {NOT_SEARCHED[name]}.")


def _parse_range(name: str, found: re.Match[str], text: str, base: RunConfig) -> Range:
    ends = [_typed(name, found[end], text, base) for end in ("low", "high")]
    for end in ends:
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise ConfigError(
                f"--search {text!r}: {name} is not a number; write its values as a list."
            )
    low, high = ends
    if not low < high:
        raise ConfigError(f"--search {text!r}: the range must rise, and {low} is not below {high}.")
    is_log = bool(found["log"])
    if is_log and low <= 0:
        raise ConfigError(
            f"--search {text!r}: a logarithmic range begins above 0, and this one at {low}."
        )
    return Range(name, low, high, is_log, is_whole=isinstance(low, int) and isinstance(high, int))


def _typed(name: str, word: str, text: str, base: RunConfig) -> Any:
    """Return a value as the configuration has it.

    Raises:
        ConfigError: If there is no such setting, or it does not take the value.
    """
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError as error:
        raise ConfigError(f"--search {text!r}: {word!r} is not a value.") from error
    try:
        changed = base.with_values({name: value})
    except ConfigError as error:
        reason = str(error).removeprefix("--set: ").replace("in --set, section", "in section")
        raise ConfigError(f"--search {text!r}: {reason.rstrip('.')}.") from error
    section, _, field = name.partition(".")
    typed = getattr(getattr(changed, section), field)
    if isinstance(typed, float) and not math.isfinite(typed):
        raise ConfigError(f"--search {text!r}: {word} is not a finite number.")
    return typed
