"""Volume classes and structural blocks: a table of occupancies clustered both ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.occupancy.clustering import Cut, Scaling, cut, scaling, ward_tree
from raydrgn.occupancy.cooperativity import Cooperativity, cooperativity
from raydrgn.occupancy.query import select
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.shapes import Bool, Float, Int

ROW_SHARE, COLUMN_SHARE = 0.18, 0.3
"""Of the highest merge: where trees are cut if nobody says, and no gap does."""

ROW_GAP = (0.03, 0.3)
"""Of the highest merge: where the widest gap between merges parts classes. It finds the four groups
of the ten ribosome maps of MAVEn's example, and a state of half a per cent of 131,889 volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSettings:
    """What decides classes and blocks."""

    percentiles: tuple[float, float] = (10.0, 90.0)
    """Occupancies at these become 0 and 1."""

    scale: Literal["matrix", "column"] = "matrix"
    """Whether percentiles are those of the whole matrix, or of each subunit."""

    row_threshold: float | None = None
    classes: int | None = None
    column_threshold: float | None = None
    blocks: int | None = None
    omit: tuple[str, ...] = ()
    """Subunits to leave out."""

    where: str | None = None
    """Limits on scaled occupancies that select volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoWay:
    """Occupancies with their classes (of volumes) and blocks (of subunits), from 1."""

    table: OccupancyTable
    settings: ClassSettings
    limits: Scaling
    scaled: Float[np.ndarray, "n k"]
    """0 at the lower percentile and 1 at the upper one, and beyond."""

    classes: Cut
    blocks: Cut
    pairs: Cooperativity
    selected: Bool[np.ndarray, " n"] | None = None
    """Volumes within the limits asked for."""

    @property
    def clipped(self) -> Float[np.ndarray, "n k"]:
        """Occupancies from 0 to 1: what was clustered."""
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


def find_classes(table: OccupancyTable, settings: ClassSettings, *, seed: int = 0) -> TwoWay:
    """Scale and cluster a table both ways, and correlate its subunits.

    Raises:
        InputError: If a value is not finite, or a subunit has one occupancy in all volumes.
        ConfigError: If a setting makes no sense for this table.
    """
    table = without(table, settings.omit)
    check_values(table)
    if settings.classes is not None and settings.classes > len(table):
        raise ConfigError(
            f"--classes {settings.classes} asks for more than there are volumes ({len(table)})."
        )
    if settings.blocks is not None and settings.blocks > len(table.subunits):
        raise ConfigError(
            f"--blocks {settings.blocks} asks for more than there are subunits "
            f"({len(table.subunits)})."
        )
    limits = scaling(table.values, settings.percentiles, per=settings.scale)
    scaled = limits.apply(table.values)
    clipped = np.clip(scaled, 0, 1)
    selected = None
    if settings.where is not None:
        selected = select(settings.where, columns_by_name(table, scaled))
        if not selected.any():
            raise ConfigError(f"--where {settings.where!r}: no volume is within these limits.")
    return TwoWay(
        table=table,
        settings=settings,
        limits=limits,
        scaled=scaled,
        classes=cut(
            ward_tree(clipped, seed=seed),
            threshold=settings.row_threshold,
            count=settings.classes,
            share=ROW_SHARE,
            gap=ROW_GAP,
            options=("--row-threshold", "--classes"),
        ),
        blocks=cut(
            ward_tree(clipped.T),
            threshold=settings.column_threshold,
            count=settings.blocks,
            share=COLUMN_SHARE,
            options=("--column-threshold", "--blocks"),
        ),
        pairs=cooperativity(clipped, seed=seed),
        selected=selected,
    )


def without(table: OccupancyTable, omitted: Sequence[str]) -> OccupancyTable:
    """Return a table without some subunits.

    Raises:
        ConfigError: If one is not there, or none is left.
    """
    names = {name: i for i, pair in enumerate(_names(table)) for name in pair}
    unknown = [name for name in omitted if name not in names]
    if unknown:
        raise ConfigError(
            f"--omit names {unknown[0]!r}, which the table lacks; it has "
            f"{', '.join(table.labels[:12])}{' …' if len(table.labels) > 12 else ''}."
        )
    left = sorted(set(range(len(table.subunits))) - {names[name] for name in omitted})
    if not left:
        raise ConfigError("--omit leaves no subunit.")
    return OccupancyTable(
        volumes=table.volumes,
        subunits=tuple(table.subunits[i] for i in left),
        values=table.values[:, left],
        particles=table.particles,
        latents=table.latents,
        clusters=table.clusters,
    )


def check_values(table: OccupancyTable) -> None:
    """Refuse what cannot be clustered.

    Raises:
        InputError: If a value is not finite, or a subunit has one occupancy in all volumes; if
            there are fewer than two volumes or subunits.
    """
    if len(table) < 2 or len(table.subunits) < 2:
        raise InputError(
            f"Clustering both ways takes two volumes and two subunits at least; there are "
            f"{len(table)} and {len(table.subunits)}."
        )
    bad = np.argwhere(~np.isfinite(table.values))
    if len(bad):
        row, column = bad[0].tolist()
        raise InputError(
            f"The occupancy of {table.labels[column]} in volume {table.volumes[row]} is "
            f"{table.values[row, column]} ({len(bad)} such values); score again, or leave the "
            "subunit out with --omit."
        )
    flat = np.flatnonzero(np.ptp(table.values, axis=0) == 0)
    if flat.size:
        names = [table.labels[i] for i in flat]
        raise InputError(
            f"{names[0]} has the occupancy {table.values[0, flat[0]]:.4g} in all volumes, which "
            f"says nothing about them; leave it out with --omit {','.join(names)}."
        )


def columns_by_name(
    table: OccupancyTable, values: Float[np.ndarray, "n k"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Return columns by short name, and by whole name."""
    return {name: values[:, i] for i, pair in enumerate(_names(table)) for name in pair}


def _names(table: OccupancyTable) -> list[tuple[str, str]]:
    return list(zip(table.labels, table.subunits, strict=True))


def class_rows(found: TwoWay, particles: Sequence[int] | None) -> list[tuple[Any, ...]]:
    """Return for each class: name, volumes, their share, particles, their share, blocks occupied.

    A block counts as occupied where its mean clipped occupancy is at least one half.
    """
    means, labels = found.means(), found.classes.labels
    total = sum(particles) if particles is not None else 0
    rows: list[tuple[Any, ...]] = []
    for number in range(1, found.classes.count + 1):
        volumes = int((labels == number).sum())
        full = [
            f"B{b}"
            for b in range(1, found.blocks.count + 1)
            if means[number - 1, found.blocks.labels == b].mean() >= 0.5
        ]
        row: tuple[Any, ...] = (f"C{number}", volumes, volumes / len(labels))
        if particles is not None:
            row += (particles[number - 1], particles[number - 1] / max(total, 1))
        rows.append((*row, " ".join(full) or "-"))
    return rows


def pair_rows(found: TwoWay) -> list[tuple[str, str, float, float, int]]:
    """Return for each pair: both names, r, adjusted p, if called; largest size of r first."""
    names = found.table.labels
    first, second = np.triu_indices(len(names), 1)
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
