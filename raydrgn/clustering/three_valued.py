"""Conditions on values that may be missing, as SQL has them: true, false or unknown.

A comparison with a missing value is unknown, and so is its negation.
"""

from typing import NamedTuple

import numpy as np

from raydrgn.shapes import Bool


class ThreeValued(NamedTuple):
    """For each row whether a condition is true, and whether it is false; neither if unknown."""

    true: Bool[np.ndarray, "*n"]
    false: Bool[np.ndarray, "*n"]

    @classmethod
    def of(cls, found: Bool[np.ndarray, "*n"], *values: np.ndarray) -> "ThreeValued":
        """Return a condition that is unknown where one of its values is not a number."""
        known = np.array(True)
        for value in values:
            if value.dtype.kind == "f":
                known = known & ~np.isnan(value)
        return cls(found & known, ~found & known)

    def __and__(self, other: "ThreeValued") -> "ThreeValued":
        return ThreeValued(self.true & other.true, self.false | other.false)

    def __or__(self, other: "ThreeValued") -> "ThreeValued":
        return ThreeValued(self.true | other.true, self.false & other.false)

    def __invert__(self) -> "ThreeValued":
        return ThreeValued(self.false, self.true)
