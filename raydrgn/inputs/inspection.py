"""Facts about a file or a run, and what about it looks wrong.

Nothing is refused: what cannot be read is reported, and what can be is shown.
"""

from dataclasses import dataclass, field

import numpy as np

from raydrgn.io.storage import Uri


@dataclass(slots=True)
class Inspection:
    """Facts by name, in order, and sentences on what looks wrong."""

    uri: Uri
    kind: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    concerns: list[str] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        """Add a fact."""
        self.facts.append((name, str(value)))

    def add_range(self, name: str, values: np.ndarray) -> None:
        """Add the range of some numbers; one number if they are all alike."""
        low, high = float(np.min(values)), float(np.max(values))
        self.add(name, f"{low:.6g}" if low == high else f"{low:.6g} … {high:.6g}")
