"""The clustered heat map: volumes × subunits, with both trees, classes and blocks coloured."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from raydrgn.occupancy.classes import OccupancyClasses
from raydrgn.occupancy.clustering import Cut
from raydrgn.occupancy.colours import OCCUPANCY_COLOURS, block_colours, class_colours
from raydrgn.shapes import Float

TREE_GREY = "#8a8f96"
DRAWN_ROWS = 1_500
"""Rows drawn at most; neighbouring volumes of larger tables are averaged."""

NAMED_ROWS = 60
"""Volumes up to which their names are written."""


def heat_map(found: OccupancyClasses, class_labels: Sequence[str]) -> Figure:
    """Draw clipped occupancies, white to blue, in the order of both trees.

    Args:
        found: Classes and blocks.
        class_labels: Text beside each class.
    """
    n, k = found.scaled.shape
    named = n <= NAMED_ROWS
    cell = float(np.clip(11 / k, 0.16, 0.5))
    wide = k * cell
    tall = float(np.clip(n * 0.18, 2.2, 8.5)) if named else 8.5
    left = max(0.5, 0.1 + 0.075 * max(map(len, found.table.volumes)) if named else 0.0)
    right, top = 0.25 + 0.085 * max(map(len, class_labels)), 1.15
    bottom = 0.25 + 0.085 * max(map(len, found.table.labels))
    width, height = left + wide + 0.32 + 1.3 + right + 1.0, top + 0.3 + tall + bottom
    figure = Figure(figsize=(width, height))

    def axes_at(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    image = axes_at(left, bottom, wide, tall)
    strip = axes_at(left + wide + 0.06, bottom, 0.2, tall)
    side = axes_at(left + wide + 0.3, bottom, 1.3, tall)
    bands = axes_at(left, bottom + tall + 0.06, wide, 0.2)
    above = axes_at(left, bottom + tall + 0.3, wide, top - 0.25)
    scale = axes_at(width - 0.75, bottom + tall + 0.3, 0.13, top - 0.35)

    shown = _image(found)
    drawn = image.imshow(
        shown, cmap=OCCUPANCY_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        extent=(0, k, n, 0),
    )  # fmt: skip
    figure.colorbar(drawn, cax=scale, ticks=[0, 0.5, 1])
    scale.tick_params(labelsize=7)
    scale.set_title("occupancy", fontsize=8, loc="center", pad=5)
    _name_axes(image, found, named=named)
    colours, shades = class_colours(found.classes.count), block_colours(found.blocks.count)
    _strip(strip, found.classes, colours, vertical=True)
    _strip(bands, found.blocks, shades, vertical=False)
    _boundaries(image, found)
    draw_tree(side, found.classes, colours, vertical=True)
    draw_tree(above, found.blocks, shades, vertical=False)
    _label_classes(side, found.classes, class_labels, colours, tall)
    _label_blocks(bands, found.blocks)
    return figure


def _image(found: OccupancyClasses) -> Float[np.ndarray, "h w"]:
    """Return the ordered matrix, rows averaged where there are too many to draw."""
    ordered = found.clipped[found.classes.tree.point_order][:, found.blocks.tree.point_order]
    if len(ordered) <= DRAWN_ROWS:
        return ordered
    edges = np.linspace(0, len(ordered), DRAWN_ROWS + 1).astype(int)
    return np.add.reduceat(ordered, edges[:-1], axis=0) / np.diff(edges)[:, None]


def _name_axes(image: Axes, found: OccupancyClasses, *, named: bool) -> None:
    names = [found.table.labels[i] for i in found.blocks.tree.point_order]
    image.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=8)
    image.tick_params(length=0, pad=3)
    if named:
        rows = [found.table.volumes[i] for i in found.classes.tree.point_order]
        image.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=7)
    else:
        image.set_yticks([])
        image.set_ylabel(f"{len(found.table):,} volumes", fontsize=9)
    image.spines[:].set_linewidth(0.5)


def _runs(found: Cut) -> list[tuple[int, float, float]]:
    """Return number, begin and end of each cluster along the tree."""
    sizes = np.bincount(found.labels, minlength=found.count + 1)[1:]
    ends = np.cumsum(sizes)
    return [
        (number, float(end - size), float(end))
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True), start=1)
    ]


def _strip(axis: Axes, found: Cut, colours: Sequence[str], *, vertical: bool) -> None:
    axis.set_axis_off()
    total = len(found.labels)
    for number, begin, end in _runs(found):
        draw = axis.axhspan if vertical else axis.axvspan
        draw(begin, end, color=colours[number - 1], linewidth=0)
    if vertical:
        axis.set(xlim=(0, 1), ylim=(total, 0))
    else:
        axis.set(xlim=(0, total), ylim=(0, 1))


def _boundaries(image: Axes, found: OccupancyClasses) -> None:
    for _, begin, _ in _runs(found.classes)[1:]:
        image.axhline(begin, color="#666666", linewidth=0.6)
    for _, begin, _ in _runs(found.blocks)[1:]:
        image.axvline(begin, color="#666666", linewidth=0.6)


def draw_tree(axis: Axes, found: Cut, colours: Sequence[str], *, vertical: bool) -> None:
    """Draw a tree beside an axis of the map, clusters in their colours, the cut as a line.

    The width of a group of points is their number.
    """
    segments, shades = tree_lines(found, colours)
    top = float(found.tree.heights[-1]) if len(found.tree.heights) else 1.0
    lines = segments[..., ::-1] if vertical else segments
    axis.add_collection(LineCollection(list(lines), colors=shades, linewidths=0.8))
    total = len(found.labels)
    axis.spines[:].set_visible(False)
    dashes = (0, (4, 3))
    if vertical:
        axis.set(xlim=(0, 1.04 * top), ylim=(total, 0))
        axis.set_yticks([])
        axis.axvline(found.threshold, color="black", linewidth=0.7, linestyle=dashes)
        axis.tick_params(axis="x", labelsize=7)
        axis.locator_params(axis="x", nbins=3)
        axis.set_xlabel("distance", fontsize=8)
    else:
        axis.set(xlim=(0, total), ylim=(0, 1.04 * top))
        axis.set_xticks([])
        axis.axhline(found.threshold, color="black", linewidth=0.7, linestyle=dashes)
        axis.tick_params(axis="y", labelsize=7)
        axis.locator_params(axis="y", nbins=3)


def tree_lines(
    found: Cut, colours: Sequence[str]
) -> tuple[Float[np.ndarray, "m 4 2"], list[tuple[float, float, float]]]:
    """Return a bracket of four points (position, distance) for each merge, and its colour.

    Brackets above the cut are grey.
    """
    tree = found.tree
    count = len(tree.sizes)
    ends = np.cumsum(tree.sizes[tree.order])
    at = np.zeros((count + len(tree.merges), 2))
    at[tree.order, 0] = ends - tree.sizes[tree.order] / 2
    cluster = np.zeros(len(at), dtype=np.int64)
    cluster[:count] = found.of_leaf
    segments, shades = np.empty((len(tree.merges), 4, 2)), []
    for step, (i, j, distance) in enumerate(tree.merges[:, :3].tolist()):
        a, b = int(i), int(j)
        (xa, ha), (xb, hb) = at[a], at[b]
        segments[step] = (xa, ha), (xa, distance), (xb, distance), (xb, hb)
        at[count + step] = (xa + xb) / 2, distance
        same = cluster[a] if cluster[a] == cluster[b] else 0
        cluster[count + step] = same
        shades.append(to_rgb(colours[same - 1] if same else TREE_GREY))
    return segments, shades


def _label_classes(
    axis: Axes, found: Cut, labels: Sequence[str], colours: Sequence[str], tall: float
) -> None:
    """Write the labels of classes beside the tree, moved apart where classes are small."""
    total, frame = len(found.labels), axis.get_yaxis_transform()
    middles = np.array([(begin + end) / 2 for _, begin, end in _runs(found)])
    positions = spread(middles, spacing=0.145 * total / tall, end=float(total))
    for number, (middle, y) in enumerate(zip(middles, positions, strict=True)):
        axis.annotate(
            labels[number], xy=(1.01, middle), xytext=(1.12, y), xycoords=frame,
            textcoords=frame, fontsize=8.5, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 2.5, "color": colours[number],
                        "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def spread(
    positions: Float[np.ndarray, " k"], *, spacing: float, end: float
) -> Float[np.ndarray, " k"]:
    """Return ascending positions, moved until they are ``spacing`` apart, within 0 to ``end``."""
    moved = positions.copy()
    for _ in range(500):
        missing = np.maximum(spacing - np.diff(moved), 0)
        if not missing.any():
            break
        moved[:-1] -= missing / 2
        moved[1:] += missing / 2
        moved = np.clip(moved, 0, end) if spacing * (len(moved) - 1) < end else moved
    return np.sort(moved)


def _label_blocks(axis: Axes, found: Cut) -> None:
    for number, begin, end in _runs(found):
        axis.text(
            (begin + end) / 2, 0.48, f"B{number}" if end - begin > 1 else f"{number}",
            ha="center", va="center", fontsize=7, color="white", fontweight="bold",
        )  # fmt: skip
