"""Choices of a landscape."""

from typing import Literal

Linkage = Literal["average", "ward", "complete"]
"""How the distance of two clusters of volumes is measured, as SciPy calls it."""
