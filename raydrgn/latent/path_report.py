"""A traversal of one epoch: its points, their volumes, and a figure of it on the UMAP."""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from raydrgn.clustering.embedding import place_among, principal_components
from raydrgn.decoding.latent_input import write_latents
from raydrgn.decoding.volume_sets import MadeSets, VolumeSet, central_slices
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_indices
from raydrgn.latent.paths import TYPICAL_SUPPORT, support
from raydrgn.reporting import latent_figures
from raydrgn.reporting.analysis_results import kmeans_folder, read_umap
from raydrgn.reporting.figures import sheet, slice_rows
from raydrgn.reporting.result_folder import SETTINGS, ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Points through a latent space."""

    name: str
    z: Float[np.ndarray, "m zdim"]
    rows: Int[np.ndarray, " m"] | None = None
    """The particles that the points are; None where they are off the particles."""


def read_anchors(
    run: RunReader,
    epoch: int | None,
    num_particles: int,
    *,
    anchors: str | None,
    centres: str | None,
) -> Int[np.ndarray, " a"]:
    """Return the particles to visit.

    Args:
        run: The run.
        epoch: The epoch whose k-means is meant.
        num_particles: Particles of the run.
        anchors: Particle numbers with commas between them, or a file of them.
        centres: Clusters of `analyze`, as ``0,7``, or ``K:0,7`` where there are several k-means.

    Raises:
        ConfigError: If not exactly one is given, or a number is not there.
        RunDirectoryError: If there is no k-means.
    """
    if (anchors is None) == (centres is None):
        raise ConfigError("Say where to go with one of --anchors and --centres.")
    if anchors is not None:
        if re.fullmatch(r"[-+.,\s\d]+", anchors) and not _are_numbers(anchors):
            raise ConfigError(f"--anchors takes particle numbers as 0,17,42; got {anchors!r}.")
        rows = (
            read_indices(storage.absolute(anchors))
            if not _are_numbers(anchors)
            else np.array(anchors.replace(",", " ").split(), dtype=np.int64)
        )
        limit, what = num_particles, "particle"
    else:
        known = _centres(run, epoch, centres or "")
        numbers = np.array((centres or "").split(":")[-1].replace(",", " ").split(), dtype=np.int64)
        outside = numbers[(numbers < 0) | (numbers >= len(known))]
        if outside.size:
            raise ConfigError(
                f"--centres asks for cluster {outside[0]}, but there are 0 to {len(known) - 1}."
            )
        rows, limit, what = known[numbers], num_particles, "particle"
    bad = rows[(rows < 0) | (rows >= limit)]
    if bad.size:
        raise ConfigError(f"There is no {what} {bad[0]}; the run has 0 to {limit - 1}.")
    if len(rows) < 2:
        raise ConfigError("A path needs two anchors at least.")
    return rows


def _are_numbers(text: str) -> bool:
    return all(part.isdigit() for part in text.replace(",", " ").split())


def _centres(run: RunReader, epoch: int | None, text: str) -> Int[np.ndarray, " k"]:
    folder = ResultFolder(run.files.results("analyze", epoch))
    if ":" in text:
        name = f"kmeans{text.split(':')[0]}"
    else:
        name = kmeans_folder(int(_settings(folder).get("ksample", 20)))
    if not _are_numbers(text.split(":")[-1]) or not text.split(":")[-1]:
        raise ConfigError(f"--centres takes clusters as 0,7 or 20:0,7; got {text!r}.")
    if not folder.has(name, "centers_ind.txt"):
        raise RunDirectoryError(
            f"{folder.uri} has no {name}; run `raydrgn analyze {run.files.root} {epoch}` first, or "
            "give particles with --anchors."
        )
    return read_indices(folder.at(name, "centers_ind.txt"))


def _settings(folder: ResultFolder) -> dict[str, Any]:
    if not folder.has(SETTINGS):
        return {}
    return dict(json.loads(storage.read_bytes(folder.at(SETTINGS))))


def write_route(
    run: RunReader,
    epoch: int | None,
    z: Float[np.ndarray, "n zdim"],
    route: Route,
    folder: ResultFolder,
) -> VolumeSet:
    """Write points, particles, support and figure; return the volumes that are to be made."""
    near = support(z, route.z)
    write_latents(folder.uri, route.z)
    rows = route.rows if route.rows is not None else np.full(len(route.z), -1)
    if route.rows is not None:
        folder.write_numbers("path_ind.txt", route.rows, fmt="%d")
    folder.write_table(
        "points.csv",
        ("point", "particle", "particles_around"),
        [
            (k, row if row >= 0 else "", n)
            for k, (row, n) in enumerate(zip(rows, near, strict=True))
        ],
    )
    analysed = ResultFolder(run.files.results("analyze", epoch))
    folder.write_figure("path.png", _draw(z, route, near, read_umap(analysed, len(z))))
    return VolumeSet(
        name=route.name,
        folder=folder.uri,
        z=route.z,
        colours=latent_figures.path_colours(len(route.z)),
        titles=[f"{k} ({n} near)" for k, n in enumerate(near)],
    )


def _draw(
    z: Float[np.ndarray, "n zdim"],
    route: Route,
    near: Int[np.ndarray, " m"],
    umap: Float[np.ndarray, "n 2"] | None,
) -> Figure:
    if z.shape[1] == 1:
        return latent_figures.path_in_line(z, route.z, near, typical=TYPICAL_SUPPORT)
    if umap is not None:
        names, xy, points = ("UMAP 1", "UMAP 2"), umap, place_among(route.z, z, umap)
    else:  # no analysis yet: the plane of most variance
        pca = principal_components(z)
        names, xy = ("PC 1", "PC 2"), pca.coordinates[:, :2]
        points = pca.project(route.z)[:, :2]
    return latent_figures.path(names, xy, points, near, typical=TYPICAL_SUPPORT)


def write_slices(folder: ResultFolder, one: VolumeSet, made: MadeSets) -> None:
    """Draw the central slices of the volumes along a route."""
    folder.write_figure(
        "slices.png", sheet(slice_rows(one.titles, central_slices(made.previews[0])))
    )
