"""Figures and report of volume classes and structural blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.occupancy import class_figures
from raydrgn.occupancy.block_model import BlockModel
from raydrgn.occupancy.centroids import Centroids
from raydrgn.occupancy.class_tables import class_titles
from raydrgn.occupancy.classes import OccupancyClasses, class_rows, pair_rows
from raydrgn.occupancy.clustering import EXACT_LIMIT, GROUPS
from raydrgn.occupancy.cooperativity import PERMUTATIONS, USUAL
from raydrgn.occupancy.heat_map import heat_map
from raydrgn.occupancy.membership import ClassParticles
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float

LISTED_PAIRS = 15
"""Pairs of each sign in the report; all are in correlations.csv."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContent:
    """Content of the report; parts that a table does not allow are None or empty."""

    title: str
    found: OccupancyClasses
    particles: ClassParticles | None = None
    embedding: tuple[tuple[str, str], Float[np.ndarray, "p 2"]] | None = None
    """Names of two axes, and the coordinates of the particles."""

    centroids: Centroids | None = None
    models: Sequence[BlockModel] = ()
    num_selected: int | None = None
    """Particles of the selected volumes."""

    commands: Sequence[str] = ()
    """What usually comes after."""


def write_class_report(content: ReportContent, folder: ResultFolder) -> None:
    """Draw the figures into the folder, and ``report.html`` with all of them."""
    found, particles = content.found, content.particles
    sections = [
        _map_section(found, particles, folder),
        _centroid_section(content.centroids, folder),
        _particle_section(content, folder),
        _block_section(found, content.models, folder),
        _pair_section(found, folder),
        _histogram_section(found, folder),
        _selection_section(found, content.num_selected),
        Section(title="Next", commands="\n".join(content.commands)),
    ]
    write_report(
        folder.at("report.html"),
        title=content.title,
        summary=_summary(found, particles),
        sections=[s for s in sections if s is not None],
    )


def _summary(found: OccupancyClasses, particles: ClassParticles | None) -> str:
    text = (
        f"{len(found.table):,} volumes × {len(found.table.subunits)} subunits: "
        f"{found.classes.count} volume classes (tree cut at {found.classes.threshold:.3g}) and "
        f"{found.blocks.count} structural blocks (cut at {found.blocks.threshold:.3g})."
    )
    if particles:
        counts = particles.counts()
        smallest = int(np.argmin(counts))
        count = counts[smallest]
        share = 100 * count / max(sum(counts), 1)
        text += f" The rarest class, C{smallest + 1}, has {count:,} particles ({share:.1f} %)."
    return text


def _map_section(
    found: OccupancyClasses, particles: ClassParticles | None, folder: ResultFolder
) -> Section:
    titles = class_titles(found, particles)
    figure, profiles = heat_map(found, titles), class_figures.class_profiles(found, titles)
    folder.write_figure("heatmap.png", figure)
    folder.write_figure("class_means.png", profiles)
    text = (
        f"Occupancies are scaled and clipped: {_scale(found)}. "
        "Ward linkage of Euclidean distances along both axes; dashed lines show where the trees "
        "are cut. At every fork the branch of larger occupancy comes first, so that C1 begins with "
        "the most complete volumes."
    )
    if len(found.table) > EXACT_LIMIT:
        text += (
            f" Since there are more than {EXACT_LIMIT:,} volumes, the tree is that of "
            f"{len(found.classes.tree.sizes):,} groups by k-means (K = {GROUPS:,}), weighted by "
            "their sizes, and neighbouring rows of the heat map are averaged."
        )
    head = ["class", "volumes", "share"]
    rows = class_rows(found, particles.counts() if particles else None)
    if particles:
        head += ["particles", "share of particles"]
    table = ReportTable(
        head=(*head, "blocks at least half occupied"), rows=[_row(row) for row in rows]
    )
    shown = [
        (figure, "Volumes in rows, subunits in columns; classes right, structural blocks on top."),
        (profiles, "Mean occupancy of each subunit in each class, %."),
    ]
    return Section(title="Classes and blocks", text=text, figures=shown, tables=[table])


def _scale(found: OccupancyClasses) -> str:
    """Return which occupancies became 0 and 1."""
    low, high = found.options.percentiles
    whole = " of the whole table" if found.is_part else ""
    if found.options.scale == "column":
        return (
            f"0 (white) is percentile {low:g} of each subunit{whole}, and 1 (blue) is percentile "
            f"{high:g}; blocks.csv lists these occupancies"
        )
    return (
        f"0 (white) is {found.scaling.low[0]:.4g}, percentile {low:g} of all occupancies{whole}, "
        f"and 1 (blue) is {found.scaling.high[0]:.4g}, percentile {high:g}"
    )


def _row(row: Sequence[object]) -> list[str]:
    return [
        f"{100 * cell:.1f} %"
        if isinstance(cell, float)
        else f"{cell:,}"
        if isinstance(cell, int)
        else str(cell)
        for cell in row
    ]


def _centroid_section(centroids: Centroids | None, folder: ResultFolder) -> Section | None:
    if centroids is None:
        return None
    figure = class_figures.centroid_sheet(
        centroids.made.previews[0], centroids.volumes.titles, centroids.volumes.colours
    )
    if figure is None:
        return None
    folder.write_figure("centroids/slices.png", figure)
    caption = (
        "Central slices on one grey scale. The line is the outline of the first class. Open "
        "centroids/open.cxc in ChimeraX to see the volumes."
    )
    return Section(title="Centroid volumes", figures=[(figure, caption)])


def _particle_section(content: ReportContent, folder: ResultFolder) -> Section | None:
    particles = content.particles
    if particles is None or content.embedding is None:
        return None
    names, xy = content.embedding
    figure = class_figures.particles_by_class(names, xy, particles.labels, particles.centroids)
    folder.write_figure("particles.png", figure)
    text = (
        f"The class of a particle is that of {particles.members.volume_kind}. CN/ind.pkl contains "
        "the particles of class N by their numbers in the original set; labels.pkl contains the "
        "class of each particle of the run."
    )
    caption = (
        "Circles: the particle of each class that is nearest to the median of its latents. Its "
        "volume is the centroid volume."
    )
    return Section(title="Particles by class", text=text, figures=[(figure, caption)])


def _block_section(
    found: OccupancyClasses, models: Sequence[BlockModel], folder: ResultFolder
) -> Section:
    rows = [
        (f"B{b}", f"{len(found.members(b))}", ", ".join(found.members(b)))
        for b in range(1, found.blocks.count + 1)
    ]
    shown = []
    if models:
        figure = class_figures.draw_models(models, found.blocks.count)
        folder.write_figure("model.png", figure)
        caption = (
            "Atoms coloured by block, from three sides. Open blocks.cxc in ChimeraX to see the "
            "model."
        )
        shown.append((figure, caption))
    return Section(
        title="Structural blocks",
        figures=shown,
        tables=[ReportTable(head=("block", "subunits", "names"), rows=rows)],
    )


def _pair_section(found: OccupancyClasses, folder: ResultFolder) -> Section:
    figure = class_figures.correlation_map(found)
    folder.write_figure("correlations.png", figure)
    caption = "Dots: significant pairs. Lines separate the blocks. Grey: not tested."
    shown = [(figure, caption)]
    scatters = class_figures.pair_scatters(found)
    if scatters is not None:
        folder.write_figure("pairs.png", scatters)
        shown.append((scatters, "The strongest pairs within and between blocks, by class."))
    text = (
        "Pearson correlation of clipped occupancies over volumes: positive where subunits occur "
        "together, negative where they exclude each other. Tested against "
        f"{PERMUTATIONS:,} permutations of each column on {found.pairs.rows:,} volumes. P values "
        "are adjusted by the largest correlation in each permutation (Westfall and Young), so "
        "that the chance of one or more false positives among all pairs is at most 5 %. With many "
        "volumes small correlations are significant too: consider r."
    )
    constant = [
        name
        for name, tested in zip(found.table.labels, found.pairs.tested, strict=True)
        if not tested
    ]
    if constant:
        low, high = USUAL
        text += (
            f" Present, or absent, in all volumes (but {low + 100 - high:g} %): not tested: "
            f"{', '.join(constant)}."
        )
    rows = [row for row in pair_rows(found) if row[4]]
    listed = [
        *[row for row in rows if row[2] > 0][:LISTED_PAIRS],
        *[row for row in rows if row[2] < 0][:LISTED_PAIRS],
    ]
    table = ReportTable(
        head=("subunit", "with", "r", "adjusted p"),
        rows=[(a, b, f"{r:+.2f}", f"{p:.3f}") for a, b, r, p, _ in listed],
    )
    return Section(
        title="Cooperativity", text=text, figures=shown, tables=[table] if listed else []
    )


def _histogram_section(found: OccupancyClasses, folder: ResultFolder) -> Section:
    figure = class_figures.histograms(found)
    folder.write_figure("histograms.png", figure)
    text = "Before clipping; dotted lines at 0 and 1. Conditions of --where use this scale."
    return Section(
        title="Occupancy of each subunit",
        text=text,
        figures=[(figure, "Number of volumes over scaled occupancy; colour: block.")],
    )


def _selection_section(found: OccupancyClasses, num_selected: int | None) -> Section | None:
    if found.selected is None:
        return None
    text = f"{int(found.selected.sum()):,} volumes fulfil {found.options.where}"
    if num_selected is not None:
        text += f"; their {num_selected:,} particles are in ind.pkl"
    return Section(
        title="Selection",
        text=f"{text}.",
        tables=[
            ReportTable(
                head=("class", "volumes selected", "of"),
                rows=[
                    (f"C{c}", f"{int(found.selected[found.rows_of(c)].sum()):,}",
                     f"{len(found.rows_of(c)):,}")
                    for c in range(1, found.classes.count + 1)
                ],
            )
        ],
    )  # fmt: skip
