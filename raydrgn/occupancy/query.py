"""Selections by limits on occupancies, such as ``bL28 > 0.5 and (H68 < 0.2 or not uL1 >= 0.8)``.

A comparison has a subunit on one side and a number, or another subunit, on the other; comparisons
may be chained (``0.2 < H68 < 0.8``) and joined with ``and``, ``or``, ``not`` and parentheses. The
names of subunits need quotes only if they have spaces, brackets, quotes or signs of comparison in
them, or are numbers or one of the three words.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np

from raydrgn.errors import ConfigError
from raydrgn.shapes import Bool, Float

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"[^"]*"|'[^']*')
      | (?P<sign><=|>=|==|!=|<|>)
      | (?P<bracket>[()])
      | (?P<word>[^\s()<>=!"']+)
    )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_SIGNS: dict[str, Callable[..., Bool[np.ndarray, " n"]]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def select(
    expression: str, columns: Mapping[str, Float[np.ndarray, " n"]]
) -> Bool[np.ndarray, " n"]:
    """Return which rows fulfil an expression.

    Args:
        expression: What to fulfil.
        columns: Occupancies of each subunit, by every name that it may be called.

    Raises:
        ConfigError: If it cannot be understood; says at which character, and what is wrong.
    """
    parser = _Parser(expression, _tokens(expression), columns)
    found = parser.any_of()
    if parser.now.kind != "end":
        parser.refuse("'and' or 'or' is missing")
    return found


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            place += len(text[place:]) - len(text[place:].lstrip())
            raise _error(text, place, "a quote that does not end, or a sign that does not exist")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind)))
        place = match.end()
    return [*found, _Token("end", "", len(text))]


def _error(text: str, place: int, what: str) -> ConfigError:
    rest = text[place:]
    where = f"at character {place + 1}, {rest[:20]!r}" if rest.strip() else "at the end"
    return ConfigError(f"--where {text!r}: {what} ({where}).")


@dataclass(slots=True)
class _Parser:
    """Reads tokens from left to right; each method reads one kind of expression."""

    text: str
    left: list[_Token]
    columns: Mapping[str, Float[np.ndarray, " n"]]

    @property
    def now(self) -> _Token:
        """The next token."""
        return self.left[0]

    def refuse(self, what: str) -> NoReturn:
        """Say what is wrong with the next token."""
        raise _error(self.text, self.now.start, what)

    def any_of(self) -> Bool[np.ndarray, " n"]:
        """Read what is joined with ``or``."""
        found = self.all_of()
        while self._takes("or"):
            found = found | self.all_of()
        return found

    def all_of(self) -> Bool[np.ndarray, " n"]:
        """Read what is joined with ``and``."""
        found = self.one()
        while self._takes("and"):
            found = found & self.one()
        return found

    def one(self) -> Bool[np.ndarray, " n"]:
        """Read a comparison, what is negated, or what is in parentheses."""
        if self._takes("not"):
            return ~self.one()
        if self._takes("("):
            found = self.any_of()
            if not self._takes(")"):
                self.refuse("a closing parenthesis is missing")
            return found
        return self._comparison()

    def _comparison(self) -> Bool[np.ndarray, " n"]:
        start = self.now
        left, has_name = self._operand()
        if self.now.kind != "sign":
            self.refuse("a comparison is missing, such as > 0.5")
        found: Bool[np.ndarray, " n"] = np.array(True)
        while self.now.kind == "sign":
            sign = _SIGNS[self.left.pop(0).text]
            right, is_name = self._operand()
            has_name = has_name or is_name
            found = found & sign(left, right)
            left = right
        if not has_name:
            raise _error(self.text, start.start, "a comparison of numbers with no subunit in it")
        return found

    def _operand(self) -> tuple[Float[np.ndarray, "*n"], bool]:
        token = self.now
        if token.kind == "word" and _NUMBER.fullmatch(token.text):
            self.left.pop(0)
            return np.array(float(token.text)), False
        is_keyword = token.kind == "word" and token.text in ("and", "or", "not")
        if token.kind not in ("word", "quoted") or is_keyword:
            self.refuse("a subunit or a number is missing")
        name = token.text[1:-1] if token.kind == "quoted" else token.text
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.5)
            listed = ", ".join(near or list(self.columns)[:12])
            self.refuse(f"there is no subunit {name!r}; {'near it' if near else 'some'}: {listed}")
        self.left.pop(0)
        return self.columns[name], True

    def _takes(self, text: str) -> bool:
        if self.now.kind in ("word", "bracket") and self.now.text == text:
            self.left.pop(0)
            return True
        return False
