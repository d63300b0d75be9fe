"""Figures and report of components within one mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydrgn.io.masks import Mask
from raydrgn.landscape.components import VolumeComponents
from raydrgn.landscape.masked_results import SHOWN_COMPONENTS, ComponentSeries
from raydrgn.reporting.figures import PALETTE, explained_variance, scatter_by_value
from raydrgn.reporting.report import Section, explained_table, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedParticles:
    """Particles in two dimensions, and their coordinates along the components."""

    names: tuple[str, str]
    xy: Float[np.ndarray, "p 2"]
    coordinates: Float[np.ndarray, "p k"]


def write_masked_report(
    found: VolumeComponents,
    mask: Mask,
    folder: ResultFolder,
    *,
    title: str,
    series: Sequence[ComponentSeries],
    particles: EmbeddedParticles | None = None,
) -> None:
    """Draw the figures into the folder, and ``report.html`` of them all."""
    share = 100 * found.explained
    sections = [
        _components_section(found, mask, folder),
        *([_particle_section(found, particles, folder)] if particles else []),
        _volume_section(series, mask, folder),
    ]
    write_report(
        folder.at("report.html"),
        title=title,
        summary=f"{len(found.coordinates):,} volumes, {mask.num_voxels:,} voxels inside the "
        f"mask. The first component explains {share[0]:.0f} % of the variance there, the "
        f"first {len(share)} together {share.sum():.0f} %.",
        sections=sections,
    )


def _components_section(found: VolumeComponents, mask: Mask, folder: ResultFolder) -> Section:
    shown = []
    for name, figure, caption in (
        (
            "explained.png",
            explained_variance(found.explained, what="component"),
            "Share of the variance within the mask.",
        ),
        ("coordinates.png", _coordinates(found), "Each dot is a volume."),
        (
            "components.png",
            _component_slices(found, mask),
            "Change of density by one SD along each component, red less and blue "
            "more, on the slices that change most; line: the mask.",
        ),
    ):
        folder.write_figure(name, figure)
        shown.append((figure, caption))
    return Section(
        title="Components",
        text="The sign of a component is such that density grows along it.",
        figures=shown,
        tables=[explained_table(found.explained)],
    )


def _coordinates(found: VolumeComponents) -> Figure:
    scaled = found.coordinates / found.coordinates.std(axis=0)
    count = min(SHOWN_COMPONENTS, scaled.shape[1])
    figure = Figure(figsize=(2.9 * count, 2.7), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for component, axis in enumerate(axes):
        axis.hist(scaled[:, component], bins=30, color=PALETTE[0])
        axis.set(xlabel=f"component {component + 1}, SD", ylabel="volumes")
        axis.spines[["top", "right"]].set_visible(False)
    if count > 1:
        axis = axes[-1]
        axis.clear()
        size = float(np.clip(4000 / len(scaled), 1, 14))
        axis.scatter(scaled[:, 0], scaled[:, 1], s=size, color=PALETTE[0], linewidths=0)
        axis.set(xlabel="component 1, SD", ylabel="component 2, SD")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _component_slices(found: VolumeComponents, mask: Mask) -> Figure:
    count = min(SHOWN_COMPONENTS, len(found.explained))
    figure = Figure(figsize=(2.0 * count + 1.2, 6.4), layout="constrained")
    grid = figure.subplots(3, count, squeeze=False)
    window, drawn = _window(mask), None
    region = mask.inside[window]
    for component in range(count):
        change = found.change(component)[window]
        limit = float(np.percentile(np.abs(change[region]), 99.5)) or 1.0
        for side, name in enumerate("zyx"):
            others = tuple(a for a in range(3) if a != side)
            at = int(np.square(change).sum(axis=others).argmax())
            axis = grid[side, component]
            drawn = axis.imshow(
                change.take(at, side) / limit, cmap="RdBu", vmin=-1, vmax=1, origin="lower"
            )
            _outline(axis, region.take(at, side))
            head = f"component {component + 1}\n" if side == 0 else ""
            axis.set_title(f"{head}⊥ {name} at {at + window[side].start}", fontsize=8, pad=2)
    assert drawn is not None
    figure.colorbar(drawn, ax=grid, shrink=0.4, label="relative change")
    return figure


def _window(mask: Mask) -> tuple[slice, ...]:
    """Return the part of the box around a mask, with a margin of three voxels."""
    voxels = np.argwhere(mask.inside)
    first, last = voxels.min(axis=0) - 3, voxels.max(axis=0) + 4
    return tuple(
        slice(max(a, 0), min(b, len(mask.inside)))
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )


def _outline(axis: Axes, region: np.ndarray) -> None:
    axis.set_axis_off()
    if region.any() and not region.all():
        axis.contour(region, levels=[0.5], colors="black", linewidths=0.7)


def _series_slices(series: ComponentSeries, mask: Mask) -> Figure:
    """Draw volumes within the mask, cut at its middle, on one grey scale."""
    window = _window(mask)
    region = mask.inside[window]
    middle = [round(float(where.mean())) for where in np.nonzero(region)]
    boxes = np.full((len(series.rows), *region.shape), np.nan, dtype=np.float32)
    boxes[:, region] = series.rows
    low, high = (
        min(0.0, float(np.percentile(series.rows, 1))),
        float(np.percentile(series.rows, 99.5)),
    )
    figure = Figure(figsize=(1.3 * len(boxes) + 0.5, 4.3), layout="constrained")
    grid = figure.subplots(3, len(boxes), squeeze=False)
    for number, (box, title) in enumerate(zip(boxes, series.volumes.titles, strict=True)):
        for side, name in enumerate("zyx"):
            axis = grid[side, number]
            part = box.take(middle[side], side)
            axis.imshow(part, cmap="gray_r", vmin=low, vmax=high, origin="lower")
            _outline(axis, region.take(middle[side], side))
            if side == 0:
                axis.set_title(title, fontsize=8, pad=2)
            if number == 0:
                axis.text(-0.06, 0.5, f"⊥ {name}", transform=axis.transAxes, ha="right",
                          va="center", fontsize=9)  # fmt: skip
    return figure


def _particle_section(
    found: VolumeComponents, particles: EmbeddedParticles, folder: ResultFolder
) -> Section:
    shown = []
    for component in range(min(SHOWN_COMPONENTS, len(found.explained))):
        values = particles.coordinates[:, component] / found.coordinates[:, component].std()
        figure = scatter_by_value(
            particles.names[0].split()[0],
            particles.xy,
            values,
            label=f"component {component + 1}, SD",
        )
        folder.write_figure(f"pc{component + 1}/latents.png", figure)
        shown.append((figure, f"Particles coloured by voxel component {component + 1}."))
    return Section(
        title="In the latent space",
        text="Each particle has the coordinates of the volume of its k-means cluster, or of the "
        "volume with the nearest latent; particles.parquet lists them.",
        figures=shown,
    )


def _volume_section(series: Sequence[ComponentSeries], mask: Mask, folder: ResultFolder) -> Section:
    shown = []
    for along in series:
        figure = _series_slices(along, mask)
        folder.write_figure(f"{along.volumes.folder.rsplit('/', 1)[-1]}/slices.png", figure)
        caption = (
            f"Within the mask (line), cut at its middle, {along.volumes.name}, on one grey scale; "
            "open.cxc shows the whole volumes in ChimeraX."
        )
        shown.append((figure, caption))
    return Section(
        title="Volumes along the components",
        text="At each of ten percentiles of the coordinate, 5 to 95, the volume that is nearest.",
        figures=shown,
    )
