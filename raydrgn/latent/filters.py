"""Methods that select particles by their latents, and how far these agree.

A particle is kept if every method keeps it.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path as Polygon

from raydrgn.clustering.clusters import Clusters
from raydrgn.clustering.query import select
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.latent.numeric_values import ConditionValues
from raydrgn.shapes import Bool, Float, Int

REFERENCE_SD = 2.0
"""The protocol's threshold: particles with |z| more than 2 SD above the mean are suspect."""

OF_OCCUPANCY = "occupancy."
"""Beginning of the names of the values that `occupancy score` and `occupancy classes` make."""


class Method(NamedTuple):
    """A method and the particles that it keeps."""

    name: str
    kept: Bool[np.ndarray, " n"]


def by_clusters(
    labels: Int[np.ndarray, " n"], *, keep: Sequence[int] = (), drop: Sequence[int] = ()
) -> Method:
    """Keep some clusters, or drop some; exactly one of both is given.

    Args:
        labels: Cluster of each particle; −1 for particles in no cluster.
        keep: Clusters to keep.
        drop: Clusters to drop.

    Raises:
        ConfigError: If a cluster does not exist.
    """
    option = "--keep-clusters" if keep else "--drop-clusters"
    lowest = min(int(labels.min()), 0)
    _check_numbers(keep or drop, int(labels.max()) + 1, option=option, lowest=lowest)
    inside = np.isin(labels, keep or drop)
    return Method("clusters", inside if keep else ~inside)


def by_mixture(components: Clusters, drop: Sequence[int]) -> Method:
    """Drop components of a Gaussian mixture.

    Raises:
        ConfigError: If one does not exist.
    """
    count = len(components.rows)
    _check_numbers(drop, count, option="--drop")
    return Method(f"mixture of {count}", ~np.isin(components.labels, drop))


def by_condition(condition: str, values: ConditionValues) -> Method:
    """Keep particles that fulfil a condition on their values.

    Raises:
        ConfigError: If the condition is not valid, with the character at which it goes wrong.
    """
    try:
        kept = select(condition, values, noun="value")
    except ConfigError as error:
        if OF_OCCUPANCY not in condition or any(name.startswith(OF_OCCUPANCY) for name in values):
            raise
        raise ConfigError(
            f"{error} Values {OF_OCCUPANCY}SUBUNIT are those of results in the run: let `raydrgn "
            "occupancy score --all` write them there, without --out."
        ) from error
    return Method(f"where {condition}", kept)


def by_magnitude(z: Float[np.ndarray, "n zdim"], num_sd: float) -> Method:
    """Keep particles with |z| less than ``num_sd`` SD above its mean."""
    size = np.linalg.norm(z.astype(np.float64), axis=1)
    return Method(f"|z| < mean + {num_sd:g} SD", size < size.mean() + num_sd * size.std())


def by_null(probability: Float[np.ndarray, " n"], most: float) -> Method:
    """Keep particles whose probability of showing nothing is ``most`` or less."""
    return Method(f"null probability <= {most:g}", probability <= most)


def by_region(umap: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "k 2"]) -> Method:
    """Keep particles inside a polygon in the UMAP."""
    return Method("region of the UMAP", inside_polygon(umap, corners))


def inside_polygon(
    points: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "k 2"]
) -> Bool[np.ndarray, " n"]:
    """Return which points are inside a polygon; those without coordinates are not."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    inside = ((points >= low) & (points <= high)).all(axis=1)
    inside[inside] = Polygon(corners).contains_points(points[inside])
    return np.asarray(inside)


def by_selection(numbers: Int[np.ndarray, " n"], selected: Int[np.ndarray, " k"]) -> Method:
    """Keep particles of an earlier selection, by their numbers in the original set."""
    return Method("earlier selection", np.isin(numbers, selected))


def kept_by_all(methods: Sequence[Method]) -> Bool[np.ndarray, " n"]:
    """Return which particles every method keeps.

    Raises:
        ConfigError: If these are all particles, or none.
    """
    kept = np.logical_and.reduce([method.kept for method in methods])
    if kept.all() or not kept.any():
        raise ConfigError(
            f"This would {'keep' if kept.all() else 'drop'} all {len(kept):,} particles; choose "
            f"{'more' if kept.all() else 'fewer'} to drop."
        )
    return np.asarray(kept)


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


def read_polygon(uri: Uri) -> Float[np.ndarray, "k 2"]:
    """Read the corners of a polygon, x and y per line.

    Raises:
        InputError: If the file does not contain three corners or more.
    """
    text = storage.read_bytes(uri).decode(errors="replace").replace(",", " ")
    try:
        corners = np.loadtxt(io.StringIO(text), ndmin=2)
    except ValueError as error:
        raise InputError(f"{uri} does not contain corners, x and y per line: {error}.") from error
    if corners.shape[1:] != (2,) or len(corners) < 3:
        raise InputError(f"{uri} should contain three corners or more, x and y per line.")
    if not np.isfinite(corners).all():
        raise InputError(f"{uri} has a corner that is not finite.")
    return corners


def _check_numbers(numbers: Sequence[int], count: int, *, option: str, lowest: int = 0) -> None:
    outside = [number for number in numbers if not lowest <= number < count]
    if outside:
        raise ConfigError(f"{option} contains {outside[0]}, but there are {lowest} to {count - 1}.")
