"""The outlines of subunits on slices of a map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from raydrgn.occupancy.masking import Outline
from raydrgn.occupancy.table import short_names
from raydrgn.reporting.figures import PALETTE
from raydrgn.reporting.latent_figures import series_colours
from raydrgn.shapes import Float, Int

SLICES = 4
AXES = "zyx"
NAMES_PER_COLUMN = 28
VOXELS_OF_A_NAME = 6
"""Of a mask on a slice, from which it has room for its name."""


def outline_figure(
    volume: Float[np.ndarray, "d d d"],
    made: Sequence[Outline],
    *,
    pixel_size_angstrom: float,
) -> Figure:
    """Draw where each mask lies: slices normal to z, y and x, spread over all of the masks."""
    colours = list(PALETTE[: len(made)]) if len(made) <= len(PALETTE) else series_colours(len(made))
    places = [np.stack(np.unravel_index(one.voxels, volume.shape)) for one in made]  # (3 m) each
    names = short_names(tuple(one.name for one in made))
    every = np.concatenate(places, axis=1)
    figure = Figure(figsize=(2.6 * SLICES + 2.2, 2.75 * 3 + 0.3), layout="constrained")
    grey = np.percentile(volume, (1, 99.8))
    for axis, line in enumerate(figure.subplots(3, SLICES)):
        others = [a for a in range(3) if a != axis]
        first, last = every[axis].min(), every[axis].max()
        for panel, number in zip(line, _spread(int(first), int(last)), strict=True):
            panel.imshow(
                volume.take(number, axis), cmap="gray_r", origin="lower", vmin=grey[0],
                vmax=grey[1], interpolation="nearest",
            )  # fmt: skip
            for voxels, colour, name in zip(places, colours, names, strict=True):
                here = voxels[:, voxels[axis] == number]
                if here.size:
                    cut = np.zeros((len(volume),) * 2)
                    cut[here[others[0]], here[others[1]]] = 1
                    panel.contour(cut, levels=[0.5], colors=[colour], linewidths=1.2)
                    if here.shape[1] >= VOXELS_OF_A_NAME:
                        _name(panel, here[others[1]].mean(), here[others[0]].mean(), name, colour)
            position = number * pixel_size_angstrom
            panel.set_title(f"{AXES[axis]} = {position:.0f} Å", fontsize=9, pad=3)
            panel.set(
                xticks=[], yticks=[], xlim=_limits(every[others[1]]), ylim=_limits(every[others[0]])
            )
        line[0].set_xlabel(f"{AXES[others[1]]} →", fontsize=8)
        line[0].set_ylabel(f"{AXES[others[0]]} →", fontsize=8)
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside right upper", fontsize=8, frameon=False,
        ncols=-(-len(made) // NAMES_PER_COLUMN),
    )  # fmt: skip
    return figure


def _limits(places: Int[np.ndarray, " m"]) -> tuple[float, float]:
    """Return the range of places and a margin: more of the map than of the masks is not needed."""
    margin = max(0.15 * float(np.ptp(places)), 3)
    return float(places.min()) - margin, float(places.max()) + margin


def _name(panel: Axes, x: float, y: float, name: str, colour: str) -> None:
    text = panel.text(x, y, name, color=colour, fontsize=7, ha="center", va="center", clip_on=True)
    text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])


def _spread(first: int, last: int) -> list[int]:
    return np.linspace(first, last, SLICES + 2).round().astype(int)[1:-1].tolist()
