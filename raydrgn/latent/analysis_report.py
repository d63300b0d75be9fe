"""Volumes, figures and report of the analysis of one epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from raydrgn.decoding.volume_sets import MadeSets, VolumeSet, central_slices
from raydrgn.latent.analysis import LatentSpace
from raydrgn.latent.mask_report import MaskedDensity
from raydrgn.latent.paths import TYPICAL_SUPPORT
from raydrgn.latent.volume_densities import (
    DENSITIES,
    contrast_problem,
    streaked,
    write_densities,
)
from raydrgn.latent.volume_surfaces import surface_sheet, surfaces, write_path_movie
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting import latent_figures
from raydrgn.reporting.analysis_results import kmeans_folder
from raydrgn.reporting.figures import curve_caption, learning_curve, sheet, slice_rows
from raydrgn.reporting.latent_figures import path_colours, series_colours
from raydrgn.reporting.report import ReportTable, Section, explained_table, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Int
from raydrgn.wording import counted

Shown = list[tuple[Figure, str]]

TYPICAL = (
    "Particles around a point are counted within the distance at which the median particle has its "
    f"{TYPICAL_SUPPORT}th neighbour, so that {TYPICAL_SUPPORT} is typical. A volume at a point "
    "without particles around it (×) is an extrapolation."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysedRun:
    """What the report shows of a run beside its latents."""

    title: str
    losses: list[dict[str, float]]
    """Of each epoch of training; none where they are not known."""

    is_mixture: bool
    """Whether it is a mixture of factor analysers, and no autoencoder."""

    density: MaskedDensity | None
    """Of a mixture of factor analysers, with its mask; None of others."""

    seen: int | None = None
    """Images seen in training, as ``decoding.contrast`` counts them."""


def volume_sets(space: LatentSpace, folder: ResultFolder) -> list[VolumeSet]:
    """Return the volumes of an analysis: at cluster centres, and along components."""
    clusters, count = space.clusters, len(space.clusters.rows)
    centres = VolumeSet(
        name=f"k-means, {count} clusters",
        folder=folder.at(kmeans_folder(count)),
        z=space.z[clusters.rows],
        colours=series_colours(count),
        titles=[f"{k}: {100 * n / len(space.z):.1f} %" for k, n in enumerate(clusters.sizes())],
    )
    along = [
        VolumeSet(
            name=f"component {component}",
            folder=folder.at(path.name),
            z=path.z,
            colours=path_colours(len(path.z)),
            titles=[f"{k}" for k in range(len(path.z))],
        )
        for component, path in enumerate(space.paths, start=1)
    ]
    return [centres, *along]


def write_analysis(
    space: LatentSpace,
    folder: ResultFolder,
    *,
    numbers: Int[np.ndarray, " n"] | None,
    made: MadeSets | None,
    run: AnalysedRun,
    commands: Sequence[str],
    progress: Progress = silent,
) -> None:
    """Draw the figures into the folder, and ``report.html`` with all of them.

    Args:
        space: The latents, analysed.
        folder: Where the report goes.
        numbers: Of the particles in the original set; None if they are not known.
        made: The decoded ``volume_sets``; None if they were skipped.
        run: Whose latents they are.
        commands: What to do next, at the end of the report.
        progress: Called after each section.
    """
    parts: list[Callable[[], Section]] = [
        lambda: _overview(space, folder),
        lambda: _cluster_section(space, numbers, folder),
        lambda: _path_section(space, folder),
        lambda: _volume_section(space, made, folder),
        lambda: _training_section(run, folder),
    ]
    if (density := run.density) is not None:
        parts.insert(-1, lambda: density.section(folder))
    sections = []
    for number, part in enumerate(parts, start=1):
        sections.append(part())
        progress("figures", number, len(parts), unit="sections")
    sections = [section for section in sections if section.figures or section.tables]
    write_report(
        folder.at("report.html"),
        title=run.title,
        summary=_summary(space, made, volume_sets(space, folder), run.seen),
        sections=[*sections, Section(title="Next", commands="\n".join(commands))],
    )


def _summary(
    space: LatentSpace, made: MadeSets | None, sets: Sequence[VolumeSet], seen: int | None
) -> str:
    sizes = space.clusters.sizes()
    share = 100 * space.components.explained
    sentences = [
        f"{len(space.z):,} particles in {counted(space.z.shape[1], 'dimension')}. The first two "
        f"components explain {share[:2].sum():.0f} % of the variance. {len(sizes)} clusters of "
        f"{sizes.min():,} to {sizes.max():,} particles."
    ]
    if made and made.failures:
        sentences.append(
            f"{len(made.failures)} volumes could not be decoded; the command listed them."
        )
    if made and (problem := contrast_problem(made, seen=seen)):
        sentences.append(problem)
    elif made and (found := streaked(sets, made)):
        sentences.append(found)
    return " ".join(sentences)


def _overview(space: LatentSpace, folder: ResultFolder) -> Section:
    shown: Shown = []
    for name, axes, xy in space.embeddings():
        for suffix, draw, caption in (
            ("", latent_figures.scatter, "Each dot is a particle."),
            ("_hexbin", latent_figures.density, "Number of particles, logarithmic."),
            ("_marginals", latent_figures.marginals, "Density, and histograms of either axis."),
        ):
            figure = draw(axes, xy)
            folder.write_figure(f"{name}{suffix}.png", figure)
            if suffix != "_marginals":
                shown.append((figure, caption))
    histograms = latent_figures.latent_histograms(space.z)
    folder.write_figure("z_histograms.png", histograms)
    shown.append((histograms, "Distribution of each latent dimension."))
    table = explained_table(space.components.explained)
    return Section(title="Latent space", figures=shown, tables=[table])


def _cluster_section(
    space: LatentSpace, numbers: Int[np.ndarray, " n"] | None, folder: ResultFolder
) -> Section:
    shown: Shown = []
    clusters, count = space.clusters, len(space.clusters.rows)
    for name, axes, xy in space.embeddings():
        figure = latent_figures.clusters(axes, xy, clusters.labels, xy[clusters.rows])
        folder.write_figure(f"{kmeans_folder(count)}/{name}.png", figure)
        shown.append((figure, "Coloured by cluster; numbers mark the on-data centres."))
    originals = ["unknown"] * count if numbers is None else numbers[clusters.rows]
    rows = [
        (f"{k}", f"{size:,}", f"{100 * size / len(space.z):.2f} %", f"{row}", f"{original}")
        for k, (size, row, original) in enumerate(
            zip(clusters.sizes(), clusters.rows, originals, strict=True)
        )
    ]
    head = ("cluster", "particles", "share", "particle at its centre", "its original number")
    return Section(
        title=f"k-means, {count} clusters",
        text="Numbered along the dendrogram of the centres, so that clusters with adjacent numbers "
        "are close in latent space.",
        figures=shown,
        tables=[ReportTable(head=head, rows=rows)],
    )


def _path_section(space: LatentSpace, folder: ResultFolder) -> Section:
    shown: Shown = []
    for component, path in enumerate(space.paths, start=1):
        for name, axes, xy in space.embeddings():
            points = space.embed(name, path.z)
            if name == "z_pca" and component > 2:
                axes, xy, points = space.beside_first(component, path.z)
            figure = latent_figures.path(axes, xy, points, path.support, typical=TYPICAL_SUPPORT)
            short = "pca" if name == "z_pca" else name
            folder.write_figure(f"{path.name}/{short}_traversal.png", figure)
            shown.append((figure, f"Points along component {component}."))
        if space.z.shape[1] == 1:
            figure = latent_figures.path_in_line(
                space.z, path.z, path.support, typical=TYPICAL_SUPPORT
            )
            folder.write_figure(f"{path.name}/z_traversal.png", figure)
            shown.append((figure, "Points along the only dimension."))
    return Section(title="Along the components", text=TYPICAL, figures=shown)


def _volume_section(space: LatentSpace, made: MadeSets | None, folder: ResultFolder) -> Section:
    if made is None:
        return Section(title="Volumes")
    shown: Shown = []
    tables = []
    for volumes, previews in zip(volume_sets(space, folder), made.previews, strict=True):
        rows = slice_rows(volumes.titles, central_slices(previews))
        part = volumes.folder.rsplit("/", 1)[-1]
        if pictures := surfaces(volumes, previews):
            figure = surface_sheet(pictures)
            folder.write_figure(f"{part}/surfaces.png", figure)
            opens = f"{part}/open.cxc shows them in ChimeraX"
            if part != kmeans_folder(len(space.clusters.rows)):
                write_path_movie(pictures, volumes)
                opens += f"; {part}/movie.gif goes along the component"
            shown.append((figure, f"Isosurfaces, {volumes.name}, all at one level. {opens}."))
        for name, one_scale, scale in (
            ("slices", False, "each on its own grey scale"),
            ("slices_one_scale", True, "all on one grey scale: weak ones are dark"),
        ):
            figure = sheet(rows, one_scale=one_scale)
            folder.write_figure(f"{part}/{name}.png", figure)
            shown.append((figure, f"Central slices, {volumes.name}, {scale}."))
        tables.append(write_densities(volumes, previews, f"{part}/densities.csv", folder))
    return Section(
        title="Volumes",
        text=f"Slices are normal to each axis. {DENSITIES}",
        figures=shown,
        tables=tables,
    )


def _training_section(run: AnalysedRun, folder: ResultFolder) -> Section:
    losses = run.losses
    if not losses:
        return Section(title="Learning curve")
    figure = learning_curve(losses, is_mixture=run.is_mixture)
    folder.write_figure("learning_curve.png", figure)
    head = ("epoch", "total", "reconstruction", "kl")
    folder.write_table("learning_curve.csv", head, [[row[k] for k in head] for row in losses])
    caption = curve_caption(is_mixture=run.is_mixture)
    return Section(title="Learning curve", figures=[(figure, caption)])
