"""Paths through a latent space: along components, straight, or from particle to particle.

Volumes of points far from all particles are extrapolations; ``support`` counts the particles around
each point of a path.

Junk of a mixture of factor analysers has equal latents, up to half of all. How near neighbours
usually are is therefore measured among the distinct latents, those that rounding may have set
apart counted once.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from raydrgn.clustering.embedding import PrincipalComponents
from raydrgn.errors import ConfigError
from raydrgn.latent.options import Spacing
from raydrgn.settings import check_percentiles
from raydrgn.shapes import Float, Int

EXACT_LIMIT = 200_000
"""Most particles for exact neighbours in more than ``TREE_DIMENSIONS`` dimensions; with more,
approximate ones of pynndescent are used."""

TREE_DIMENSIONS = 8
"""Dimensions up to which a tree on a few cores finds the neighbours of a million particles as fast
as pynndescent on one; in 8 it takes 283 s of one core."""

TYPICAL_SUPPORT = 50
"""Particles around a point in a region of typical density."""

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Differences up to this share of the mean coordinate are rounding in single precision."""

SUPPORT_SAMPLE = 2000
MAX_SUGGESTED_NEIGHBORS = 320
MAX_SUGGESTED_EDGES = 50_000_000
"""Edges of the largest graph that is tried for a suggestion; 2 GB."""


class NoPathError(ConfigError):
    """Particles that no path through neighbours connects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentPath:
    """Points through a latent space."""

    name: str
    z: Float[np.ndarray, "m zdim"]
    support: Int[np.ndarray, " m"]
    """Particles around each point."""

    rows: Int[np.ndarray, " m"] | None = None
    """Particles that the points are; None if points need not be particles."""


def along_component(
    components: PrincipalComponents,
    component: int,
    *,
    points: int,
    percentiles: tuple[float, float],
    spaced: Spacing = "even",
) -> Float[np.ndarray, "points zdim"]:
    """Return latents along a component (from 0), the others at the mean.

    Args:
        components: Of the particles' latents.
        component: Number of the component, from 0.
        points: Number of latents.
        percentiles: Percentiles of the particles' coordinates at the two ends.
        spaced: ``even``, or by ``percentile``: equally many particles between points.

    Raises:
        ConfigError: If the component does not exist or the range is empty.
    """
    if not 0 <= component < len(components.axes):
        raise ConfigError(
            f"--pc {component + 1} is more than the number of components, {len(components.axes)}."
        )
    low, high = percentiles
    check_percentiles(percentiles, "The range")
    if points < 2:
        raise ConfigError(f"A path needs at least 2 points, got {points}.")
    scores = components.coordinates[:, component]
    if spaced == "percentile":
        along = np.percentile(scores, np.linspace(low, high, points))
    else:
        along = np.linspace(np.percentile(scores, low), np.percentile(scores, high), points)
    line = components.mean + along[:, None] * components.axes[component]
    return line.astype(np.float32)


def straight(anchors: Float[np.ndarray, "a zdim"], *, points: int) -> Float[np.ndarray, "m zdim"]:
    """Return latents on the straight lines between anchors, ``points`` on each, ends included."""
    if len(anchors) < 2 or points < 2:
        raise ConfigError("A straight path needs at least two anchors and two points.")
    share = np.linspace(0, 1, points)[:, None]
    parts = [a + share * (b - a) for a, b in itertools.pairwise(anchors)]
    return np.concatenate([parts[0], *[part[1:] for part in parts[1:]]]).astype(np.float32)


def support(
    z: Float[np.ndarray, "n zdim"], points: Float[np.ndarray, "m zdim"]
) -> Int[np.ndarray, " m"]:
    """Return the number of particles around each point.

    Particles are counted within the distance at which the median particle has its fiftieth
    neighbour, so that 50 is typical, and 0 means that no particle is near. Of particles with equal
    latents one is considered for this distance, and each is counted.
    """
    distinct = z[_distinct(z).rows]
    tree, total = cKDTree(distinct), len(distinct)
    rows = np.random.default_rng(0).choice(total, min(SUPPORT_SAMPLE, total), replace=False)
    neighbour = min(TYPICAL_SUPPORT + 1, total)  # the first is the particle itself
    radius = float(np.median(tree.query(distinct[rows], k=[neighbour])[0]))
    particles = tree if total == len(z) else cKDTree(z)
    found = particles.query_ball_point(points, radius, return_length=True)
    return np.asarray(found, dtype=np.int64)


class _Distinct(NamedTuple):
    """Latents without their repetitions, equal but for rounding."""

    rows: Int[np.ndarray, " m"]
    """First particle of each, ascending."""

    numbers: Int[np.ndarray, " n"]
    """Distinct latent of each particle."""


def _distinct(z: Float[np.ndarray, "n zdim"]) -> _Distinct:
    step = ROUNDING * float(np.abs(z).mean())
    cells = np.rint(z / step) if step else z
    order = np.lexsort(cells.T)  # stable: the first of equal ones has the lowest row
    is_new = np.ones(len(z), dtype=bool)
    is_new[1:] = (cells[order[1:]] != cells[order[:-1]]).any(axis=1)
    first = np.empty_like(order)
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    rows = np.flatnonzero(first == np.arange(len(z)))
    return _Distinct(rows, np.searchsorted(rows, first))


@dataclass(frozen=True, slots=True)
class GraphPath:
    """Shortest path from particle to particle."""

    rows: Int[np.ndarray, " m"]
    length: float
    """Sum of the distances between successive particles."""

    distance: float
    """Sum of the straight distances between successive anchors."""


class NeighbourGraph:
    """Directed graph from particles to their nearest neighbours, without long edges.

    Each particle has edges to its ``max_neighbors`` nearest, itself included. Of all edges the
    shortest n × ``avg_neighbors`` are kept, so that many neighbours remain where particles are
    dense, and few or none in the gaps. Particles with latents that are equal, but for rounding, are
    one in the graph: edges of no length between them would leave none for the others.
    """

    def __init__(
        self,
        z: Float[np.ndarray, "n zdim"],
        *,
        max_neighbors: int = 10,
        avg_neighbors: float = 5,
    ) -> None:
        if not 0 < avg_neighbors <= max_neighbors:
            raise ConfigError(
                f"--avg-neighbors {avg_neighbors:g} must be greater than 0 and not larger than "
                f"--max-neighbors {max_neighbors}."
            )
        self._distinct = _distinct(z)
        self._z = z[self._distinct.rows]
        self.max_neighbors, self.avg_neighbors = max_neighbors, avg_neighbors
        self._graph = _graph(*self._neighbours(max_neighbors), avg_neighbors)

    def through(self, anchors: Sequence[int]) -> GraphPath:
        """Return the shortest path that visits anchors in order.

        Between anchors, particles with equal latents are represented by the first of them.

        Raises:
            ConfigError: If there are fewer than two.
            NoPathError: If an anchor is not reached from the previous one; suggests options that
                reach them all.
        """
        if len(anchors) < 2:
            raise ConfigError("A path needs at least two anchors.")
        legs = list(itertools.pairwise(anchors))
        parts = []
        for start, end in legs:
            found = self._leg(self._graph, start, end)
            if found is None:
                raise NoPathError(
                    f"No path leads from particle {start} to particle {end} through neighbours "
                    f"(--max-neighbors {self.max_neighbors} --avg-neighbors "
                    f"{self.avg_neighbors:g}). {self._suggestion(legs)}"
                )
            parts.append(found)
        rows = [parts[0][0], *(visited[1:] for visited, _ in parts[1:])]
        z = self._z[self._distinct.numbers[list(anchors)]]
        across = sum(float(np.linalg.norm(start - end)) for start, end in itertools.pairwise(z))
        return GraphPath(np.concatenate(rows), sum(length for _, length in parts), across)

    def _leg(self, graph: Any, start: int, end: int) -> tuple[Int[np.ndarray, " m"], float] | None:
        """Return the particles of the shortest path between two, and its length; None without."""
        if start == end:
            return np.array([start]), 0.0
        numbers = self._distinct.numbers
        found = _shortest(graph, int(numbers[start]), int(numbers[end]))
        if found is None:
            return None
        between = self._distinct.rows[found[0][1:-1]]
        return np.array([start, *between, end]), found[1]

    def _neighbours(
        self, max_neighbors: int
    ) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
        count = min(max_neighbors, len(self._z))
        return nearest_neighbours(self._z, count)

    def _suggestion(self, legs: Sequence[tuple[int, int]]) -> str:
        """Return in words which options would give a path for every leg."""
        tried, total = self.max_neighbors, len(self._z)
        most = min(MAX_SUGGESTED_NEIGHBORS, total, max(MAX_SUGGESTED_EDGES // total, tried))
        while True:
            near = self._neighbours(tried)
            for average in np.linspace(self.avg_neighbors, tried, 8)[1:]:
                average = min(round(average, 1), tried)
                graph = _graph(*near, average)
                if all(self._leg(graph, start, end) is not None for start, end in legs):
                    return (
                        f"--max-neighbors {tried} --avg-neighbors {average:g} would reach every "
                        "anchor."
                    )
            if tried >= most:
                return f"Not even {tried} neighbours each connect them: these are separate islands."
            tried = min(2 * tried, most)


def _graph(
    distance: Float[np.ndarray, "n k"], neighbours: Int[np.ndarray, "n k"], average: float
) -> Any:
    """Return the edges of particles to their neighbours, as a sparse matrix of distances.

    Those shorter than the n × ``average``-th shortest one, as in cryoDRGN's graph traversal.
    """
    total = len(distance)
    kept = min(max(int(total * average), 1), distance.size) - 1
    limit = np.partition(distance, kept, axis=None)[kept]
    start = np.repeat(np.arange(total), distance.shape[1]).reshape(distance.shape)
    edges = (distance < limit) & (neighbours != start)
    # a distance that rounds to 0 would be no edge of a sparse matrix
    lengths = np.maximum(distance[edges], 1e-12)
    return csr_array((lengths, (start[edges], neighbours[edges])), shape=(total, total))


def nearest_neighbours(
    z: Float[np.ndarray, "n zdim"], count: int
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """Return distance and row of the nearest particles of each, the particle itself the first."""
    if len(z) <= EXACT_LIMIT or z.shape[1] <= TREE_DIMENSIONS:
        distance, rows = cKDTree(z).query(z, k=[*range(1, count + 1)], workers=-1)
        return np.asarray(distance), np.asarray(rows, dtype=np.int64)
    from pynndescent import NNDescent

    # one thread: what it finds depends on their number, 8 % of the rows between one and two
    index = NNDescent(z, n_neighbors=count, random_state=0, n_jobs=1, compressed=True)
    rows, distance = index.neighbor_graph
    return distance.astype(np.float64), rows.astype(np.int64)


def _shortest(graph: Any, start: int, end: int) -> tuple[Int[np.ndarray, " m"], float] | None:
    solve: Any = dijkstra
    cost, before = solve(graph, indices=start, return_predecessors=True)
    if not np.isfinite(cost[end]):
        return None
    rows = [end]
    while rows[-1] != start:
        rows.append(int(before[rows[-1]]))
    return np.array(rows[::-1], dtype=np.int64), float(cost[end])
