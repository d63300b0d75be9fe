"""Figures of classes and blocks: correlations, histograms, pairs, particles, volumes, models."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from raydrgn.decoding.volume_sets import Preview
from raydrgn.occupancy.block_model import BlockModel
from raydrgn.occupancy.classes import OccupancyClasses, pair_rows
from raydrgn.occupancy.colours import (
    NO_BLOCK,
    OCCUPANCY_COLOURS,
    block_colours,
    class_colours,
)
from raydrgn.reporting.latent_figures import DRAWN, GREY, HALO
from raydrgn.shapes import Float, Int

BINS = 25
SHOWN_PAIRS = 4
"""Pairs shown of each sign."""

DRAWN_ATOMS = 12_000
"""Atoms drawn of each model at most."""


def correlation_map(found: OccupancyClasses) -> Figure:
    """Draw the correlation of every pair in the order of the blocks; dots: significant pairs."""
    order = found.blocks.tree.point_order
    names = [found.table.labels[i] for i in order]
    r, called = found.pairs.r[np.ix_(order, order)], found.pairs.called[np.ix_(order, order)]
    side = float(np.clip(len(names) * 0.17, 2.4, 12))
    edge = 0.3 + 0.085 * max(map(len, names))
    figure = Figure(figsize=(edge + side + 1.2, edge + side + 0.3), layout="constrained")
    axis = figure.subplots()
    shown = np.where(np.eye(len(r), dtype=bool), np.nan, r)
    drawn = axis.imshow(shown, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    axis.set_facecolor("#e6e6e6")
    y, x = np.nonzero(called)
    axis.scatter(x, y, s=float(np.clip(220 / len(names), 1.5, 14)), color="black", linewidths=0)
    size = 8 if len(names) <= 60 else 6
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axis.set_yticks(range(len(names)), names, fontsize=size)
    axis.tick_params(length=0)
    labels, shades = found.blocks.labels[order], block_colours(found.blocks.count)
    for i in np.flatnonzero(np.diff(labels)):
        axis.axhline(i + 0.5, color="black", linewidth=0.8)
        axis.axvline(i + 0.5, color="black", linewidth=0.8)
    for axis_labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        for label, block in zip(axis_labels, labels, strict=True):
            label.set_color(_dark(shades[block - 1]))
    figure.colorbar(drawn, ax=axis, label="correlation of occupancies", shrink=0.6)
    return figure


def histograms(found: OccupancyClasses) -> Figure:
    """Draw the distribution of each subunit's scaled occupancy, in the order of the blocks."""
    order = found.blocks.tree.point_order
    columns = min(8, len(order))
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(1.45 * columns + 0.5, 1.2 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    low, high = np.percentile(found.scaled, [0.1, 99.9])
    edges = np.linspace(min(low, -0.1), max(high, 1.1), BINS + 1)
    shades = block_colours(found.blocks.count)
    for axis, column in zip(grid, order.tolist(), strict=False):
        values = np.clip(found.scaled[:, column], edges[0], edges[-1])
        axis.hist(values, bins=edges, color=shades[found.blocks.labels[column] - 1])
        axis.axvline(0, color="0.3", linewidth=0.5, linestyle=":")
        axis.axvline(1, color="0.3", linewidth=0.5, linestyle=":")
        axis.set_title(found.table.labels[column], fontsize=8, pad=2)
        axis.set_yticks([])
        axis.set_xticks([0, 0.5, 1])
        axis.tick_params(labelsize=7, length=2)
        axis.spines[["top", "right", "left"]].set_visible(False)
    for number, axis in enumerate(grid):
        if number >= len(order):
            axis.set_visible(False)
        elif number + columns >= len(order):
            axis.tick_params(labelbottom=True)
    figure.supxlabel("scaled occupancy", fontsize=9)
    return figure


def pair_scatters(found: OccupancyClasses) -> Figure | None:
    """Draw volumes by class over the strongest significant correlations of either sign.

    One pair is drawn for all between two blocks, or within one.
    """
    column = {name: i for i, name in enumerate(found.table.labels)}
    pairs: list[tuple[str, str, float, float, int]] = []
    for sign in (1, -1):
        seen: set[frozenset[int]] = set()
        for row in pair_rows(found):
            blocks = frozenset(int(found.blocks.labels[column[name]]) for name in row[:2])
            if row[4] and sign * row[2] > 0 and blocks not in seen and len(seen) < SHOWN_PAIRS:
                seen.add(blocks)
                pairs.append(row)
    if not pairs:
        return None
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.45 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = np.array(class_colours(found.classes.count))[found.classes.labels - 1]
    shuffled = np.random.default_rng(0).permutation(len(colours))[:DRAWN]
    size = float(np.clip(4000 / len(shuffled), 0.4, 12))
    clipped = found.clipped[shuffled]
    for axis, (first, second, r, _, _) in zip(grid, pairs, strict=False):
        x, y = clipped[:, column[first]], clipped[:, column[second]]
        axis.scatter(x, y, s=size, c=colours[shuffled], linewidths=0, rasterized=True)
        axis.set_xlabel(first, fontsize=8)
        axis.set_ylabel(second, fontsize=8)
        axis.set_title(f"r = {r:+.2f}", fontsize=8, pad=3)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in grid[len(pairs) :]:
        axis.set_visible(False)
    return figure


def class_profiles(found: OccupancyClasses, class_labels: Sequence[str]) -> Figure:
    """Draw the mean occupancy of each subunit in each class, with numbers if there is room."""
    order = found.blocks.tree.point_order
    means = found.means()[:, order]
    cell = float(np.clip(11 / len(order), 0.16, 0.5))
    wide, tall = cell * len(order), 0.3 * len(means)
    names = [found.table.labels[i] for i in order]
    left, bottom = 0.3 + 0.08 * max(map(len, class_labels)), 0.3 + 0.085 * max(map(len, names))
    figure = Figure(figsize=(left + wide + 0.2, tall + bottom + 0.2))
    width, height = figure.get_size_inches()
    axis = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
    axis.imshow(
        means, cmap=OCCUPANCY_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(means)), class_labels, fontsize=8.5)
    axis.tick_params(length=0)
    for label, colour in zip(axis.get_yticklabels(), class_colours(len(means)), strict=True):
        label.set_color(_dark(colour))
    if cell >= 0.3:
        for (i, j), value in np.ndenumerate(means):
            axis.text(
                j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                color="white" if value > 0.5 else "black",
            )  # fmt: skip
    return figure


def particles_by_class(
    names: Sequence[str],
    xy: Float[np.ndarray, "p 2"],
    labels: Int[np.ndarray, " p"],
    centroids: Sequence[int | None],
) -> Figure:
    """Draw particles in an embedding by class (0: none), rare classes on top, with centroids."""
    figure = Figure(figsize=(6.2, 4.8), layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=names[0], ylabel=names[1])
    axis.spines[["top", "right"]].set_visible(False)
    colours = class_colours(len(centroids))
    rows = np.random.default_rng(0).permutation(len(xy))[:DRAWN]
    counts = np.bincount(labels, minlength=len(centroids) + 1)
    size = float(np.clip(4e4 / len(rows), 0.3, 6))
    for number in np.argsort(-counts):
        in_class = rows[labels[rows] == number]
        axis.scatter(
            xy[in_class, 0], xy[in_class, 1], s=size, linewidths=0, rasterized=True,
            color=colours[number - 1] if number else GREY,
        )  # fmt: skip
    for number, row in enumerate(centroids, start=1):
        axis.scatter([], [], s=20, color=colours[number - 1], label=_legend(number, counts))
        if row is not None:
            _mark(axis, xy[row], f"C{number}", colours[number - 1])
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def _outline_level(slices: Float[np.ndarray, "3 d d"]) -> float:
    """Return the density half way between the means of the voxels above and below it."""
    level = float(slices.mean())
    for _ in range(50):
        inside, outside = slices[slices > level], slices[slices <= level]
        if not len(inside) or not len(outside):
            break
        level = float(inside.mean() + outside.mean()) / 2
    return level


def _dark(colour: str) -> tuple[float, float, float]:
    """Return a darker colour, for text on white."""
    red, green, blue = (0.65 * part for part in to_rgb(colour))
    return red, green, blue


def _legend(number: int, counts: Int[np.ndarray, " c"]) -> str:
    """Return a class with its particles, and their share of all that are in a class."""
    share = 100 * counts[number] / max(int(counts[1:].sum()), 1)
    return f"C{number}  {counts[number]:,} ({share:.1f} %)"


def _mark(axis: Axes, xy: Float[np.ndarray, " 2"], text: str, colour: str) -> None:
    x, y = xy.tolist()
    axis.scatter([x], [y], s=30, color=colour, edgecolors="black", linewidths=0.8, zorder=5)
    axis.annotate(
        text, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=9, zorder=6,
        path_effects=list(HALO),
    )  # fmt: skip


def centroid_sheet(
    previews: Sequence[Preview | None], titles: Sequence[str], colours: Sequence[str]
) -> Figure | None:
    """Draw three central slices of each volume on one grey scale, with the outline of the first.

    None if there is no volume.
    """
    shown = [(i, preview.slices) for i, preview in enumerate(previews) if preview is not None]
    if not shown:
        return None
    first = shown[0][1]
    columns = min(8, len(shown))
    bands = -(-len(shown) // columns)
    figure = Figure(figsize=(1.45 * columns + 0.5, (1.45 * 3 + 0.3) * bands), layout="constrained")
    grid = figure.subplots(3 * bands, columns, squeeze=False)
    intensities = [slices for _, slices in shown]
    outline = _outline_level(first)
    low = min(0.0, float(np.percentile(intensities, 0.5)))
    high = float(np.percentile(intensities, 99.9))
    for axis in grid.ravel():
        axis.set_axis_off()
    for number, (index, slices) in enumerate(shown):
        band, column = divmod(number, columns)
        for side, name in enumerate("zyx"):
            axis = grid[3 * band + side, column]
            axis.imshow(slices[side], cmap="gray", vmin=low, vmax=high, origin="lower")
            if first[side].max() > outline:
                axis.contour(first[side], levels=[outline], colors="#e69f00", linewidths=0.8)
            if column == 0:
                axis.text(-0.06, 0.5, f"⊥ {name}", transform=axis.transAxes, ha="right",
                          va="center", fontsize=9)  # fmt: skip
            if side == 0:
                axis.set_title(titles[index], fontsize=8.5, pad=3, color=_dark(colours[index]))
    return figure


def draw_models(models: Sequence[BlockModel], count: int) -> Figure:
    """Draw atoms from three sides in the colours of their blocks, the farther ones paler."""
    generator = np.random.default_rng(0)
    positions, blocks = [], []
    for model, blocks_of_model in models:
        rows = generator.permutation(len(blocks_of_model))[:DRAWN_ATOMS]
        positions.append(model.positions_angstrom[rows])
        blocks.append(blocks_of_model[rows])
    xyz, labels = np.concatenate(positions), np.concatenate(blocks)
    table = np.array([to_rgb(colour) for colour in (NO_BLOCK, *block_colours(count))])
    figure = Figure(figsize=(11, 4.0), layout="constrained")
    axes = figure.subplots(1, 3)
    names = "xyz"
    for axis, (across, up, deep) in zip(axes, ((0, 1, 2), (0, 2, 1), (1, 2, 0)), strict=True):
        depth = xyz[:, deep] if deep != 1 else -xyz[:, deep]  # the viewer is at the end of z or x
        order = np.argsort(depth)
        axis.scatter(
            xyz[order, across], xyz[order, up], s=3, linewidths=0, rasterized=True,
            c=_paler(table[labels[order]], depth[order]),
        )  # fmt: skip
        axis.set(aspect="equal", xlabel=f"{names[across]}, Å", ylabel=f"{names[up]}, Å")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for block, colour in enumerate(block_colours(count), start=1):
        axes[0].scatter([], [], s=25, color=colour, label=f"B{block}")
    if not labels.all():
        axes[0].scatter([], [], s=25, color=NO_BLOCK, label="none")
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def _paler(colours: Float[np.ndarray, "n 3"], depth: Float[np.ndarray, " n"]) -> np.ndarray:
    near = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    share = (0.45 + 0.55 * near)[:, None]
    return share * colours + (1 - share)
