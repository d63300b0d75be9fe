"""Rows of particles that a caller has chosen, by number or by a mask."""

import numpy as np
from numpy.typing import ArrayLike

from raydrgn.errors import ConfigError
from raydrgn.shapes import Int


def chosen_rows(given: ArrayLike, count: int) -> Int[np.ndarray, " k"]:
    """Return the rows that numbers or a mask choose of some particles.

    Raises:
        ConfigError: If a number is no row, or the mask is of other particles.
    """
    rows = np.asarray(given)
    if rows.dtype == np.bool_:
        if rows.shape != (count,):
            raise ConfigError(
                f"A mask has one boolean for each of the {count:,} particles; got one of shape "
                f"{rows.shape}."
            )
        return np.flatnonzero(rows)
    if not rows.size and rows.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ConfigError(
            "Rows are whole numbers in one list, or one boolean for each particle; got "
            f"{rows.dtype} of shape {rows.shape}."
        )
    outside = rows[(rows < 0) | (rows >= count)]
    if outside.size:
        raise ConfigError(
            f"There are {count:,} particles, with rows from 0 to {count - 1:,}; got {outside[0]}."
        )
    return rows.astype(np.int64, copy=False)
