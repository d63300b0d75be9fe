"""Values of particles by name, as conditions in words and colours take them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from raydrgn.errors import ConfigError
from raydrgn.latent.values import UMAP, ParticleValues
from raydrgn.shapes import Float

Maker = Callable[[], np.ndarray]


class NumericValues(Mapping[str, Any]):
    """Columns of numbers by name, one value per particle, made when they are first asked for.

    Args:
        values: All that is known of the particles.
        labels: More columns by their names, such as the ``cluster`` that a command has chosen.
    """

    def __init__(self, values: ParticleValues, labels: Mapping[str, Maker] | None = None) -> None:
        self._values = values
        self._labels = dict(labels or {})

    def __getitem__(self, name: str) -> Float[np.ndarray, " n"]:
        """Return a column in double precision.

        Raises:
            ConfigError: If it holds names, which have no order.
            RaydrgnError: If it cannot be read.
        """
        if name in self._labels:
            return np.asarray(self._labels[name](), dtype=np.float64)
        found = self._values(name)
        if found.names and not found.is_truth:
            raise ConfigError(
                f"The column {name!r} holds names ({', '.join(found.names[:3])}), not numbers."
            )
        return found.numbers()

    def __contains__(self, name: object) -> bool:
        return name in self._labels or name in self._values.columns or name in UMAP

    def __iter__(self) -> Iterator[str]:
        yield from self._labels
        yield from self._values.columns

    def __len__(self) -> int:
        return len(self._labels) + len(self._values.columns)


class ConditionValues(NumericValues):
    """Columns as conditions take them: of numbers, or of names as text."""

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column.

        Raises:
            RaydrgnError: If it cannot be read.
        """
        if name not in self._labels:
            found = self._values(name)
            if found.names and not found.is_truth:
                return np.array(found.names)[found.array]
        return super().__getitem__(name)
