"""The outlines of subunits on slices of a map."""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outline:
    """The outline of a mask, as it is drawn."""

    voxels: Int[np.ndarray, "3 m"]
    """Of the mask, by z, y and x."""

    name: str
    colour: str
    box: int

    def draw(self, panel: Axes, axis: int, number: int) -> None:
        """Draw it on a slice normal to an axis, with its name if there is room; or nothing."""
        inside = self.voxels[:, self.voxels[axis] == number]
        if not inside.size:
            return
        rows, columns = (inside[other] for other in range(3) if other != axis)
        mask_slice = np.zeros((self.box, self.box))
        mask_slice[rows, columns] = 1
        panel.contour(mask_slice, levels=[0.5], colors=[self.colour], linewidths=1.2)
        if inside.shape[1] >= VOXELS_OF_A_NAME:
            _write_name(panel, columns.mean(), rows.mean(), self.name, self.colour)


def _outlines(masks: Sequence[MaskSummary], *, box: int) -> list[_Outline]:
    """Return the outlines of masks, each of its own colour."""
    count = len(masks)
    colours = list(PALETTE[:count]) if count <= len(PALETTE) else series_colours(count)
    names = short_names(tuple(mask.name for mask in masks))
    return [
        _Outline(
            voxels=np.stack(np.unravel_index(mask.voxels, (box, box, box))),
            name=name,
            colour=colour,
            box=box,
        )
        for mask, name, colour in zip(masks, names, colours, strict=True)
    ]


def mask_figure(
    volume: Float[np.ndarray, "d d d"],
    masks: Sequence[MaskSummary],
    *,
    pixel_size_angstrom: float,
) -> Figure:
    """Draw the outline of each mask on slices normal to z, y and x, spread over all masks."""
    outlines = _outlines(masks, box=len(volume))
    in_masks = np.concatenate([outline.voxels for outline in outlines], axis=1)
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
            for outline in outlines:
                outline.draw(panel, axis, number)
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
        Line2D([], [], color=outline.colour, linewidth=2, label=outline.name)
        for outline in outlines
    ]
    figure.legend(
        handles=handles, loc="outside right upper", fontsize=8, frameon=False,
        ncols=-(-len(masks) // NAMES_PER_COLUMN),
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
