"""Conditions on columns that select rows: ``bL28 > 0.5 and (H68 < 0.2 or not uL1 >= 0.8)``.

A comparison has a column on one side and a number, or another column, on the other; comparisons may
be chained (``0.2 < H68 < 0.8``) and joined with ``and``, ``or``, ``not`` and parentheses. A column
may also be asked for some values: ``cluster in (3, 5, 8-12)``, where ``8-12`` are the whole numbers
from 8 to 12. A column of names has ``in``, ``==`` and ``!=``: ``occupancy.class in (C1, C3)``. A
comparison with a missing value is neither true nor false, and nor is its negation. The name of a
column needs quotes if it contains spaces, brackets, quotes or one of
``<>=!``, or if it is a number or one of the four words. Nothing else is understood, and nothing is
run.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from raydrgn.clustering.three_valued import ThreeValued
from raydrgn.errors import ConfigError
from raydrgn.io.labels import MOST_LABELS
from raydrgn.shapes import Bool

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"[^"]*"|'[^']*')
      | (?P<comparison><=|>=|==|!=|<|>)
      | (?P<bracket>[()])
      | (?P<word>[^\s()<>=!"']+)
    )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_RANGE = re.compile(r"(-?\d+)-(-?\d+)")
_WORDS = ("and", "or", "not", "in")

_COMPARISONS: dict[str, Callable[..., Bool[np.ndarray, " n"]]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


LISTED_NAMES = 12
"""Names of a column that a message lists at most."""


def _is_text(column: np.ndarray) -> bool:
    return column.dtype.kind == "U"


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def select(expression: str, columns: Mapping[str, Any], *, noun: str) -> Bool[np.ndarray, " n"]:
    """Return which rows fulfil an expression.

    Args:
        expression: Condition on the columns.
        columns: Values of each column, float or text (n,), by each of its names; only those that
            the expression names are read.
        noun: What messages call a column: ``subunit``.

    Raises:
        ConfigError: If the expression is not valid: what is wrong, and at which character.
    """
    parser = _Parser(expression, _tokens(expression), columns, noun)
    found = parser.any_of()
    if parser.next.kind != "end":
        parser.refuse("'and' or 'or' is missing")
    return found.true


def _tokens(text: str) -> list[_Token]:
    found, start = [], 0
    while text[start:].strip():
        match = _TOKEN.match(text, start)
        if match is None:
            start += len(text[start:]) - len(text[start:].lstrip())
            raise _error(text, start, "a quote without an end, or an unknown comparison")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind)))
        start = match.end()
    return [*found, _Token("end", "", len(text))]


def _error(text: str, start: int, problem: str) -> ConfigError:
    rest = text[start:]
    position = f"at character {start + 1}, {rest[:20]!r}" if rest.strip() else "at the end"
    return ConfigError(f"--where {text!r}: {problem} ({position}).")


@dataclass(slots=True)
class _Parser:
    """Reads tokens from left to right; each method reads one kind of expression."""

    text: str
    remaining: list[_Token]
    columns: Mapping[str, Any]
    noun: str

    @property
    def next(self) -> _Token:
        """The next token."""
        return self.remaining[0]

    def refuse(self, problem: str) -> NoReturn:
        """Raise an error at the next token."""
        raise _error(self.text, self.next.start, problem)

    def any_of(self) -> ThreeValued:
        """Read expressions joined with ``or``."""
        found = self.all_of()
        while self._takes("or"):
            found = found | self.all_of()
        return found

    def all_of(self) -> ThreeValued:
        """Read expressions joined with ``and``."""
        found = self.condition()
        while self._takes("and"):
            found = found & self.condition()
        return found

    def condition(self) -> ThreeValued:
        """Read a comparison, its negation, or an expression in parentheses."""
        if self._takes("not"):
            return ~self.condition()
        if self._takes("("):
            found = self.any_of()
            if not self._takes(")"):
                self.refuse("a closing parenthesis is missing")
            return found
        return self._comparison()

    def _comparison(self) -> ThreeValued:
        start = self.next
        left, has_name = self._operand()
        if self._takes("in"):
            if not has_name:
                raise _error(self.text, start.start, f"a comparison without a {self.noun}")
            return ThreeValued.of(self._one_of(left), left)
        if self.next.kind != "comparison":
            self.refuse("a comparison is missing, such as > 0.5")
        if _is_text(left):
            return ThreeValued.of(self._is_name(left))
        found = ThreeValued.of(np.array(True))
        while self.next.kind == "comparison":
            compare = _COMPARISONS[self.remaining.pop(0).text]
            at = self.next
            right, is_name = self._operand()
            if _is_text(right):
                raise _error(self.text, at.start, "names are compared as in (A, B), or == A")
            has_name = has_name or is_name
            found = found & ThreeValued.of(np.asarray(compare(left, right)), left, right)
            left = right
        if not has_name:
            raise _error(self.text, start.start, f"a comparison without a {self.noun}")
        return found

    def _one_of(self, column: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Read values in parentheses; return where a column has one of them."""
        if not self._takes("("):
            self.refuse("values in parentheses are missing, such as (3, 5, 8-12)")
        found = np.zeros(len(column), dtype=bool)
        while not self._takes(")"):
            if _is_text(column) and self.next.kind == "quoted":
                found |= self._has_name(column, self.next.text[1:-1])
            elif self.next.kind == "word":
                for item in self.next.text.split(","):
                    found |= self._has(column, item) if item else False
            else:
                what = "name" if _is_text(column) else "number"
                self.refuse(f"a {what} or a closing parenthesis is missing")
            self.remaining.pop(0)
        return found

    def _is_name(self, column: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Read what a column of names is compared with."""
        comparison = self.next.text
        if comparison not in ("==", "!="):
            self.refuse("names have no order; use in (A, B), == or !=")
        self.remaining.pop(0)
        if self.next.kind not in ("word", "quoted"):
            self.refuse("a name is missing")
        quoted = self.next.kind == "quoted"
        found = self._has_name(column, self.next.text[1:-1] if quoted else self.next.text)
        self.remaining.pop(0)
        return found if comparison == "==" else ~found

    def _has_name(self, column: np.ndarray, name: str) -> Bool[np.ndarray, " n"]:
        found = column == name
        if not found.any():
            listed = ", ".join(np.unique(column)[:LISTED_NAMES])
            self.refuse(f"no row has {name!r}; there are {listed}")
        return np.asarray(found)

    def _has(self, column: np.ndarray, item: str) -> Bool[np.ndarray, " n"]:
        if _is_text(column):
            return self._has_name(column, item)
        ends = _RANGE.fullmatch(item)
        if ends:
            low, high = float(ends[1]), float(ends[2])
            if low > high:
                self.refuse(
                    f"the range {item} begins above its end; did you mean {ends[2]}-{ends[1]}?"
                )
            whole = np.floor(column) == column
            return np.asarray((column >= low) & (column <= high) & whole)
        if not _NUMBER.fullmatch(item):
            self.refuse(f"{item!r} is neither a number nor a range such as 8-12")
        found = np.asarray(column == float(item))
        different = np.unique(column) if not found.any() else column[:0]
        are_labels = 0 < len(different) <= MOST_LABELS and (different == np.floor(different)).all()
        if are_labels:  # of clusters, where it is a slip
            self.refuse(f"no row has {item}; there are {different[0]:g} to {different[-1]:g}")
        return found

    def _operand(self) -> tuple[np.ndarray, bool]:
        token = self.next
        if token.kind == "word" and _NUMBER.fullmatch(token.text):
            self.remaining.pop(0)
            return np.array(float(token.text)), False
        is_keyword = token.kind == "word" and token.text in _WORDS
        if token.kind not in ("word", "quoted") or is_keyword:
            self.refuse(f"a {self.noun} or a number is missing")
        name = token.text[1:-1] if token.kind == "quoted" else token.text
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.5)
            listed = ", ".join(near or self.columns)
            remedy = f"did you mean {listed}?" if near else f"there are {listed}"
            self.refuse(f"there is no {self.noun} {name!r}; {remedy}")
        self.remaining.pop(0)
        return self.columns[name], True

    def _takes(self, text: str) -> bool:
        if self.next.kind in ("word", "bracket") and self.next.text == text:
            self.remaining.pop(0)
            return True
        return False
