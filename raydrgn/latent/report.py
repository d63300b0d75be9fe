"""Figures and report of the analysis of one epoch."""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from raydrgn.decoding.volume_sets import MadeSets, Progress, VolumeSet, central_slices
from raydrgn.latent.analysis import AnalysisSettings, LatentSpace
from raydrgn.latent.paths import TYPICAL_SUPPORT
from raydrgn.reporting import latent_figures
from raydrgn.reporting.analysis_results import kmeans_folder
from raydrgn.reporting.figures import learning_curve, sheet, slice_rows
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.metrics import read_losses
from raydrgn.run.reader import RunReader

Shown = list[tuple[Figure, str]]

TYPICAL = (
    f"A point is typical with {TYPICAL_SUPPORT} particles around it: within the distance at which "
    f"the median particle has its {TYPICAL_SUPPORT}th neighbour. A volume at a point with none "
    "around it is an extrapolation."
)


def write_analysis(
    run: RunReader,
    space: LatentSpace,
    settings: AnalysisSettings,
    folder: ResultFolder,
    *,
    sets: Sequence[VolumeSet] = (),
    made: MadeSets | None = None,
    progress: Progress | None = None,
) -> None:
    """Draw the figures into the folder, and ``report.html`` of them all."""
    say = progress or (lambda what, done, total: None)
    parts: list[Callable[[], Section]] = [
        lambda: _overview(space, folder),
        lambda: _cluster_section(space, settings, folder),
        lambda: _traversal_section(space, folder),
        lambda: _volume_section(folder, sets, made),
        lambda: _training_section(run, space, folder),
    ]
    sections = []
    for number, part in enumerate(parts, start=1):
        sections.append(part())
        say("figures", number, len(parts))
    write_report(
        folder.at("report.html"),
        title=f"{run.files.root}, epoch {space.epoch}",
        summary=_summary(space, settings, made),
        sections=[section for section in sections if section.figures or section.tables],
    )


def _summary(space: LatentSpace, settings: AnalysisSettings, made: MadeSets | None) -> str:
    sizes = space.clusters.sizes()
    share = 100 * space.components.explained
    said = [
        f"{len(space.z):,} particles in {space.z.shape[1]} dimensions. The first two components "
        f"explain {share[:2].sum():.0f} % of the variance. {settings.ksample} clusters of "
        f"{sizes.min():,} to {sizes.max():,} particles."
    ]
    if made and made.failures:
        said.append(f"{len(made.failures)} volumes could not be made; the command listed them.")
    return " ".join(said)


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
    rows = [
        (f"{k}", f"{100 * share:.1f} %", f"{100 * total:.1f} %")
        for k, (share, total) in enumerate(
            zip(space.components.explained, space.components.explained.cumsum(), strict=True),
            start=1,
        )
    ]
    table = ReportTable(head=("component", "of the variance", "up to here"), rows=rows)
    return Section(title="Latent space", figures=shown, tables=[table])


def _cluster_section(
    space: LatentSpace, settings: AnalysisSettings, folder: ResultFolder
) -> Section:
    shown: Shown = []
    clusters = space.clusters
    for name, axes, xy in space.embeddings():
        figure = latent_figures.clusters(axes, xy, clusters.labels, xy[clusters.rows])
        folder.write_figure(f"{kmeans_folder(settings.ksample)}/{name}.png", figure)
        shown.append((figure, "Coloured by cluster; numbers stand at the on-data centres."))
    sizes = clusters.sizes()
    rows = [
        (f"{k}", f"{size:,}", f"{100 * size / len(space.z):.2f} %", f"{row}")
        for k, (size, row) in enumerate(zip(sizes, clusters.rows, strict=True))
    ]
    head = ("cluster", "particles", "share", "particle at its centre")
    return Section(
        title=f"k-means, {settings.ksample} clusters",
        text="Numbered along the dendrogram of the centres, so that neighbours in number are "
        "neighbours in latent space.",
        figures=shown,
        tables=[ReportTable(head=head, rows=rows)],
    )


def _traversal_section(space: LatentSpace, folder: ResultFolder) -> Section:
    shown: Shown = []
    for line in space.traversals:
        for name, axes, xy in space.embeddings():
            places = space.places(name, line.z)
            if name == "z_pca" and line.component > 2:
                axes, xy, places = space.beside_first(line)
            figure = latent_figures.path(axes, xy, places, line.supported, typical=TYPICAL_SUPPORT)
            short = "pca" if name == "z_pca" else name
            folder.write_figure(f"pc{line.component}/{short}_traversal.png", figure)
            shown.append((figure, f"Points along component {line.component}."))
        if space.z.shape[1] == 1:
            figure = latent_figures.path_in_line(
                space.z, line.z, line.supported, typical=TYPICAL_SUPPORT
            )
            folder.write_figure(f"pc{line.component}/z_traversal.png", figure)
            shown.append((figure, "Points along the only dimension."))
    return Section(title="Along the components", text=TYPICAL, figures=shown)


def _volume_section(
    folder: ResultFolder, sets: Sequence[VolumeSet], made: MadeSets | None
) -> Section:
    if made is None:
        return Section(title="Volumes")
    shown: Shown = []
    for one, looks in zip(sets, made.previews, strict=True):
        figure = sheet(slice_rows(one.titles, central_slices(looks)))
        folder.write_figure(f"{one.folder.rsplit('/', 1)[-1]}/slices.png", figure)
        shown.append((figure, f"Central slices, {one.name}; open.cxc shows them in ChimeraX."))
    return Section(
        title="Volumes",
        text="Slices through the centre normal to each axis, each on its own grey scale.",
        figures=shown,
    )


def _training_section(run: RunReader, space: LatentSpace, folder: ResultFolder) -> Section:
    losses = read_losses(run.files)
    if not losses:
        return Section(title="Learning curve")
    figure = learning_curve(losses)
    folder.write_figure("learning_curve.png", figure)
    head = ("epoch", "total", "reconstruction", "kl")
    folder.write_table("learning_curve.csv", head, [[row[k] for k in head] for row in losses])
    caption = (
        "Mean over the particles of each epoch: squared error of the noisy images' Fourier "
        "coefficients, and KL divergence."
    )
    return Section(title="Learning curve", figures=[(figure, caption)])
