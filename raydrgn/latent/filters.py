"""Which particles to keep, by any of several methods together, and how far these agree.

A particle is kept if every method keeps it. Numbers written are those of the original, unfiltered
set, so that the file goes into ``train --ind`` and ``export`` as it is.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path as Polygon

from raydrgn.clustering.clusters import Clusters, mixture
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.analysis_results import kmeans_folder, read_umap
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Bool, Float, Int

REFERENCE_DEVIATIONS = 2.0
"""The protocol's: particles farther out than the mean by so many deviations are suspect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterSettings:
    """Which methods decide."""

    keep_clusters: tuple[int, ...] = ()
    drop_clusters: tuple[int, ...] = ()
    ksample: int = 20
    """Which k-means of the analysis the clusters are of."""

    labels: Uri | None = None
    """File of one label per particle, in place of k-means."""

    gmm: int | None = None
    """Components of a Gaussian mixture."""

    drop: tuple[int, ...] = ()
    """Components of the mixture to drop."""

    zscore: float | None = None
    """Deviations of |z| above its mean, from which on particles are dropped."""

    umap_polygon: Uri | None = None
    """Corners of a region of the UMAP, ``x y`` per line; what is inside is kept."""

    ind: Uri | None = None
    """An earlier selection; only its particles are kept."""


class Method(NamedTuple):
    """What one method decides."""

    name: str
    kept: Bool[np.ndarray, " n"]


def decide(
    run: RunReader,
    epoch: int | None,
    z: Float[np.ndarray, "n zdim"],
    numbers: Int[np.ndarray, " n"],
    settings: FilterSettings,
) -> list[Method]:
    """Return what each of the methods asked for decides.

    Args:
        run: The run.
        epoch: The epoch whose analysis is meant.
        z: Latents of that epoch.
        numbers: Of the particles in the original set.
        settings: Which methods.

    Raises:
        ConfigError: If no method is asked for, or one makes no sense.
    """
    analysed = ResultFolder(run.files.results("analyze", epoch))
    found = []
    if settings.keep_clusters or settings.drop_clusters:
        found.append(_by_cluster(analysed, len(z), settings))
    if settings.gmm is not None:
        found.append(by_mixture(mixture(z, settings.gmm), settings.drop, z))
    if settings.zscore is not None:
        found.append(by_magnitude(z, settings.zscore))
    if settings.umap_polygon is not None:
        found.append(_by_region(analysed, len(z), settings.umap_polygon))
    if settings.ind is not None:
        earlier = cryodrgn.read_indices(settings.ind)
        found.append(Method("earlier selection", np.isin(numbers, earlier)))
    if not found:
        raise ConfigError(
            "Say how to choose with --keep-clusters or --drop-clusters (of analyze, or of "
            "--labels), --gmm with --drop, --zscore, --umap-polygon or --ind; they may be combined."
        )
    kept = np.logical_and.reduce([method.kept for method in found])
    if kept.all() or not kept.any():
        raise ConfigError(
            f"This would {'keep' if kept.all() else 'drop'} all {len(z)} particles; choose less "
            "or more."
        )
    return found


def by_magnitude(z: Float[np.ndarray, "n zdim"], deviations: float) -> Method:
    """Keep particles whose |z| is less than its mean plus so many deviations."""
    size = np.linalg.norm(z.astype(np.float64), axis=1)
    return Method(f"|z| < mean + {deviations:g} SD", size < size.mean() + deviations * size.std())


def by_mixture(components: Clusters, drop: Sequence[int], z: Float[np.ndarray, "n zdim"]) -> Method:
    """Drop components of a mixture.

    Raises:
        ConfigError: If none are named; lists them.
    """
    count = len(components.rows)
    if not drop:
        size = np.linalg.norm(z, axis=1)
        listed = "; ".join(
            f"{k}: {n} particles, mean |z| {size[components.labels == k].mean():.2f}"
            for k, n in enumerate(components.sizes())
        )
        raise ConfigError(f"Say with --drop which components to drop ({listed}).")
    _check_numbers(drop, count, option="--drop")
    return Method(f"mixture of {count}", ~np.isin(components.labels, drop))


def overlaps(
    methods: Sequence[Method],
) -> list[tuple[str, str, int, int, int, float]]:
    """Return for each pair: names, particles dropped by the first, the second, both, Jaccard."""
    rows = []
    for i, first in enumerate(methods):
        for second in methods[i + 1 :]:
            both = int((~first.kept & ~second.kept).sum())
            either = int((~first.kept | ~second.kept).sum())
            counts = int((~first.kept).sum()), int((~second.kept).sum())
            rows.append((first.name, second.name, *counts, both, both / max(either, 1)))
    return rows


def _by_cluster(analysed: ResultFolder, count: int, settings: FilterSettings) -> Method:
    if settings.keep_clusters and settings.drop_clusters:
        raise ConfigError("Give --keep-clusters or --drop-clusters, not both.")
    if settings.labels is not None:
        uri = settings.labels
    else:
        uri = analysed.at(kmeans_folder(settings.ksample), "labels.pkl")
        if not storage.exists(uri):
            raise RunDirectoryError(
                f"{uri} is not there; run `raydrgn analyze --ksample {settings.ksample}` first, or "
                "give labels with --labels."
            )
    labels = cryodrgn.read_labels(uri)
    if len(labels) != count:
        raise InputError(f"{uri} has {len(labels)} labels, but the run has {count} particles.")
    chosen = settings.keep_clusters or settings.drop_clusters
    option = "--keep-clusters" if settings.keep_clusters else "--drop-clusters"
    least = min(int(labels.min()), 0)
    _check_numbers(chosen, int(labels.max()) + 1, option=option, least=least)
    inside = np.isin(labels, chosen)
    return Method("clusters", inside if settings.keep_clusters else ~inside)


def _by_region(analysed: ResultFolder, count: int, uri: Uri) -> Method:
    places = read_umap(analysed, count)
    if places is None:
        raise RunDirectoryError(
            f"{analysed.uri} has no UMAP of these particles; run `raydrgn analyze` first."
        )
    text = storage.read_bytes(uri).decode(errors="replace").replace(",", " ")
    try:
        corners = np.loadtxt(io.StringIO(text), ndmin=2)
    except ValueError as error:
        raise InputError(f"{uri} does not contain corners, x and y per line: {error}.") from error
    if corners.shape[1:] != (2,) or len(corners) < 3:
        raise InputError(f"{uri} should contain three corners or more, x and y per line.")
    if not np.isfinite(corners).all():
        raise InputError(f"{uri} has a corner that is not finite.")
    return Method("region of the UMAP", Polygon(corners).contains_points(places))


def _check_numbers(numbers: Sequence[int], count: int, *, option: str, least: int = 0) -> None:
    outside = [number for number in numbers if not least <= number < count]
    if outside:
        raise ConfigError(f"{option} names {outside[0]}, but there are {least} to {count - 1}.")
