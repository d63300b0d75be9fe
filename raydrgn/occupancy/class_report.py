"""Figures and report of volume classes and structural blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.clustering.embedding import principal_components
from raydrgn.decoding.volume_sets import MadeSets, VolumeSet
from raydrgn.occupancy import class_figures
from raydrgn.occupancy.block_model import ColouredModel, draw_models, write_coloured
from raydrgn.occupancy.class_results import ClassParticles, class_labels
from raydrgn.occupancy.classes import TwoWay, class_rows, pair_rows
from raydrgn.occupancy.clustering import EXACT_LIMIT, GROUPS
from raydrgn.occupancy.cooperativity import PERMUTATIONS
from raydrgn.occupancy.heat_map import heat_map
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

LISTED_PAIRS = 15
"""Pairs of each sign in the report; all are in correlations.csv."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Centroids:
    """Centroid volumes, and how they look."""

    volumes: VolumeSet
    made: MadeSets
    classes: Sequence[int]
    """Class of each volume."""


def write_class_report(
    found: TwoWay,
    folder: ResultFolder,
    *,
    title: str,
    particles: ClassParticles | None = None,
    run: RunReader | None = None,
    epoch: int | None = None,
    centroids: Centroids | None = None,
    coloured: Sequence[ColouredModel] = (),
    selected_particles: int | None = None,
    where: str | None = None,
) -> None:
    """Draw the figures into the folder, and ``report.html`` of them all.

    Args:
        found: Classes and blocks.
        folder: Where to.
        title: Of the report.
        particles: Of the run, by class.
        run: That was scored.
        epoch: Of the run.
        centroids: Volumes of the classes.
        coloured: Atomic models by block.
        selected_particles: How many the limits select.
        where: The limits.
    """
    sections = [
        _map_section(found, particles, folder),
        _centroid_section(centroids, folder),
        _particle_section(found, particles, run, epoch, folder),
        _block_section(found, coloured, folder),
        _pair_section(found, folder),
        _histogram_section(found, folder),
        _selection_section(found, where, selected_particles),
    ]
    write_report(
        folder.at("report.html"),
        title=title,
        summary=_summary(found, particles),
        sections=[s for s in sections if s is not None],
    )


def _summary(found: TwoWay, particles: ClassParticles | None) -> str:
    said = (
        f"{len(found.table):,} volumes × {len(found.table.subunits)} subunits: "
        f"{found.classes.count} volume classes (tree cut at {found.classes.threshold:.3g}) and "
        f"{found.blocks.count} structural blocks (cut at {found.blocks.threshold:.3g})."
    )
    if particles:
        smallest = int(np.argmin(particles.counts()))
        count = particles.counts()[smallest]
        share = 100 * count / max(len(particles.labels), 1)
        said += f" The rarest class, C{smallest + 1}, has {count:,} particles ({share:.1f} %)."
    return said


def _map_section(found: TwoWay, particles: ClassParticles | None, folder: ResultFolder) -> Section:
    labels = class_labels(found, particles)
    figure, profiles = heat_map(found, labels), class_figures.class_profiles(found, labels)
    folder.write_figure("heatmap.png", figure)
    folder.write_figure("class_means.png", profiles)
    text = (
        f"Occupancies are scaled and clipped: {_scale(found)}. "
        "Ward linkage of both axes, Euclidean; dashed lines show where the trees were cut. At "
        "every fork the fuller branch comes first, so that C1 begins with the most complete "
        "volumes."
    )
    if len(found.table) > EXACT_LIMIT:
        text += (
            f" There are more than {EXACT_LIMIT:,} volumes: the tree is that of "
            f"{len(found.classes.tree.sizes):,} groups made by k-means (of {GROUPS:,}), with "
            "their sizes, and neighbouring rows of the picture are averaged."
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


def _scale(found: TwoWay) -> str:
    """Return which occupancies became 0 and 1."""
    low, high = found.settings.percentiles
    if found.settings.scale == "column":
        return (
            f"white and 0 is the percentile {low:g} of each subunit, blue and 1 its percentile "
            f"{high:g} (blocks.csv lists these occupancies)"
        )
    return (
        f"white and 0 is {found.limits.low[0]:.4g}, the percentile {low:g} of all, blue and 1 is "
        f"{found.limits.high[0]:.4g}, the percentile {high:g}"
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
        "Central slices on one grey scale. The line is the outline of the first class; "
        "centroids/open.cxc shows the volumes in ChimeraX."
    )
    return Section(title="Centroid volumes", figures=[(figure, caption)])


def _particle_section(
    found: TwoWay,
    particles: ClassParticles | None,
    run: RunReader | None,
    epoch: int | None,
    folder: ResultFolder,
) -> Section | None:
    if particles is None or run is None or particles.members.z.shape[1] < 2:
        return None
    names, xy = embedding(run, epoch, particles.members.z)
    figure = class_figures.particles_by_class(names, xy, particles.labels, particles.centroids)
    folder.write_figure("particles.png", figure)
    text = (
        f"A particle's class is that of {particles.members.how}. CN/ind.pkl holds the particles of "
        "class N, numbered as in the set before any selection; labels.pkl the class of each."
    )
    caption = (
        "Marks: the particle of each class nearest to the median of its latents, whose volume is "
        "the centroid volume."
    )
    commands = "\n".join(
        (
            f"raydrgn export star PARTICLES.star --ind {folder.at('C1', 'ind.pkl')} -o C1.star",
            f"raydrgn train PARTICLES.star --ind {folder.at('C1', 'ind.pkl')} -o RUN_C1",
        )
    )
    return Section(
        title="Particles by class", text=text, figures=[(figure, caption)], commands=commands
    )


def embedding(
    run: RunReader, epoch: int | None, z: Float[np.ndarray, "p zdim"]
) -> tuple[tuple[str, str], Float[np.ndarray, "p 2"]]:
    """Return two dimensions to show particles in: the UMAP of ``analyze``, else two components."""
    places = AnalysisResults(run, epoch).umap(len(z))
    if places is not None:
        return ("UMAP 1", "UMAP 2"), places
    return ("PC 1", "PC 2"), principal_components(z).coordinates[:, :2]


def _block_section(
    found: TwoWay, coloured: Sequence[ColouredModel], folder: ResultFolder
) -> Section:
    rows = [
        (f"B{b}", f"{len(found.members(b))}", ", ".join(found.members(b)))
        for b in range(1, found.blocks.count + 1)
    ]
    shown = []
    if coloured:
        write_coloured(coloured, found.blocks.count, folder)
        figure = draw_models(coloured, found.blocks.count)
        folder.write_figure("model.png", figure)
        caption = "Atoms coloured by block, from three sides; blocks.cxc shows it in ChimeraX."
        shown.append((figure, caption))
    return Section(
        title="Structural blocks",
        figures=shown,
        tables=[ReportTable(head=("block", "subunits", "which"), rows=rows)],
    )


def _pair_section(found: TwoWay, folder: ResultFolder) -> Section:
    figure = class_figures.correlation_map(found)
    folder.write_figure("correlations.png", figure)
    shown = [(figure, "Dots: pairs that chance does not explain. Lines part the blocks.")]
    scatters = class_figures.pair_scatters(found)
    if scatters is not None:
        folder.write_figure("pairs.png", scatters)
        shown.append((scatters, "The strongest pairs within and between blocks; colour: class."))
    text = (
        "Pearson correlation of clipped occupancies over volumes: positive where subunits come "
        "together, negative where they exclude each other. Tested against "
        f"{PERMUTATIONS:,} permutations of each column on {found.pairs.rows:,} volumes; p values "
        "are adjusted by the largest correlation in each permutation (Westfall and Young), so "
        "that the chance of any false call among all pairs is at most 5 %. With many volumes small "
        "correlations are called too: look at r."
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


def _histogram_section(found: TwoWay, folder: ResultFolder) -> Section:
    figure = class_figures.histograms(found)
    folder.write_figure("histograms.png", figure)
    text = "Before clipping; dotted lines at 0 and 1. Limits of --where are on this scale."
    return Section(
        title="Occupancy of each subunit",
        text=text,
        figures=[(figure, "Number of volumes over scaled occupancy; colour: block.")],
    )


def _selection_section(
    found: TwoWay, where: str | None, selected_particles: int | None
) -> Section | None:
    if found.selected is None or where is None:
        return None
    said = f"{int(found.selected.sum()):,} volumes are within the limits {where}"
    if selected_particles is not None:
        said += f"; they stand for {selected_particles:,} particles, listed in ind.pkl"
    return Section(
        title="Selection",
        text=f"{said}.",
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
