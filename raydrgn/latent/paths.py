"""Paths through a latent space: along components, straight, or along the particles.

A path off the particles shows volumes that no image has asked for; ``support`` says how many
particles there are around each of its points.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from raydrgn.clustering.embedding import PrincipalComponents
from raydrgn.errors import ConfigError
from raydrgn.shapes import Float, Int

EXACT_LIMIT = 200_000
"""Particles up to which neighbours are exact; beyond, pynndescent's, of which few are wrong."""

TYPICAL_SUPPORT = 50
SUPPORT_SAMPLE = 2000
MAX_TRIED = 320  # neighbours, when looking for what would reach an anchor
MAX_TRIED_STEPS = 50_000_000  # between all particles then; 2 GB


def along_component(
    components: PrincipalComponents,
    component: int,
    *,
    points: int,
    percentiles: tuple[float, float],
    spaced: str = "even",
) -> Float[np.ndarray, "points zdim"]:
    """Return latents along a component (from 0), the others at the mean.

    Args:
        components: Of the particles' latents.
        component: Which one, from 0.
        points: How many latents.
        percentiles: From which to which percentile of the particles' coordinates.
        spaced: ``even``, or by ``percentile``: equally many particles between points.

    Raises:
        ConfigError: If there is no such component or no range.
    """
    if not 0 <= component < len(components.axes):
        raise ConfigError(
            f"Component {component + 1} was asked for, but there are {len(components.axes)}."
        )
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ConfigError(f"The range must be two percentiles, low then high; got {low}, {high}.")
    if points < 2:
        raise ConfigError(f"A path needs at least 2 points, got {points}.")
    scores = components.coordinates[:, component]
    if spaced == "percentile":
        places = np.percentile(scores, np.linspace(low, high, points))
    else:
        places = np.linspace(np.percentile(scores, low), np.percentile(scores, high), points)
    line = components.mean + places[:, None] * components.axes[component]
    return line.astype(np.float32)


def straight(anchors: Float[np.ndarray, "a zdim"], *, points: int) -> Float[np.ndarray, "m zdim"]:
    """Return latents on the straight lines between anchors, ``points`` on each, ends included."""
    if len(anchors) < 2 or points < 2:
        raise ConfigError("A straight path needs two anchors and two points at least.")
    share = np.linspace(0, 1, points)[:, None]
    parts = [a + share * (b - a) for a, b in itertools.pairwise(anchors)]
    return np.concatenate([parts[0], *[part[1:] for part in parts[1:]]]).astype(np.float32)


def support(
    z: Float[np.ndarray, "n zdim"], points: Float[np.ndarray, "m zdim"]
) -> Int[np.ndarray, " m"]:
    """Return how many particles lie around each point.

    Within the distance at which the median particle has its fiftieth neighbour, so that 50 is
    typical and 0 means that nothing has been seen there.
    """
    tree = cKDTree(z)
    rows = np.random.default_rng(0).choice(len(z), min(SUPPORT_SAMPLE, len(z)), replace=False)
    neighbour = min(TYPICAL_SUPPORT + 1, len(z))  # the first is the particle itself
    radius = float(np.median(tree.query(z[rows], k=[neighbour])[0]))
    return np.asarray(tree.query_ball_point(points, radius, return_length=True), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class GraphPath:
    """A path from particle to particle."""

    rows: Int[np.ndarray, " m"]
    length: float
    """Sum of the steps."""

    distance: float
    """Between the ends, straight."""


class NeighbourGraph:
    """Particles joined to their nearest neighbours by steps that are not too long.

    Each particle knows ``max_neighbors`` nearest, itself among them. Of all these distances the
    shortest n × ``avg_neighbors`` are kept, so that many neighbours remain where particles are
    dense, and few or none in the gaps. Steps lead from a particle to its neighbours.
    """

    def __init__(
        self,
        z: Float[np.ndarray, "n zdim"],
        *,
        max_neighbors: int = 10,
        avg_neighbors: float = 5,
        exact_limit: int = EXACT_LIMIT,
    ) -> None:
        if not 0 < avg_neighbors <= max_neighbors:
            raise ConfigError(
                f"--avg-neighbors ({avg_neighbors:g}) must be positive and no more than "
                f"--max-neighbors ({max_neighbors})."
            )
        self._z = z
        self.max_neighbors, self.avg_neighbors = max_neighbors, avg_neighbors
        self._exact_limit = exact_limit
        self._graph = _graph(*self._neighbours(max_neighbors), avg_neighbors)

    def through(self, anchors: Sequence[int]) -> GraphPath:
        """Return the shortest path that visits anchors in order.

        Raises:
            ConfigError: If there are fewer than two, or an anchor is not reached from the one
                before; says which options would reach them all.
        """
        if len(anchors) < 2:
            raise ConfigError("A path needs two anchors at least.")
        legs = list(itertools.pairwise(anchors))
        parts = []
        for start, end in legs:
            found = _shortest(self._graph, start, end)
            if found is None:
                raise ConfigError(
                    f"No path leads from particle {start} to particle {end} over neighbours "
                    f"(--max-neighbors {self.max_neighbors} --avg-neighbors "
                    f"{self.avg_neighbors:g}). {self._advice(legs)}"
                )
            parts.append(found)
        rows = [parts[0][0], *(visited[1:] for visited, _ in parts[1:])]
        across = sum(float(np.linalg.norm(self._z[start] - self._z[end])) for start, end in legs)
        return GraphPath(np.concatenate(rows), sum(length for _, length in parts), across)

    def _neighbours(
        self, max_neighbors: int
    ) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
        count = min(max_neighbors, len(self._z))
        return nearest_neighbours(self._z, count, exact_limit=self._exact_limit)

    def _advice(self, legs: Sequence[tuple[int, int]]) -> str:
        """Say which options would give a path through every leg."""
        tried, total = self.max_neighbors, len(self._z)
        most = min(MAX_TRIED, total, max(MAX_TRIED_STEPS // total, tried))
        while True:
            near = self._neighbours(tried)
            for average in np.linspace(self.avg_neighbors, tried, 8)[1:]:
                average = min(round(average, 1), tried)
                graph = _graph(*near, average)
                if all(_shortest(graph, start, end) is not None for start, end in legs):
                    return (
                        f"--max-neighbors {tried} --avg-neighbors {average:g} would reach every "
                        "anchor."
                    )
            if tried >= most:
                return f"Nor would {tried} neighbours each; they lie on separate islands."
            tried = min(2 * tried, most)


def _graph(
    distance: Float[np.ndarray, "n k"], neighbours: Int[np.ndarray, "n k"], average: float
) -> Any:
    """Return the steps to neighbours that are shorter than so many per particle are."""
    total = len(distance)
    kept = min(int(total * average), distance.size) - 1
    limit = np.partition(distance, kept, axis=None)[kept]
    start = np.repeat(np.arange(total), distance.shape[1]).reshape(distance.shape)
    steps = (distance < limit) & (neighbours != start)
    # a step between equal latents costs next to nothing, but a zero would be no step at all
    costs = np.maximum(distance[steps], 1e-12)
    return csr_array((costs, (start[steps], neighbours[steps])), shape=(total, total))


def nearest_neighbours(
    z: Float[np.ndarray, "n zdim"], count: int, *, exact_limit: int = EXACT_LIMIT
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """Return distance and row of the nearest particles of each, the particle itself the first."""
    if len(z) <= exact_limit:
        distance, rows = cKDTree(z).query(z, k=[*range(1, count + 1)], workers=-1)
        return np.asarray(distance), np.asarray(rows, dtype=np.int64)
    from pynndescent import NNDescent

    index = NNDescent(z, n_neighbors=count, random_state=0, n_jobs=-1, compressed=True)
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
