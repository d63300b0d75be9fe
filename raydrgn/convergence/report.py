"""Figures, tables and report of a convergence analysis; figures have cryoDRGN's names."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from raydrgn.convergence import criteria as convergence
from raydrgn.convergence.epochs import Study
from raydrgn.fourier.shells import frequencies
from raydrgn.reporting.figures import PALETTE, Tile, sheet
from raydrgn.reporting.latent_figures import GREYS, HALO, path_colours, series_colours
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

COLUMNS = 5


def verdict(study: Study) -> str:
    """Say in a sentence or two whether training has converged."""
    judged = [finding for finding in study.findings if finding.is_judged]
    waiting = [finding for finding in judged if finding.settled_from is None]
    if study.is_converged:
        last = max(finding.settled_from or 0 for finding in judged)
        said = f"Converged at epoch {study.epoch}: every criterion has settled, from epoch {last}."
    else:
        named = "; ".join(f"{finding.criterion}: {finding.said}" for finding in waiting)
        said = f"Not converged at epoch {study.epoch}. {named[0].upper()}{named[1:]}."
    return " ".join([said, *study.cautions])


def write_convergence(
    run: RunReader, study: Study, folder: ResultFolder, *, pixel_size_angstrom: float
) -> None:
    """Write the tables, draw the figures, and make one report of them all."""
    head = ("criterion", "settled", "from_epoch", "said")
    folder.write_table(
        "verdict.csv",
        head,
        [
            (f.criterion, _answer(f), f.settled_from or "", f.said.replace(",", ";"))
            for f in study.findings
        ],
    )
    rows = [(f.criterion, _answer(f), f.said) for f in study.findings]
    rules = [convergence.CURVE_RULE, convergence.PAIRS_RULE, convergence.CAUTION_RULE]
    sections = [
        Section(
            title="Verdicts",
            text=" ".join([*rules, convergence.MEANING]),
            tables=[ReportTable(head=("criterion", "settled", ""), rows=rows)],
        ),
        _losses(study, folder),
        _embeddings(study, folder),
        _shifts(study, folder),
        _points(study, folder),
    ]
    if any(study.followed):
        sections += [
            _agreement(study, folder, pixel_size_angstrom),
            _overtraining(study, folder),
        ]
    write_report(
        folder.at("report.html"),
        title=f"{run.files.root}: convergence at epoch {study.epoch}",
        summary=verdict(study),
        sections=[part for part in sections if part.figures or part.tables],
    )


def _answer(finding: convergence.Finding) -> str:
    if not finding.is_judged:
        return "not judged"
    return "no" if finding.settled_from is None else "yes"


def _losses(study: Study, folder: ResultFolder) -> Section:
    if not study.losses:
        return Section(title="Total loss")
    head = ("epoch", "total", "reconstruction", "kl")
    folder.write_table("total_loss.csv", head, [[row[k] for k in head] for row in study.losses])
    epochs = [row["epoch"] for row in study.losses]
    figure = _curves(
        [("total loss", epochs, np.array([row["total"] for row in study.losses]))], study
    )
    folder.write_figure("plots/00_total_loss.png", figure)
    return Section(title="Total loss", figures=[(figure, "Mean over the particles of each epoch.")])


def _embeddings(study: Study, folder: ResultFolder) -> Section:
    count = len(study.examined)
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.1 * columns, 2.1 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=study.zdim > 1)
    cells: list[tuple[float, ...]] = []
    for axis in grid.ravel()[count:]:
        axis.set_axis_off()
    for axis, epoch, places in zip(grid.ravel(), study.examined, study.places, strict=False):
        _density(axis, places)
        axis.set_title(f"epoch {epoch}", fontsize=8)
        counts, edges = np.histogramdd(places, bins=convergence.BINS)
        for cell in np.argwhere(counts > 0):
            lower = [float(edge[k]) for edge, k in zip(edges, cell, strict=True)]
            cells.append((epoch, *lower, counts[tuple(cell)]))
    names = ("z",) if study.zdim == 1 else ("umap1", "umap2")
    folder.write_table("umap_density.csv", ("epoch", *names, "particles"), cells)
    folder.write_figure("plots/01_encoder_umaps.png", figure)
    what = "z" if study.zdim == 1 else "UMAP, each turned onto that of the last epoch"
    caption = f"Density of {len(study.subset):,} particles at intervals: {what}."
    return Section(title="Latent space through training", figures=[(figure, caption)])


def _density(
    axis: Axes, places: Float[np.ndarray, "s k"], *, cmap: str | Colormap = "viridis"
) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if places.shape[1] == 1:
        axis.hist(places[:, 0], bins=convergence.BINS, color=PALETTE[0])
        axis.set_xlabel("z", fontsize=8)
        return
    size = int(np.clip(len(places) ** 0.5 / 2, 20, 60))
    axis.hexbin(
        places[:, 0], places[:, 1], gridsize=size, bins="log", mincnt=1, cmap=cmap, linewidths=0.1
    )


def _shifts(study: Study, folder: ResultFolder) -> Section:
    shifts = study.shifts
    folder.write_table(
        "latent_shifts.csv",
        ("epoch", "dot_product", "magnitude", "cosine_distance"),
        list(zip(shifts.epochs, shifts.dot, shifts.magnitude, shifts.cosine_distance, strict=True)),
    )
    epochs = shifts.epochs.tolist()
    figure = _curves(
        [
            ("magnitude of latent shifts", epochs, shifts.magnitude),
            ("dot product of latent shifts", epochs, shifts.dot),
            ("cosine distance of latent shifts", epochs, shifts.cosine_distance),
        ],
        study,
    )
    folder.write_figure("plots/02_encoder_latent_vector_shifts.png", figure)
    caption = (
        "Medians over all particles: how far each moves in latent space from epoch to epoch, and "
        "how its step is directed to the one before (0: on in the same direction; 2: back)."
    )
    return Section(title="Latent shifts", figures=[(figure, caption)])


def _curves(
    curves: Sequence[tuple[str, Sequence[float], Float[np.ndarray, " e"]]], study: Study
) -> Figure:
    """Draw curves over epochs, and the epoch from which on each has settled."""
    figure = Figure(figsize=(3.6 * len(curves) + 0.6, 3.0), layout="constrained")
    found = {finding.criterion: finding.settled_from for finding in study.findings}
    for axis, (name, epochs, values) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True
    ):
        axis.plot(epochs, values, color=PALETTE[0], marker=".", markersize=4, linewidth=1)
        axis.set(xlabel="epoch", ylabel=name)
        axis.spines[["top", "right"]].set_visible(False)
        since = found.get(name)
        if since is not None:
            axis.axvspan(since, epochs[-1], color=PALETTE[2], alpha=0.12, linewidth=0)
            axis.set_title(f"settled from epoch {since}", fontsize=8)
    return figure


def _points(study: Study, folder: ResultFolder) -> Section:
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axis = figure.subplots()
    places = study.places[-1]
    _density(axis, places, cmap=GREYS)
    order = {int(row): k for k, row in enumerate(study.subset)}
    for name, row, colour in zip(
        study.names, study.rows[-1], series_colours(len(study.counts)), strict=True
    ):
        place = places[order[int(row)]]
        x, y = (float(place[0]), 0.0) if len(place) == 1 else place.tolist()
        axis.scatter([x], [y], s=26, color=colour, edgecolors="black", linewidths=0.7, zorder=5)
        axis.annotate(
            name, (x, y), xytext=(3.5, 3.5), textcoords="offset points", zorder=6,
            path_effects=HALO,
        )  # fmt: skip
    head = ("epoch", "point", "particle", *(f"z{k + 1}" for k in range(study.zdim)))
    folder.write_table(
        "points.csv",
        head,
        [
            (epoch, name, row, *z)
            for epoch, of_epoch, latents in zip(
                study.examined, study.rows, study.latents, strict=True
            )
            for name, row, z in zip(study.names, of_epoch, latents, strict=True)
        ],
    )
    for epoch, latents in zip(study.examined, study.latents, strict=True):
        name = f"repr_particles/latent_representative.{epoch}.txt"
        folder.write_numbers(name, latents, fmt="%.8e")
    folder.write_figure("plots/03_decoder_UMAP-sketching.png", figure)
    rows = [
        (name, f"{count:,}", str(row))
        for name, count, row in zip(study.names, study.counts, study.rows[-1], strict=True)
    ]
    return Section(
        title="Representative points",
        text="Maxima of the density in the last epoch. The members of each are followed through "
        "training; in each epoch the particle nearest to the median of them stands for all.",
        figures=[(figure, "Points, highest maximum first.")],
        tables=[ReportTable(head=("point", "members", "particle, last epoch"), rows=rows)],
    )


def _agreement(study: Study, folder: ResultFolder, pixel_size_angstrom: float) -> Section:
    names, later = study.followed_names, study.examined[1:]
    pairs = [f"{a}-{b}" for a, b in zip(study.examined, later, strict=False)]
    correlation, fsc = study.stacked("correlation"), study.stacked("fsc")
    shells = frequencies(2 * fsc.shape[-1]).numpy() / pixel_size_angstrom
    for name, values in (("correlation", correlation), ("fsc_at_nyquist", fsc[..., -1])):
        rows = [(pair, *of_pair) for pair, of_pair in zip(pairs, values.T, strict=True)]
        folder.write_table(f"{name}.csv", ("epochs", *names), rows)
    folder.write_table(
        "fsc.csv",
        ("point", "epochs", *(f"{f:.6f}" for f in shells)),
        [
            (name, pair, *curve)
            for name, of_point in zip(names, fsc, strict=True)
            for pair, curve in zip(pairs, of_point, strict=True)
        ],
    )
    figures = []
    for number, what, values in (
        ("05_decoder_CC", "correlation of volumes", correlation),
        ("07_decoder_FSC-nyquist", "FSC of volumes at Nyquist", fsc[..., -1]),
    ):
        figure = _point_curves(later, values, names, what)
        folder.write_figure(f"plots/{number}.png", figure)
        figures.append(
            (figure, "Each volume with that of the epoch looked at before; black: median.")
        )
    figure = _shell_curves(shells, np.median(fsc, axis=0), pairs)
    folder.write_figure("plots/06_decoder_FSC.png", figure)
    figures.insert(1, (figure, "Median over the points of the FSC of successive volumes."))
    rows = [
        (pair, f"{np.median(c):.3f}", f"{np.median(f):.3f}")
        for pair, c, f in zip(pairs, correlation.T, fsc[..., -1].T, strict=True)
    ]
    slices = study.stacked("slices")
    tiles = [
        (f"epoch {epoch}", [Tile(image=s, title=n) for n, s in zip(names, row, strict=True)])
        for epoch, row in zip(study.examined, slices.swapaxes(0, 1), strict=True)
    ]
    drawn = sheet(tiles, tile_inches=0.9)
    folder.write_figure("plots/08_volumes.png", drawn)
    figures.append((drawn, "Central slices normal to z."))
    return Section(
        title="Volumes",
        text="Each volume is multiplied by its own soft mask (3 voxels wider than the density, "
        "edge of 10 voxels).",
        figures=figures,
        tables=[ReportTable(head=("epochs", "median correlation", "at Nyquist"), rows=rows)],
    )


def _point_curves(
    epochs: Sequence[int], values: Float[np.ndarray, "points e"], names: Sequence[str], what: str
) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for name, curve, colour in zip(names, values, series_colours(len(names)), strict=True):
        axis.plot(epochs, curve, color=colour, marker=".", linewidth=0.9, label=name)
    axis.plot(epochs, np.median(values, axis=0), color="black", linewidth=2)
    axis.set(xlabel="epoch", ylabel=what)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def _shell_curves(
    shells: Float[np.ndarray, " s"], curves: Float[np.ndarray, "pairs s"], pairs: Sequence[str]
) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for pair, curve, colour in zip(pairs, curves, path_colours(len(pairs)), strict=True):
        axis.plot(shells, curve, color=colour, label=f"epochs {pair}")
    axis.set(xlabel="spatial frequency, 1/Å", ylabel="FSC", ylim=(min(-0.02, curves.min()), 1.02))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def _overtraining(study: Study, folder: ResultFolder) -> Section:
    signs = study.stacked("signs")
    head = ("epoch", "high_frequency_power_share", "deviation_outside_over_inside")
    medians = np.median(signs, axis=0)
    folder.write_table(
        "overtraining.csv",
        head,
        [(epoch, *row) for epoch, row in zip(study.examined, medians, strict=True)],
    )
    names = ("power at high frequencies, share", "deviation outside the mask, over inside")
    figures = []
    for number, (name, values) in enumerate(zip(names, signs.T, strict=True), start=9):
        figure = _point_curves(study.examined, values.T, study.followed_names, name)
        folder.write_figure(f"plots/{number:02d}_overtraining.png", figure)
        figures.append((figure, "Black: median over the points."))
    said = " ".join(study.cautions) or "Neither sign rises in late epochs."
    return Section(title="Over-training", text=said, figures=figures)
