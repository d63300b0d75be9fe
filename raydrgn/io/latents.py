"""Files of latents: raydrgn's and cryoDRGN's pickles, arrays, tables, and cryoSPARC's components.

For commands that need latents only, and no run. One row per particle, one column per dimension.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.arrays import read_array, to_float32
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.passthrough import read_rows
from raydrgn.io.storage import Uri
from raydrgn.io.tables import NUMBER_COLUMNS, TEXT_SUFFIXES, original_numbers, read_table
from raydrgn.shapes import Float, Int

COMPONENT = re.compile(r"^components_mode_(\d+)/value$")
"""cryoSPARC's fields of 3D Variability Analysis and 3D Flex, numbered from 0."""

LATENT_NAMES = ("z", "latent", "component", "pc", "umap")
"""Names before the numbers of the columns that are taken from a table that has others as well: of
several that a table has, the first."""

SUFFIXES = (".pkl", ".npy", ".csv", ".txt", ".parquet", ".cs")


class Latents(NamedTuple):
    """Latents of particles, and what the file calls their dimensions."""

    values: Float[np.ndarray, "n zdim"]
    names: tuple[str, ...]
    uids: Int[np.ndarray, " n"] | None = None
    """cryoSPARC's ids, where the file has them."""

    numbers: Int[np.ndarray, " n"] | None = None
    """Numbers in the original set, where a table has a column of them."""


def read_latents_file(uri: Uri) -> Latents:
    """Read latents from a ``.pkl``, ``.npy``, ``.csv``, ``.txt``, ``.parquet`` or ``.cs`` file.

    Raises:
        InputError: If the file holds no table of finite numbers, with what was found.
    """
    suffix = suffix_of(uri)
    if suffix == ".cs":
        found = _of_cryosparc(uri)
    elif suffix == ".npy":
        found = _of_array(read_array(uri, wanted="an array of latents (.npy)"), uri)
    elif suffix in (*TEXT_SUFFIXES, ".parquet"):
        found = _of_table(uri)
    elif suffix == ".pkl":
        found = _of_array(read_latents(uri)[0], uri)
    else:
        raise InputError(
            f"{uri} is not a file of latents; expected {', '.join(SUFFIXES)}, found "
            f"{suffix or 'no suffix'!r}."
        )
    if not len(found.values):
        raise InputError(f"{uri} has no rows.")
    bad = np.flatnonzero(~np.isfinite(found.values).all(axis=1))
    if bad.size:
        raise InputError(
            f"{uri}, row {bad[0]} (from 0): a latent is not finite ({bad.size:,} such rows)."
        )
    return found


def _of_array(array: np.ndarray, uri: Uri) -> Latents:
    values = array[:, None] if array.ndim == 1 else array
    if values.ndim != 2 or values.dtype.kind != "f" or not values.shape[1]:
        raise InputError(
            f"{uri} should contain latents (N, zdim) of type float, found shape {array.shape} of "
            f"type {array.dtype}."
        )
    return Latents(to_float32(values), _numbered(values.shape[1]))


def _of_table(uri: Uri) -> Latents:
    table = read_table(uri, wanted="a table of latents").without_row_numbers()
    columns, names = table.columns, table.names or _numbered(len(table.columns))
    chosen = _latent_columns(names)
    if table.names is None or not chosen:
        chosen = [i for i, name in enumerate(names) if name.lower() not in NUMBER_COLUMNS]
    if not chosen:
        raise InputError(f"{uri} has no columns of latents.")
    for i in chosen:
        if columns[i].dtype.kind not in "fiu":
            raise InputError(
                f"{uri}: column {names[i]} holds no numbers. Keep the columns of the latents only, "
                "or name them z0, z1, …."
            )
    values = np.stack([to_float32(columns[i]) for i in chosen], axis=-1)
    numbers = original_numbers(dict(zip(names, columns, strict=True)), uri, unique=True)
    return Latents(values, tuple(names[i] for i in chosen), numbers=numbers)


def _latent_columns(names: Sequence[str]) -> list[int]:
    """Return the columns of latents by their names; none where no name is one of latents."""
    for word in LATENT_NAMES:
        pattern = re.compile(rf"{word}[_ ]?\d+", re.I)
        chosen = [i for i, name in enumerate(names) if pattern.fullmatch(name)]
        if chosen:
            return chosen
    return []


def _of_cryosparc(uri: Uri) -> Latents:
    rows = read_rows(uri)
    names = rows.dtype.names or ()
    found = sorted((int(m.group(1)), name) for name in names if (m := COMPONENT.match(name)))
    if not found:
        raise InputError(
            f"{uri} has no fields components_mode_N/value. Take the particles file of a 3D "
            "Variability or 3D Flex Training job; its volumes and other jobs have none."
        )
    fields = [name for _, name in found]
    if any(rows[name].dtype.kind != "f" or rows[name].ndim != 1 for name in fields):
        raise InputError(f"{uri}: fields {fields[0]} … should hold one number per particle.")
    values = to_float32(np.stack([rows[name] for name in fields], axis=-1))
    labels = tuple(f"component {number}" for number, _ in found)
    has_uids = "uid" in names and rows["uid"].dtype.kind in "iu" and rows["uid"].ndim == 1
    return Latents(values, labels, rows["uid"] if has_uids else None)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"z{i}" for i in range(count))
