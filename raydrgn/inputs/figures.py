"""Figures of maps and of the correlation of half maps."""

import io
from textwrap import fill

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from raydrgn.fourier.shells import frequencies
from raydrgn.inputs.resolution import Resolution
from raydrgn.inputs.verdict import Verdict
from raydrgn.shapes import Float

AXES = ("z", "y", "x")
CURVES = {
    "unmasked": ("no mask", "0.6", "-"),
    "spherical": ("sphere", "tab:cyan", "-"),
    "masked": ("mask", "tab:blue", "-"),
    "randomised": ("mask, random phases", "tab:red", "--"),
    "corrected": ("mask, corrected", "black", "-"),
}


def draw_curves(resolution: Resolution, given: Resolution | None = None) -> bytes:
    """Return a PNG of the correlation of the half maps over frequency.

    Args:
        resolution: The curves.
        given: Those of the same particles with the poses that were given.
    """
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axis = figure.subplots()
        shells = slice(2, None)
        frequency = frequencies(2 * len(resolution.masked)) / resolution.pixel_size_angstrom
        for name, (label, colour, style) in CURVES.items():
            curve = getattr(resolution, name)
            if name == "randomised" and not curve.any():
                continue
            axis.plot(frequency[shells], curve[shells], style, color=colour, label=label)
        if given is not None:
            _, colour, _ = CURVES["corrected"]
            curve = given.corrected[shells]
            axis.plot(frequency[shells], curve, ":", color=colour, label="the same, given poses")
        for threshold in (0.143, 0.5):
            axis.axhline(threshold, color="0.8", linewidth=0.8, zorder=0)
        axis.set(
            xlabel="spatial frequency (1/Å)",
            ylabel="Fourier shell correlation of half maps",
            ylim=(min(-0.05, float(resolution.corrected.min())), 1.05),
            xlim=(0, float(frequency[-1])),
            title=f"{resolution.at(0.143):.2f} Å at 0.143, {resolution.at(0.5):.2f} Å at 0.5",
        )
        axis.legend(frameon=False)
        ticks = [t for t in axis.get_xticks() if 0 < t <= frequency[-1]]
        top = axis.secondary_xaxis("top")
        top.set_xticks(ticks, [f"{1 / tick:.1f} Å" for tick in ticks])
        return _png(figure)


def draw_maps(
    volume: Float[np.ndarray, "d d d"],
    resolution: Resolution,
    verdict: Verdict,
    *,
    reference: Float[np.ndarray, "r r r"] | None = None,
) -> bytes:
    """Return a PNG of central slices and projections of a map, above those of its reference."""
    shown = [("map", volume)] + ([("reference", reference)] if reference is not None else [])
    problems = bool(verdict.problems)
    with mpl.rc_context({"font.size": 9}):
        text = "\n".join(fill(line, 150) for line in [*verdict.findings, *verdict.problems])
        height = 2.5 * len(shown) + 0.16 * (text.count("\n") + 1) + 0.45
        figure = Figure(figsize=(13, height), layout="constrained")
        grid = figure.subplots(len(shown), 6, squeeze=False)
        for row, (name, density) in zip(grid, shown, strict=True):
            _draw_row(row, density, name)
        figure.suptitle(
            text, ha="left", x=0.01, fontsize=9, color="darkred" if problems else "black"
        )
        field = volume.shape[-1] * resolution.pixel_size_angstrom
        figure.supxlabel(
            f"box {volume.shape[-1]} px, {resolution.pixel_size_angstrom:.3f} Å/px, "
            f"{field:.0f} Å wide; bright is dense; bar: a quarter of the box",
            fontsize=8,
        )
        return _png(figure)


def _draw_row(row: np.ndarray, density: Float[np.ndarray, "d d d"], name: str) -> None:
    centre = density.shape[0] // 2
    for i, along in enumerate(AXES):
        pictures = {
            f"{name}: slice, {along} = 0": np.take(density, centre, axis=i),
            f"{name}: projection along {along}": density.sum(axis=i),
        }
        across, down = AXES[2 if i < 2 else 1], AXES[1 if i == 0 else 0]
        for axis, (title, picture) in zip((row[i], row[3 + i]), pictures.items(), strict=True):
            low, high = np.percentile(picture, [0.1, 99.9])
            axis.imshow(picture, cmap="gray", origin="lower", vmin=low, vmax=high)
            axis.set_title(title, fontsize=8)
            axis.set(xticks=[], yticks=[], xlabel=f"{across} →", ylabel=f"{down} →")
            edge = picture.shape[0]
            axis.plot([0.05 * edge, 0.3 * edge], [0.05 * edge] * 2, color="orange", linewidth=2)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
