"""Results of commands on an epoch that the page draws itself: paths, and occupancies of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from raydrgn.clustering.embedding import interpolate_embedding
from raydrgn.errors import ConfigError, InputError
from raydrgn.explore.study import Study
from raydrgn.io.cryodrgn import read_indices
from raydrgn.io.latents import read_latents_file
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_csv_rows
from raydrgn.latent.command_results import CLASS_TABLE, PATH_LATENTS, CommandResults
from raydrgn.latent.values import JITTER, OCCUPANCY_CLASS, UMAP
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float

CLASS_MEANS = "class_means.csv"
MOST_POINTS = 2000
"""Points of a path that the page draws."""


def paths(study: Study) -> list[dict[str, Any]]:
    """Return the paths that `traverse` has found in an epoch.

    Each has its name; the rows of the particles that its points are, or None; and where the points
    lie, by the columns that are known of points that are no particles.
    """
    found = []
    for name, results in _path_folders(study).items():
        z = _latents(results)
        has_rows = results.has("path_ind.txt")
        rows = read_indices(results.at("path_ind.txt")).tolist() if has_rows else None
        found.append({"name": name, "rows": rows, "columns": _columns(study, z)})
    return found


def path_latents(study: Study, name: str, points: Sequence[int]) -> Float[np.ndarray, "k zdim"]:
    """Return the latents of some points of a path, which are counted from 0.

    Raises:
        ConfigError: If there is no such path or point.
    """
    results = _path_folders(study).get(name)
    if results is None:
        raise ConfigError(f"There is no path {name!r:.80} of this epoch.")
    z = _latents(results)
    if max(points) >= len(z):
        raise ConfigError(f"The path {name} has {len(z):,} points, which are counted from 0.")
    return z[list(points)]


def _path_folders(study: Study) -> dict[str, ResultFolder]:
    """Return the results of `traverse` on an epoch, by the names of the paths."""
    return CommandResults(study.source, study.epoch).paths()


def _latents(results: ResultFolder) -> Float[np.ndarray, "m zdim"]:
    return read_latents_file(results.at(PATH_LATENTS)).values[:MOST_POINTS].astype(np.float32)


def _columns(study: Study, z: Float[np.ndarray, "m zdim"]) -> dict[str, list[float]]:
    """Return values of latents by the columns of `latent.values` that depend on z alone."""
    found = {f"z{k}": z[:, k] for k in range(z.shape[1])}
    components = study.values.components.project(z)
    found |= {f"pc{k + 1}": components[:, k] for k in range(components.shape[1])}
    if UMAP[0] in study.values.columns:
        umap = np.stack([study.values(name).numbers() for name in UMAP], axis=1)
        placed = interpolate_embedding(z, study.z, umap)
        found |= {name: placed[:, k] for k, name in enumerate(UMAP)}
    if z.shape[1] == 1:
        found[JITTER] = np.zeros(len(z))  # below all particles
    found["z_norm"] = np.linalg.norm(z, axis=1)
    return {name: np.asarray(values, dtype=float).tolist() for name, values in found.items()}


def occupancies(study: Study) -> dict[str, Any] | None:
    """Return the mean occupancy of each subunit in each class; None where there are no classes.

    Raises:
        InputError: If the tables are damaged, or not of the same classes.
    """
    if OCCUPANCY_CLASS not in study.values.columns:
        return None
    folder = CommandResults(study.source, study.epoch).classes()
    if folder is None or not folder.has(CLASS_MEANS):
        return None
    try:
        return _occupancies(_read_csv(folder.at(CLASS_MEANS)), _read_csv(folder.at(CLASS_TABLE)))
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder.uri}: {CLASS_MEANS} and {CLASS_TABLE} are damaged, or are not of the same "
            "classes. If `raydrgn occupancy classes` is at work, wait for its end; else run it "
            "again."
        ) from error


def _occupancies(means: list[list[str]], classes: list[list[str]]) -> dict[str, Any]:
    head, *rows = means
    counted = {row["class"]: row for row in _by_name(classes)}
    return {
        "column": OCCUPANCY_CLASS,
        "subunits": head[1:],
        "classes": [
            {
                "name": name,
                "particles": int(counted[name]["particles"]),
                "means": [float(value) for value in values],
            }
            for name, *values in rows
        ],
    }


def _read_csv(uri: Uri) -> list[list[str]]:
    return [row for row in read_csv_rows(uri, wanted="a table of `occupancy classes`") if row]


def _by_name(table: list[list[str]]) -> list[dict[str, str]]:
    head, *rows = table
    return [dict(zip(head, row, strict=True)) for row in rows]
