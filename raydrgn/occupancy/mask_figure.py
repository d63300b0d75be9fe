"""The outlines of subunits on slices of a map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from raydrgn.occupancy.masking import MaskSummary
from raydrgn.occupancy.table import short_names
from raydrgn.reporting.figures import PALETTE
from raydrgn.reporting.latent_figures import series_colours
from raydrgn.shapes import Float, Int

SLICES = 4
AXES = "zyx"
NAMES_PER_COLUMN = 28
VOXELS_OF_A_NAME = 6
"""Voxels of a mask on a slice from which its name fits inside."""


def mask_figure(
    volume: Float[np.ndarray, "d d d"],
    masks: Sequence[MaskSummary],
    *,
    pixel_size_angstrom: float,
) -> Figure:
    """Draw the outline of each mask on slices normal to z, y and x, spread over all masks."""
    count = len(masks)
    colours = list(PALETTE[:count]) if count <= len(PALETTE) else series_colours(count)
    voxels = [np.stack(np.unravel_index(mask.voxels, volume.shape)) for mask in masks]  # (3 m) each
    names = short_names(tuple(mask.name for mask in masks))
    in_masks = np.concatenate(voxels, axis=1)
    figure = Figure(figsize=(2.6 * SLICES + 2.2, 2.75 * 3 + 0.3), layout="constrained")
    limits = np.percentile(volume, (1, 99.8))
    for axis, line in enumerate(figure.subplots(3, SLICES)):
        others = [a for a in range(3) if a != axis]
        first, last = in_masks[axis].min(), in_masks[axis].max()
        for panel, number in zip(line, _slices(int(first), int(last)), strict=True):
            panel.imshow(
                volume.take(number, axis), cmap="gray_r", origin="lower", vmin=limits[0],
                vmax=limits[1], interpolation="nearest",
            )  # fmt: skip
            for of_mask, colour, name in zip(voxels, colours, names, strict=True):
                inside = of_mask[:, of_mask[axis] == number]
                if inside.size:
                    mask_slice = np.zeros((len(volume),) * 2)
                    mask_slice[inside[others[0]], inside[others[1]]] = 1
                    panel.contour(mask_slice, levels=[0.5], colors=[colour], linewidths=1.2)
                    if inside.shape[1] >= VOXELS_OF_A_NAME:
                        x, y = inside[others[1]].mean(), inside[others[0]].mean()
                        _write_name(panel, x, y, name, colour)
            position = number * pixel_size_angstrom
            panel.set_title(f"{AXES[axis]} = {position:.0f} Å", fontsize=9, pad=3)
            panel.set(
                xticks=[],
                yticks=[],
                xlim=_limits(in_masks[others[1]]),
                ylim=_limits(in_masks[others[0]]),
            )
        line[0].set_xlabel(f"{AXES[others[1]]} →", fontsize=8)
        line[0].set_ylabel(f"{AXES[others[0]]} →", fontsize=8)
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside right upper", fontsize=8, frameon=False,
        ncols=-(-count // NAMES_PER_COLUMN),
    )  # fmt: skip
    return figure


def _limits(voxels: Int[np.ndarray, " m"]) -> tuple[float, float]:
    """Return the range of the masks' voxels along an axis, with a margin."""
    margin = max(0.15 * float(np.ptp(voxels)), 3)
    return float(voxels.min()) - margin, float(voxels.max()) + margin


def _write_name(panel: Axes, x: float, y: float, name: str, colour: str) -> None:
    text = panel.text(x, y, name, color=colour, fontsize=7, ha="center", va="center", clip_on=True)
    text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])


def _slices(first: int, last: int) -> list[int]:
    return np.linspace(first, last, SLICES + 2).round().astype(int)[1:-1].tolist()
