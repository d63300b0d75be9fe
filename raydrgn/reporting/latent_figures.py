"""Figures of particles in two dimensions: scatter, density, clusters, paths, marginals."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from raydrgn.reporting.figures import PALETTE
from raydrgn.shapes import Float, Int

DRAWN = 200_000
"""Most dots in a figure; a random sample if there are more. Densities and tables count all."""

HALO = (patheffects.withStroke(linewidth=2.2, foreground="white"),)
GREY = "#9aa3ad"
GREYS = mpl.colors.LinearSegmentedColormap.from_list(
    "greys", mpl.colormaps["Greys"](np.linspace(0.2, 1, 256))
)
"""Colours of densities under a path, in which a single particle is visible."""

XY = Float[np.ndarray, "n 2"]


def series_colours(count: int) -> list[str]:
    """Return colours of numbered clusters; adjacent numbers have similar colours."""
    values = np.linspace(0.03, 0.95, count) if count > 1 else np.array([0.2])
    return [mpl.colors.to_hex(c) for c in mpl.colormaps["turbo"](values)]


def path_colours(count: int) -> list[str]:
    """Return colours of the points of a path, from first to last."""
    return [mpl.colors.to_hex(c) for c in mpl.colormaps["plasma"](np.linspace(0, 0.92, count))]


def scatter(names: Sequence[str], xy: XY) -> Figure:
    """Draw every particle as a dot."""
    figure, axis = _single(names, xy)
    _dots(axis, xy, PALETTE[0])
    return figure


def density(names: Sequence[str], xy: XY) -> Figure:
    """Draw the number of particles, on a logarithmic scale."""
    figure, axis = _single(names, xy)
    drawn = _hexagons(axis, xy)
    figure.colorbar(drawn, ax=axis, label="particles", shrink=0.8)
    return figure


def clusters(
    axes: Sequence[str],
    xy: XY,
    labels: Int[np.ndarray, " n"],
    centres: Float[np.ndarray, "k 2"],
    *,
    names: Sequence[object] | None = None,
) -> Figure:
    """Draw particles coloured by cluster, with its name at the on-data centre of each.

    Args:
        axes: Names of the two axes.
        xy: Coordinates of the particles.
        labels: Cluster of each particle, from 0.
        centres: Where the name of each cluster is drawn.
        names: Of the clusters; their numbers if not given.
    """
    figure, axis = _single(axes, xy)
    colours = np.array([mpl.colors.to_rgba(c) for c in series_colours(len(centres))])
    _dots(axis, xy, colours[labels])
    for number, (x, y) in enumerate(centres):
        name = str(number if names is None else names[number])
        _mark(axis, float(x), float(y), name, colours[number])
    return figure


def path(
    names: Sequence[str],
    xy: XY,
    points: Float[np.ndarray, "m 2"],
    support: Int[np.ndarray, " m"],
    *,
    typical: int,
) -> Figure:
    """Draw a path over the density of particles, and the particles around each point."""
    figure, axis = _beside_support(support, typical)
    _name(axis, names, xy, points)
    _hexagons(axis, xy, cmap=GREYS)
    axis.plot(points[:, 0], points[:, 1], color="black", linewidth=1)
    colours = path_colours(len(points))
    for number in _labelled(len(points)):
        x, y = points[number].tolist()
        _mark(axis, x, y, str(number), colours[number])
    axis.scatter(points[:, 0], points[:, 1], s=12, c=colours, zorder=4, linewidths=0)
    return figure


def path_in_line(
    z: Float[np.ndarray, "n 1"],
    points: Float[np.ndarray, "m 1"],
    support: Int[np.ndarray, " m"],
    *,
    typical: int,
) -> Figure:
    """Draw a path through a latent space of one dimension, over the histogram of particles."""
    figure, axis = _beside_support(support, typical)
    counts, _, _ = axis.hist(z[:, 0], bins=80, color="0.75")
    colours = path_colours(len(points))
    height = 1.08 * float(np.max(counts))
    for number in _labelled(len(points)):
        _mark(axis, float(points[number, 0]), height, str(number), colours[number])
    axis.vlines(points[:, 0], 0, height, colors=colours, linewidth=1)
    axis.set(xlabel="z", ylabel="particles")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _beside_support(support: Int[np.ndarray, " m"], typical: int) -> tuple[Figure, Axes]:
    """Return an empty axis for a path, beside bars of the particles around its points.

    Points without particles have a cross in the place of a bar.
    """
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    axis, bars = figure.subplots(1, 2, width_ratios=[1.35, 1])
    colours = path_colours(len(support))
    bars.bar(np.arange(len(support)), support, color=colours)
    for number in np.flatnonzero(support == 0).tolist():
        bars.plot(number, 0, marker="x", markersize=5, color=colours[number], clip_on=False)
    bars.axhline(typical, color="0.4", linewidth=0.9, linestyle="--")
    bars.text(0.99, typical, "typical", ha="right", va="bottom", fontsize=8, color="0.3",
              transform=bars.get_yaxis_transform())  # fmt: skip
    bars.set(xlabel="point of the path", ylabel="particles around it", yscale="symlog")
    bars.set_ylim(0, max(3 * typical, 1.5 * int(support.max())))
    bars.xaxis.get_major_locator().set_params(integer=True)
    bars.spines[["top", "right"]].set_visible(False)
    return figure, axis


def marginals(names: Sequence[str], xy: XY) -> Figure:
    """Draw the density with the histogram of each of its two coordinates beside it."""
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    grid = figure.subplots(
        2, 2, sharex="col", sharey="row", width_ratios=[4, 1], height_ratios=[1, 4]
    )
    (top, corner), (axis, right) = grid
    corner.set_axis_off()
    _name(axis, names, xy)
    _hexagons(axis, xy)
    top.hist(xy[:, 0], bins=80, color=PALETTE[0])
    right.hist(xy[:, 1], bins=80, color=PALETTE[0], orientation="horizontal")
    for side in (top, right):
        side.spines[["top", "right"]].set_visible(False)
        side.tick_params(labelsize=7)
    return figure


def latent_histograms(z: Float[np.ndarray, "n zdim"]) -> Figure:
    """Draw the distribution of every latent dimension."""
    columns = min(z.shape[1], 5)
    rows = -(-z.shape[1] // columns)
    figure = Figure(figsize=(1.9 * columns, 1.6 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for number, axis in enumerate(grid.ravel()):
        if number >= z.shape[1]:
            axis.set_axis_off()
            continue
        axis.hist(z[:, number], bins=60, color=PALETTE[0])
        axis.set_xlabel(f"z{number}", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def kept_and_dropped(names: Sequence[str], xy: XY, kept: np.ndarray) -> Figure:
    """Draw kept and dropped particles."""
    figure, axis = _single(names, xy)
    for rows, colour, name in ((kept, PALETTE[0], "kept"), (~kept, PALETTE[1], "dropped")):
        _dots(axis, xy[rows], colour)
        axis.scatter([], [], s=20, color=colour, label=f"{name}: {int(rows.sum()):,}")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _single(names: Sequence[str], xy: XY) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axis = figure.subplots()
    _name(axis, names, xy)
    return figure, axis


def _name(
    axis: Axes, names: Sequence[str], xy: XY, marks: Float[np.ndarray, "m 2"] | None = None
) -> None:
    """Name the axes, and set their limits to all marks and all but a few outlying particles."""
    axis.set(xlabel=names[0], ylabel=names[1])
    axis.spines[["top", "right"]].set_visible(False)
    for column, axis_name in enumerate("xy"):
        low, high = np.percentile(xy[:, column], [0.05, 99.95]).tolist()
        if marks is not None:
            low, high = min(low, marks[:, column].min()), max(high, marks[:, column].max())
        margin = 0.06 * max(high - low, 1e-6)
        getattr(axis, f"set_{axis_name}lim")(low - margin, high + margin)


def _dots(axis: Axes, xy: XY, colours: str | Float[np.ndarray, "n 4"]) -> None:
    """Draw dots in random order, so that no cluster covers the others."""
    rows = np.random.default_rng(0).permutation(len(xy))[:DRAWN]
    size = float(np.clip(4e4 / max(len(rows), 1), 0.3, 6))
    chosen = colours if isinstance(colours, str) else colours[rows]
    axis.scatter(
        xy[rows, 0], xy[rows, 1], s=size, c=chosen, linewidths=0, alpha=0.75, rasterized=True
    )


def _hexagons(axis: Axes, xy: XY, *, cmap: str | Colormap = "viridis") -> PolyCollection:
    extent = (*axis.get_xlim(), *axis.get_ylim())
    size = int(np.clip(len(xy) ** 0.5 / 2, 25, 90))
    return axis.hexbin(
        xy[:, 0], xy[:, 1], gridsize=size, bins="log", mincnt=1, cmap=cmap, linewidths=0.1,
        extent=extent,
    )  # fmt: skip


def _labelled(count: int) -> list[int]:
    """Return the points of a path that are numbered: twelve at most."""
    return sorted(set(np.linspace(0, count - 1, min(count, 12)).round().astype(int).tolist()))


def _mark(axis: Axes, x: float, y: float, text: str, colour: object) -> None:
    axis.scatter([x], [y], s=26, color=[colour], edgecolors="black", linewidths=0.7, zorder=5)
    axis.annotate(
        text, (x, y), xytext=(3.5, 3.5), textcoords="offset points", fontsize=8, zorder=6,
        path_effects=HALO,
    )  # fmt: skip


def by_labels(
    axes: Sequence[str],
    xy: XY,
    codes: Int[np.ndarray, " n"],
    names: Sequence[str],
    title: str | None = None,
) -> Figure:
    """Draw particles coloured by label; −1 has none and is grey.

    Up to twelve labels have a legend with their shares; more have their names at their medians.
    """
    figure, axis = _single(axes, xy)
    _dots(axis, xy[codes < 0], GREY)
    labelled = codes >= 0
    few = len(names) <= len(PALETTE)
    listed = PALETTE if few else series_colours(len(names))
    colours = np.array([mpl.colors.to_rgba(c) for c in listed[: len(names)]])
    _dots(axis, xy[labelled], colours[codes[labelled]])
    sizes = np.bincount(codes[labelled], minlength=len(names))
    for number, name in enumerate(names):
        if few:
            share = 100 * sizes[number] / max(len(codes), 1)
            label = f"{name}: {share:.1f} %"
            axis.scatter([], [], s=20, color=[colours[number]], label=label)
        elif sizes[number]:
            x, y = np.median(xy[codes == number], axis=0).tolist()
            _mark(axis, x, y, name, colours[number])
    if few:
        if not labelled.all():
            axis.scatter([], [], s=20, color=GREY, label=f"none: {100 * (~labelled).mean():.1f} %")
        axis.legend(
            frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title,
            title_fontsize=8, alignment="left",
        )  # fmt: skip
    elif title is not None:
        axis.set_title(title, fontsize=8)
    return figure


def by_values(axes: Sequence[str], xy: XY, values: Float[np.ndarray, " n"], name: str) -> Figure:
    """Draw particles coloured by a value, from its 1st to its 99th percentile; unknown are grey."""
    figure, axis = _single(axes, xy)
    known = np.isfinite(values)
    _dots(axis, xy[~known], GREY)
    limits = mpl.colors.Normalize(*np.percentile(values[known], [1, 99]).tolist())
    scale = mpl.cm.ScalarMappable(limits, "viridis")
    _dots(axis, xy[known], np.asarray(scale.to_rgba(values[known])))
    figure.colorbar(scale, ax=axis, label=name, shrink=0.8, extend="both")
    return figure


def mean_values(axes: Sequence[str], xy: XY, values: Float[np.ndarray, " n"], name: str) -> Figure:
    """Draw the mean of a value over the particles of each hexagon."""
    figure, axis = _single(axes, xy)
    known = np.isfinite(values)
    extent = (*axis.get_xlim(), *axis.get_ylim())
    size = int(np.clip(len(xy) ** 0.5 / 2, 25, 90))
    drawn = axis.hexbin(
        xy[known, 0], xy[known, 1], C=values[known], gridsize=size, cmap="viridis", linewidths=0.1,
        extent=extent,
    )  # fmt: skip
    figure.colorbar(drawn, ax=axis, label=f"mean {name}", shrink=0.8)
    return figure


def label_densities(
    axes: Sequence[str],
    xy: XY,
    codes: Int[np.ndarray, " n"],
    names: Sequence[str],
    title: str | None = None,
) -> Figure:
    """Draw the density of the particles of each label in a panel of its own."""
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.7 * rows), layout="constrained")
    if title is not None:
        figure.suptitle(title, fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, axis in enumerate(grid.ravel()):
        if number >= len(names):
            axis.set_axis_off()
            continue
        own = codes == number
        _name(axis, axes, xy)
        axis.set_title(f"{names[number]}: {int(own.sum()):,}", fontsize=9)
        axis.tick_params(labelsize=7)
        if own.any():
            _hexagons(axis, xy[own])
    return figure
