"""Figures of a run: latent spaces, learning curves, sheets of slices.

Each function returns a figure that pyplot does not manage, so that none has to be closed.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

DPI, PRINT_DPI = 110, 300
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#222222", "#44aa99",
    "#e8601c", "#7bafde", "#882e72", "#90c987",
)  # fmt: skip
"""Paul Tol's bright colours and some of his others; readable for colour-blind people."""

MANY = len(PALETTE)

LETTER_INCHES, TITLE_INCHES, GAP_INCHES = 0.08, 0.2, 0.08
"""On sheets: width of a letter of 9 points, height of a title, and the space between images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """An image on a sheet: intensities, or colours from 0 to 255."""

    image: Float[np.ndarray, "h w"] | Int[np.ndarray, "h w 3"]
    title: str = ""
    limits: tuple[float, float] | None = None
    """Values shown black and white; None takes the lowest and highest of the image."""

    def titled(self, title: str) -> "Tile":
        """Return the image under another title."""
        return replace(self, title=title)


def scatter_by_state(
    embeddings: Sequence[tuple[str, Float[np.ndarray, "n 2"]]],
    labels: Int[np.ndarray, " n"],
    names: Sequence[str],
) -> Figure:
    """Draw particles in several embeddings side by side, coloured by state.

    Args:
        embeddings: Axis name (such as ``UMAP``) and coordinates of each embedding.
        labels: State of each particle.
        names: Name of each state.
    """
    figure = Figure(figsize=(5.2 * len(embeddings) + 1.6, 4.8), layout="constrained")
    axes = figure.subplots(1, len(embeddings), squeeze=False)[0]
    states, sizes = np.unique(labels, return_counts=True)
    if len(states) > MANY:
        for axis, (name, xy) in zip(axes, embeddings, strict=True):
            points = axis.scatter(xy[:, 0], xy[:, 1], c=labels, cmap="viridis", s=4, linewidths=0)
            _name_axes(axis, name)
        figure.colorbar(points, ax=axes[-1], label="state")
        return figure
    for axis, (name, xy) in zip(axes, embeddings, strict=True):
        for order in np.argsort(-sizes):  # rare states on top
            rows = labels == states[order]
            axis.scatter(
                xy[rows, 0],
                xy[rows, 1],
                s=4 if sizes[order] > 0.05 * len(labels) else 9,
                color=PALETTE[states[order] % MANY],
                linewidths=0,
                label=f"{names[states[order]]} ({100 * sizes[order] / len(labels):.0f} %)",
            )
        _name_axes(axis, name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", markerscale=3)
    return figure


def scatter_by_value(
    name: str, xy: Float[np.ndarray, "n 2"], values: Float[np.ndarray, " n"], *, label: str
) -> Figure:
    """Draw particles coloured by a value; those whose value is not finite in grey."""
    figure = Figure(figsize=(6.2, 4.8), layout="constrained")
    axis = figure.subplots()
    known = np.isfinite(values)
    axis.scatter(xy[~known, 0], xy[~known, 1], s=3, color="#dddddd", linewidths=0)
    points = axis.scatter(
        xy[known, 0], xy[known, 1], c=values[known], cmap="viridis", s=6, linewidths=0
    )
    figure.colorbar(points, ax=axis, label=label)
    _name_axes(axis, name)
    return figure


def _name_axes(axis: Axes, name: str) -> None:
    axis.set_xlabel(f"{name} 1")
    axis.set_ylabel(f"{name} 2")
    axis.spines[["top", "right"]].set_visible(False)


def learning_curve(rows: Sequence[dict[str, float]], *, is_mixture: bool) -> Figure:
    """Draw the reconstruction error and the KL divergence of each finished epoch.

    Of a mixture of factor analysers it is the negative log-likelihood and the KL divergence: the
    fit estimates the noise, so that the squared error over its variance goes to 1, and may rise.
    """
    error = ("reconstruction", "reconstruction error")
    likelihood = ("total", "negative log-likelihood per point")
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    epochs = [row["epoch"] for row in rows]
    for axis, key, name, colour in (
        (left, *(likelihood if is_mixture else error), PALETTE[0]),
        (right, "kl", "KL divergence, nats", PALETTE[1]),
    ):
        axis.plot(epochs, [row[key] for row in rows], color=colour, marker=".")
        axis.set_ylabel(name, color=colour)
        axis.spines["top"].set_visible(False)
    label_epochs(left)
    return figure


def curve_caption(*, is_mixture: bool) -> str:
    """Return what the learning curve of a run shows."""
    if is_mixture:
        return (
            "Mean over the particles of each epoch: negative log-likelihood for each Fourier "
            "point, which the fit lowers, and KL divergence of latent and contrast from their "
            "priors."
        )
    return (
        "Mean over the particles of each epoch: squared error of the noisy images' Fourier "
        "coefficients, in units of their variance, and KL divergence."
    )


def label_epochs(axis: Axes) -> None:
    """Label the horizontal axis as one of epochs: whole numbers."""
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def explained_variance(share: Float[np.ndarray, " k"], *, what: str) -> Figure:
    """Draw the share of the variance that each component explains, and the cumulative share."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axis = figure.subplots()
    numbers = np.arange(1, len(share) + 1)
    axis.bar(numbers, 100 * share, color=PALETTE[0])
    axis.plot(numbers, 100 * share.cumsum(), color=PALETTE[1], marker=".", label="cumulative")
    axis.set(xlabel=what, ylabel="variance explained, %", ylim=(0, 102))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def fsc_figure(
    frequencies: Float[np.ndarray, " shells"],
    curves: Sequence[tuple[str, Float[np.ndarray, " shells"]]],
    *,
    pixel_size_angstrom: float,
) -> Figure:
    """Draw Fourier shell correlations over spatial frequency."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for number, (name, curve) in enumerate(curves):
        axis.plot(
            frequencies / pixel_size_angstrom, curve, label=name, color=PALETTE[number % MANY]
        )
    axis.set(xlabel="spatial frequency, 1/Å", ylabel="FSC", ylim=(-0.02, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def slice_rows(
    titles: Sequence[str],
    slices: Sequence[Float[np.ndarray, "3 d d"] | None],
    *,
    columns: int = 10,
) -> list[tuple[str, list[Tile]]]:
    """Return the central slices of volumes for ``sheet``: rows for each of three axes.

    Args:
        titles: One per volume.
        slices: Central slices normal to z, y and x of each; None where a volume is missing.
        columns: Volumes in a row.
    """
    rows = []
    for start in range(0, len(slices), columns):
        part = range(start, min(start + columns, len(slices)))
        for axis, name in enumerate("zyx"):
            tiles = [
                Tile(image=shown[axis], title=titles[number] if axis == 0 else "")
                for number in part
                if (shown := slices[number]) is not None
            ]
            rows.append((f"⊥ {name}", tiles))
    return rows


def sheet(
    rows: Sequence[tuple[str, Sequence[Tile]]],
    *,
    tile_inches: float = 1.25,
    one_scale: bool = False,
) -> Figure:
    """Draw images in named rows.

    Args:
        rows: Name and images of each row.
        tile_inches: Edge of an image; of one that is not square, its longer edge.
        one_scale: Whether all have one grey scale, from the lowest intensity of all to the highest;
            else each has its own.
    """
    every = [tile.image for _, tiles in rows for tile in tiles] if one_scale else []
    common = (min(map(np.min, every)), max(map(np.max, every))) if every else (None, None)
    columns = max([1, *(len(tiles) for _, tiles in rows)])
    names = [line for name, _ in rows for line in name.split("\n")]
    left = 0.1 + LETTER_INCHES * max(map(len, names))
    above = [TITLE_INCHES if any(t.title for t in tiles) else 0.0 for _, tiles in rows]
    step = tile_inches + GAP_INCHES
    width, height = left + columns * step + GAP_INCHES, sum(above) + len(rows) * step
    figure = Figure(figsize=(width, height))
    # One pair of axes in inches for all: a pair for each image takes ten times as long to draw.
    axis = figure.add_axes((0, 0, 1, 1))
    top = height
    for (name, tiles), title_inches in zip(rows, above, strict=True):
        top -= title_inches
        middle = top - tile_inches / 2
        axis.text(left - 0.05, middle, name, ha="right", va="center", fontsize=9)
        for number, tile in enumerate(tiles):
            x = left + number * step + tile_inches / 2
            shape = np.array(tile.image.shape[:2])
            high, wide = shape * tile_inches / shape.max() / 2
            low_value, high_value = tile.limits or common
            axis.imshow(
                tile.image,
                cmap="gray",
                origin="lower",
                interpolation="nearest",
                vmin=low_value,
                vmax=high_value,
                extent=(x - wide, x + wide, middle - high, middle + high),
                aspect="auto",
            )
            fits = tile_inches / LETTER_INCHES / max(len(tile.title), 1)
            axis.text(x, top + 0.04, tile.title, ha="center", fontsize=min(8.0, 9 * fits))
        top -= step
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.set_axis_off()
    return figure


_PRINTED: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()
"""PNG files of figures that were written: to make one of fewer pixels of it takes half the time."""


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, for a page."""
    printed = _PRINTED.get(figure)
    return _saved(figure, "png", DPI) if printed is None else _with_fewer_pixels(printed)


def write_figure(uri: Uri, figure: Figure) -> None:
    """Write a figure at a resolution fit to print, as PNG, SVG or PDF by its suffix."""
    kind = PurePosixPath(uri).suffix.removeprefix(".")
    content = _saved(figure, kind, PRINT_DPI)
    storage.write_bytes(uri, content)
    if kind == "png":
        _PRINTED[figure] = content


def _with_fewer_pixels(png: bytes) -> bytes:
    """Return a picture at the resolution of a page, unless it has that or less."""
    if PRINT_DPI <= DPI:
        return png
    smaller = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        wide, high = (max(1, round(pixels * DPI / PRINT_DPI)) for pixels in picture.size)
        page = picture.convert("RGB").resize((wide, high), Image.Resampling.LANCZOS)
        page.save(smaller, "png", dpi=(DPI, DPI))
    return smaller.getvalue()


def _saved(figure: Figure, kind: str, dpi: int) -> bytes:
    stream = io.BytesIO()
    # Without a date, and with ids that do not change, so that the same figure is the same file.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "raydrgn"}):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=dates.get(kind))
    figure.set_layout_engine("none")  # it is laid out: again, for a page, would take as long
    return stream.getvalue()
