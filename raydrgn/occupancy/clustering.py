"""Two-way clustering of occupancies: scaling, Ward trees, and where these are cut.

Ward's linkage of n points takes n²/2 distances. Beyond ``EXACT_LIMIT`` points, k-means first makes
``GROUPS`` groups of them, and the tree is that of the groups with their sizes: its upper part,
which is where it is cut, is that of all points but for the width of the groups.

References:
    Ward (1963), J. Am. Stat. Assoc. 58:236; Davis et al. (2016), Cell 167:1610 (occupancies).
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from raydrgn.errors import ConfigError, InputError
from raydrgn.occupancy.options import Scale
from raydrgn.shapes import Float, Int

EXACT_LIMIT = 5_000
GROUPS = 1_000
GROUPING_ITERATIONS = 10
SEED = 0  # of the grouping
MOST_CLUSTERS = 40
"""Clusters at most; more colours cannot be distinguished in a figure."""

MOST_BY_DEFAULT = 10
"""Clusters at most where no number is given and the tree has no wide gap."""

WIDE_GAP = 1.5
"""Ratio of successive distances from which a gap of the tree separates clusters."""


class Scaling(NamedTuple):
    """The occupancies that become 0 and 1, for each subunit."""

    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]

    def apply(self, values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Return scaled occupancies; those beyond the limits lie outside 0 to 1."""
        return (values - self.low) / (self.high - self.low)


def scaling(
    values: Float[np.ndarray, "n k"],
    percentiles: tuple[float, float] = (10.0, 90.0),
    *,
    per: Scale = "matrix",
) -> Scaling:
    """Return the limits at two percentiles of the whole matrix, or of each of its columns.

    Where both percentiles of a column are the same value, its minimum and maximum are used.

    Raises:
        InputError: If all values are equal.
    """
    axis = 0 if per == "column" else None
    low, high = np.percentile(values, percentiles, axis=axis)
    flat = high <= low
    low = np.where(flat, values.min(axis=axis), low)
    high = np.where(flat, values.max(axis=axis), high)
    if (high <= low).any():
        raise InputError("All occupancies are equal: there is nothing to cluster.")
    width = values.shape[1]
    return Scaling(np.broadcast_to(low, width), np.broadcast_to(high, width))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A Ward tree over groups of points; where points are few, each is a group."""

    merges: Float[np.ndarray, "m 4"]
    """As SciPy's linkage: the two clusters merged, their distance, and the number of leaves."""

    leaf: Int[np.ndarray, " n"]
    """Group of each point."""

    sizes: Int[np.ndarray, " g"]
    """Points of each group."""

    order: Int[np.ndarray, " g"]
    """Groups from one side of the drawn tree to the other."""

    @property
    def heights(self) -> Float[np.ndarray, " m"]:
        """Distances of the merges, ascending."""
        return self.merges[:, 2]

    @property
    def point_order(self) -> Int[np.ndarray, " n"]:
        """Points from one side of the drawn tree to the other."""
        rank = np.empty(len(self.order), dtype=np.int64)
        rank[self.order] = np.arange(len(self.order))
        return np.argsort(rank[self.leaf], kind="stable")


def ward_tree(points: Float[np.ndarray, "n k"]) -> Tree:
    """Return the Ward tree of points, Euclidean, with the fuller branch first at every fork.

    "Fuller" means the larger mean of all coordinates: the most complete volumes come first.
    """
    if len(points) <= EXACT_LIMIT:
        leaf = np.arange(len(points))
        centres = points
    else:
        leaf, centres = _groups(points)
    sizes = np.bincount(leaf, minlength=len(centres))
    if len(points) <= EXACT_LIMIT and len(points) > 1:
        merges = linkage(points, method="ward")
    else:
        merges = weighted_ward(centres, sizes)
    order = _fuller_first(merges, centres.mean(axis=1), sizes)
    return Tree(merges=merges, leaf=leaf, sizes=sizes, order=order)


def _groups(
    points: Float[np.ndarray, "n k"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "g k"]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than groups
        found = KMeans(GROUPS, max_iter=GROUPING_ITERATIONS, n_init=1, random_state=SEED).fit(
            points.astype(np.float32)
        )
    used, leaf = np.unique(found.labels_, return_inverse=True)
    sums = np.zeros((len(used), points.shape[1]))
    np.add.at(sums, leaf, points)
    return leaf.astype(np.int64), sums / np.bincount(leaf)[:, None]


def weighted_ward(
    centres: Float[np.ndarray, "g k"], sizes: Int[np.ndarray, " g"]
) -> Float[np.ndarray, "m 4"]:
    """Return the Ward linkage of groups of points that are given by their means and sizes.

    Groups i and j are √(2·nᵢ·nⱼ/(nᵢ+nⱼ))·|cᵢ−cⱼ| apart, the square root of twice the growth of
    the sum of squares if they are merged, and the nearest two are merged next. Distances to a
    merged group follow from the recurrence of Lance and Williams.
    """
    count = len(centres)
    weight = sizes.astype(np.float64)
    apart = cdist(centres, centres, "sqeuclidean")
    apart *= 2 * np.outer(weight, weight) / np.add.outer(weight, weight)
    np.fill_diagonal(apart, np.inf)
    name, leaves = np.arange(count), np.ones(count)
    merges = np.empty((count - 1, 4))
    for step in range(count - 1):
        i, j = sorted(divmod(int(apart.argmin()), count))
        between = apart[i, j]
        both = weight[i] + weight[j]
        row = (weight + weight[i]) * apart[i] + (weight + weight[j]) * apart[j] - weight * between
        row /= weight + both
        row[[i, j]] = np.inf
        first, second = sorted((name[i], name[j]))
        leaves[i] += leaves[j]
        merges[step] = first, second, np.sqrt(max(between, 0.0)), leaves[i]
        apart[i], apart[:, i] = row, row
        apart[j], apart[:, j] = np.inf, np.inf
        weight[i], name[i] = both, count + step
    return merges


def _fuller_first(
    merges: Float[np.ndarray, "m 4"],
    fullness: Float[np.ndarray, " g"],
    sizes: Int[np.ndarray, " g"],
) -> Int[np.ndarray, " g"]:
    count = len(sizes)
    weight = np.concatenate([sizes.astype(np.float64), np.zeros(len(merges))])
    total = np.concatenate([fullness * sizes, np.zeros(len(merges))])
    for step, (i, j) in enumerate(merges[:, :2].astype(int).tolist()):
        weight[count + step] = weight[i] + weight[j]
        total[count + step] = total[i] + total[j]
    mean = total / weight
    order, waiting = [], [count + len(merges) - 1]
    while waiting:
        node = waiting.pop()
        if node < count:
            order.append(node)
            continue
        i, j = merges[node - count, :2].astype(int).tolist()
        fuller, other = (i, j) if mean[i] >= mean[j] else (j, i)
        waiting += [other, fuller]
    return np.array(order, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A tree cut at one distance: clusters, numbered from 1 along the tree."""

    tree: Tree
    threshold: float
    """Distance at which the tree was cut."""

    of_leaf: Int[np.ndarray, " g"]
    """Cluster of each group of points."""

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Cluster of each point."""
        return self.of_leaf[self.tree.leaf]

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.of_leaf.max())


def cut(
    tree: Tree,
    *,
    threshold: float | None = None,
    count: int | None = None,
    share: float,
    gap: tuple[float, float] | None = None,
    options: tuple[str, str],
) -> Cut:
    """Cut a tree at a distance, into a number of clusters, or at a default distance.

    Args:
        tree: Tree to cut.
        threshold: Distance at which it is cut.
        count: Number of clusters, instead.
        share: Default distance as a share of the highest merge, where neither is given.
        gap: Shares of the highest merge between which the tree is cut in its widest gap instead,
            where there is a wide one.
        options: Names of both options on the command line, for messages: threshold and count.

    Raises:
        ConfigError: If there are too few leaves for the number of clusters, or too many clusters.
    """
    heights = tree.heights
    if count is not None:
        distinct = 1 + int((heights > 0).sum())
        if count > min(distinct, MOST_CLUSTERS):
            raise ConfigError(
                f"{options[1]} {count} is too large: there are {distinct} distinct rows, and at "
                f"most {MOST_CLUSTERS} clusters can be shown."
            )
        threshold = _between(heights, count)
    else:
        if threshold is None:
            threshold = _widest_gap(heights, gap) if gap else None
        if threshold is None:
            threshold = share * float(heights[-1]) if len(heights) else 0.0
            if (heights > threshold).sum() >= MOST_BY_DEFAULT:
                threshold = _between(heights, MOST_BY_DEFAULT)
        count = 1 + int((heights > threshold).sum())
    if count > MOST_CLUSTERS:
        raise ConfigError(
            f"{options[0]} {threshold:g} gives {count} clusters, more than {MOST_CLUSTERS}. The "
            f"highest merges are at {', '.join(f'{h:.3g}' for h in heights[:-6:-1])}."
        )
    return Cut(tree=tree, threshold=threshold, of_leaf=_numbered(tree, count))


def _widest_gap(heights: Float[np.ndarray, " m"], window: tuple[float, float]) -> float | None:
    """Return the middle (geometric) of the widest gap between successive distances.

    Its middle must lie within a window of shares of the highest merge, and the distances must
    differ by a factor of ``WIDE_GAP`` or more; None if there is no such gap.
    """
    upper, lower = heights[:0:-1][: MOST_CLUSTERS - 1], heights[-2::-1][: MOST_CLUSTERS - 1]
    middle = np.sqrt(upper * lower)
    inside = (lower > 0) & (middle > window[0] * heights[-1]) & (middle < window[1] * heights[-1])
    width = np.where(inside, upper / np.where(lower > 0, lower, 1.0), 0.0)
    if not len(width) or width.max() < WIDE_GAP:
        return None
    return float(middle[width.argmax()])


def _numbered(tree: Tree, count: int) -> Int[np.ndarray, " g"]:
    """Return the cluster of each leaf before the last merges, numbered in the tree's order."""
    leaves = len(tree.sizes)
    top = np.arange(leaves + len(tree.merges))
    for step in reversed(range(leaves - count)):
        top[tree.merges[step, :2].astype(int)] = top[leaves + step]
    _, first, found = np.unique(top[tree.order], return_index=True, return_inverse=True)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(1, count + 1)
    of_leaf = np.empty(leaves, dtype=np.int64)
    of_leaf[tree.order] = rank[found]
    return of_leaf


def _between(heights: Float[np.ndarray, " m"], count: int) -> float:
    """Return a distance at which a tree falls into ``count`` clusters, ties aside."""
    below = float(heights[-count]) if count <= len(heights) else 0.0
    above = float(heights[1 - count]) if count > 1 else 1.05 * below
    return (above + below) / 2
