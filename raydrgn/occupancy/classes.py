"""Volume classes and structural blocks: a table of occupancies clustered along both axes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydrgn.clustering.query import select
from raydrgn.errors import ConfigError, InputError
from raydrgn.occupancy.clustering import Cut, Scaling, cut, scaling, ward_tree
from raydrgn.occupancy.cooperativity import Cooperativity, cooperativity, varies
from raydrgn.occupancy.options import ClassOptions
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.shapes import Bool, Float, Int

log = logging.getLogger(__name__)

ROW_SHARE, COLUMN_SHARE = 0.18, 0.3
"""Default cuts, as shares of the highest merge."""

ROW_GAP = (0.03, 0.3)
"""Shares of the highest merge between which the tree of volumes is cut in its widest gap. It finds
the four groups of the ten ribosome maps of MAVEn's example, and a state of 0.5 % of 131,889
volumes."""

OCCUPIED = 0.5
"""Mean occupancy from which a block counts as occupied in a class."""

MOSTLY = 0.5
"""Share of the volumes in which a subunit's occupancy is clipped, beyond which a warning is due."""

CLIPPED_RANGE = 1 / 3
"""Range of clipped occupancies, on their scale, that is more than noise and drift."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OccupancyClasses:
    """Occupancies with their classes (of volumes) and blocks (of subunits), numbered from 1."""

    table: OccupancyTable
    options: ClassOptions
    scaling: Scaling
    scaled: Float[np.ndarray, "n k"]
    """0 at the lower percentile and 1 at the upper one, not clipped."""

    classes: Cut
    blocks: Cut
    pairs: Cooperativity
    selected: Bool[np.ndarray, " n"] | None = None
    """Volumes that fulfil the condition ``where``."""

    is_part: bool = False
    """Whether the table is a part of a larger one, whose percentiles the scale has."""

    @property
    def clipped(self) -> Float[np.ndarray, "n k"]:
        """Occupancies from 0 to 1, which are clustered."""
        return np.clip(self.scaled, 0, 1)

    def rows_of(self, number: int) -> Int[np.ndarray, " m"]:
        """Return the volumes of a class."""
        return np.flatnonzero(self.classes.labels == number)

    def means(self) -> Float[np.ndarray, "c k"]:
        """Return the mean clipped occupancy of each subunit in each class."""
        clipped, labels = self.clipped, self.classes.labels
        return np.stack([clipped[labels == c].mean(0) for c in range(1, self.classes.count + 1)])

    def members(self, number: int) -> list[str]:
        """Return the subunits of a block, along the tree."""
        names, labels = self.table.labels, self.blocks.labels
        return [names[i] for i in self.blocks.tree.point_order if labels[i] == number]

    def nearest_to_median(self) -> list[int]:
        """Return for each class the volume whose occupancies are nearest to the class's median."""
        clipped, nearest = self.clipped, []
        for number in range(1, self.classes.count + 1):
            rows = self.rows_of(number)
            distance = np.linalg.norm(clipped[rows] - np.median(clipped[rows], axis=0), axis=1)
            nearest.append(int(rows[distance.argmin()]))
        return nearest


def find_classes(
    table: OccupancyTable, options: ClassOptions, *, whole: OccupancyTable | None = None
) -> OccupancyClasses:
    """Scale and cluster a table along both axes, and correlate its subunits.

    Args:
        table: Occupancies.
        options: Scaling, and where trees are cut.
        whole: The table of which it is a part. Its percentiles become 0 and 1, so that occupancies
            of the part have the same scale as those of the whole.

    Raises:
        InputError: If a value is not finite, or a subunit has one occupancy in all volumes.
        ConfigError: If an option does not fit the table.
    """
    table = table.without(options.omitted)
    check_values(table)
    _check_counts(table, options)
    reference = table.values if whole is None else whole.without(options.omitted).values
    per = options.scale or "matrix"
    limits = scaling(reference, options.percentiles, per=per)
    scaled = limits.apply(table.values)
    if per == "matrix":
        _warn_of_clipped(table, scaled)
    clipped = np.clip(scaled, 0, 1)
    selected = _select_volumes(options.where, table, scaled)
    return OccupancyClasses(
        table=table,
        options=options,
        scaling=limits,
        is_part=whole is not None,
        scaled=scaled,
        classes=cut(
            ward_tree(clipped),
            threshold=options.row_threshold,
            count=options.classes,
            share=ROW_SHARE,
            gap=ROW_GAP,
            options=("--row-threshold", "--classes"),
        ),
        blocks=cut(
            ward_tree(clipped.T),
            threshold=options.column_threshold,
            count=options.blocks,
            share=COLUMN_SHARE,
            options=("--column-threshold", "--blocks"),
        ),
        pairs=cooperativity(
            clipped,
            tested=varies(table.values, reference, per=per),
        ),
        selected=selected,
    )


def _select_volumes(
    where: str | None, table: OccupancyTable, scaled: Float[np.ndarray, "n k"]
) -> Bool[np.ndarray, " n"] | None:
    """Return which volumes fulfil a condition on their scaled occupancies; None without one.

    Raises:
        ConfigError: If the condition is not valid, or no volume fulfils it.
    """
    if where is None:
        return None
    selected = select(where, _columns_by_name(table, scaled), noun="subunit")
    if not selected.any():
        raise ConfigError(f"--where {where!r}: no volume fulfils this condition.")
    return selected


def _warn_of_clipped(table: OccupancyTable, scaled: Float[np.ndarray, "n k"]) -> None:
    """Warn of subunits most of whose occupancies are clipped to 0, or to 1, although they differ.

    The scale is that of all subunits: one with less density than others is clipped.
    """
    for bound, beyond in ((0, scaled < 0), (1, scaled > 1)):
        for column in np.flatnonzero(beyond.mean(axis=0) > MOSTLY):
            if np.ptp(scaled[beyond[:, column], column]) >= CLIPPED_RANGE:
                log.warning(
                    "%s: %.0f %% of its occupancies are clipped to %d, although they differ, since "
                    "the scale is that of all subunits. With --scale column each has its own",
                    table.labels[column],
                    100 * beyond[:, column].mean(),
                    bound,
                )


def _check_counts(table: OccupancyTable, options: ClassOptions) -> None:
    if options.classes is not None and options.classes > len(table):
        raise ConfigError(
            f"--classes {options.classes} is larger than the number of volumes, {len(table)}."
        )
    if options.blocks is not None and options.blocks > len(table.subunits):
        raise ConfigError(
            f"--blocks {options.blocks} is larger than the number of subunits, "
            f"{len(table.subunits)}."
        )


def check_values(table: OccupancyTable) -> None:
    """Refuse a table that cannot be clustered.

    Raises:
        InputError: If a value is not finite, or a subunit has one occupancy in all volumes; if
            there are fewer than two volumes or subunits.
    """
    if len(table) < 2 or len(table.subunits) < 2:
        raise InputError(
            f"Clustering needs at least two volumes and two subunits; there are {len(table)} and "
            f"{len(table.subunits)}."
        )
    bad = np.argwhere(~np.isfinite(table.values))
    if len(bad):
        row, column = bad[0].tolist()
        raise InputError(
            f"The occupancy of {table.labels[column]} in volume {table.volumes[row]} is "
            f"{table.values[row, column]}, one of {len(bad):,} values that are not finite. Score "
            "again, or leave the subunit out with --omit."
        )
    constant = np.flatnonzero(np.ptp(table.values, axis=0) == 0)
    if constant.size:
        names = [table.labels[i] for i in constant]
        raise InputError(
            f"{names[0]} has the occupancy {table.values[0, constant[0]]:.4g} in all volumes, so "
            f"that it distinguishes none of them. Leave it out with --omit {','.join(names)}."
        )


def _columns_by_name(
    table: OccupancyTable, values: Float[np.ndarray, "n k"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Return columns by short name, and by whole name."""
    names = zip(table.labels, table.subunits, strict=True)
    return {name: values[:, i] for i, pair in enumerate(names) for name in pair}


def class_rows(found: OccupancyClasses, particles: Sequence[int] | None) -> list[tuple[Any, ...]]:
    """Return for each class: name, volumes, their share, particles, their share, blocks occupied.

    Args:
        found: Classes and blocks.
        particles: Number of particles of each class; without them these columns are left out.
    """
    means, labels = found.means(), found.classes.labels
    total = sum(particles) if particles is not None else 0
    rows: list[tuple[Any, ...]] = []
    for number in range(1, found.classes.count + 1):
        volumes = int((labels == number).sum())
        occupied = [
            f"B{b}"
            for b in range(1, found.blocks.count + 1)
            if means[number - 1, found.blocks.labels == b].mean() >= OCCUPIED
        ]
        row: tuple[Any, ...] = (f"C{number}", volumes, volumes / len(labels))
        if particles is not None:
            row += (particles[number - 1], particles[number - 1] / max(total, 1))
        rows.append((*row, " ".join(occupied) or "-"))
    return rows


def pair_rows(found: OccupancyClasses) -> list[tuple[str, str, float, float, int]]:
    """Return for each tested pair: both names, r, adjusted p, 1 if significant; by size of r."""
    names = found.table.labels
    first, second = np.triu_indices(len(names), 1)
    tested = found.pairs.tested[first] & found.pairs.tested[second]
    first, second = first[tested], second[tested]
    order = np.argsort(-np.abs(found.pairs.r[first, second]), kind="stable")
    return [
        (
            names[i],
            names[j],
            float(found.pairs.r[i, j]),
            float(found.pairs.p[i, j]),
            int(found.pairs.called[i, j]),
        )
        for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True)
    ]
