"""Figures, tables and report of a convergence analysis; figures have cryoDRGN's names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from raydrgn.convergence import criteria
from raydrgn.convergence.epochs import Convergence
from raydrgn.convergence.verdict import verdict
from raydrgn.errors import InputError
from raydrgn.fourier.shells import frequencies
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_csv_rows
from raydrgn.reporting.figures import PALETTE, Tile, label_epochs, sheet
from raydrgn.reporting.latent_figures import GREYS, HALO, path_colours, series_colours
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

COLUMNS = 5
VERDICT = "verdict.csv"

RULES = (
    criteria.CURVE_RULE,
    criteria.PAIRS_RULE,
    criteria.OVERFITTING_RULE,
    criteria.MEANING,
)
"""How an autoencoder is judged."""

RULES_OF_MIXTURE = (criteria.LIKELIHOOD_RULE,)
"""How a mixture of factor analysers is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedVerdict:
    """Whether training has converged, as a folder of results has it."""

    epoch: int
    is_converged: bool
    open_criteria: list[str]
    """Criteria that have not converged."""

    def short(self) -> str:
        """Return the verdict in a few words."""
        return f"{'converged' if self.is_converged else 'not converged'} at {self.epoch}"


def read_verdict(folder: Uri, epoch: int) -> RecordedVerdict | None:
    """Return the verdict on an epoch from a folder of results; None if it is not finished."""
    uri = storage.join(folder, VERDICT)
    if not storage.exists(uri):
        return None
    head, *cells = read_csv_rows(uri, wanted="a table of `convergence`") or [[]]
    try:
        rows = [dict(zip(head, row, strict=True)) for row in cells if row]
        answers = {row["criterion"]: row["converged"] for row in rows}
    except (LookupError, ValueError) as error:
        raise InputError(f"{uri} is damaged; make it again with `raydrgn convergence`.") from error
    open_ = [name for name, answer in answers.items() if answer not in ("yes", "not judged")]
    is_converged = "yes" in answers.values() and not open_
    return RecordedVerdict(epoch=epoch, is_converged=is_converged, open_criteria=open_)


def write_convergence(
    run: RunReader, found: Convergence, folder: ResultFolder, *, pixel_size_angstrom: float
) -> None:
    """Write the tables, draw the figures, and make one report of them all."""
    sections = [
        _verdicts(found, folder),
        _embeddings(found, folder),
        _shifts(found, folder),
        _points(found, folder),
    ]
    if found.has_volumes:
        sections += [
            _agreement(found, folder, pixel_size_angstrom),
            _overfitting(found, folder),
        ]
    rules = RULES_OF_MIXTURE if run.is_mixture else RULES
    sections.append(Section(title="How it is judged", text=" ".join(rules)))
    sections.append(Section(title="Next", commands="\n".join(found.commands)))
    write_report(
        folder.at("report.html"),
        title=f"{run.files.root}: convergence at epoch {found.epoch}",
        summary=_summary(found),
        sections=[
            part for part in sections if part.figures or part.tables or part.text or part.commands
        ],
    )


def _summary(found: Convergence) -> str:
    waiting = [f"{finding.criterion}: {finding.text}" for finding in found.findings
               if finding.is_open]  # fmt: skip
    listed = "; ".join(waiting)
    detail = [f"{listed[0].upper()}{listed[1:]}."] if listed else []
    return " ".join([verdict(found), *detail, *found.warnings])


def _verdicts(found: Convergence, folder: ResultFolder) -> Section:
    """Write what is found by each criterion, and show it with the losses."""
    folder.write_table(
        VERDICT,
        ("criterion", "converged", "from_epoch", "explanation"),
        [
            (f.criterion, _answer(f), f.converged_from or "", f.text.replace(",", ";"))
            for f in found.findings
        ],
    )
    rows = [(f.criterion, _answer(f), f.text) for f in found.findings]
    return Section(
        title="Verdicts",
        figures=_losses(found, folder),
        tables=[ReportTable(head=("criterion", "converged", ""), rows=rows)],
    )


def _answer(finding: criteria.Finding) -> str:
    if not finding.is_judged:
        return "not judged"
    if finding.is_early:
        return "too early"
    return "no" if finding.is_open else "yes"


def _losses(found: Convergence, folder: ResultFolder) -> list[tuple[Figure, str]]:
    """Write the losses as a table, and return their curve for the report; none if not known."""
    if not found.losses:
        return []
    head = ("epoch", "total", "reconstruction", "kl")
    folder.write_table("total_loss.csv", head, [[row[k] for k in head] for row in found.losses])
    epochs = [row["epoch"] for row in found.losses]
    figure = _curves(
        [("total loss", epochs, np.array([row["total"] for row in found.losses]))], found
    )
    folder.write_figure("plots/00_total_loss.png", figure)
    return [(figure, "Total loss: mean over the particles of each epoch.")]


def _embeddings(found: Convergence, folder: ResultFolder) -> Section:
    count = len(found.examined)
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.1 * columns, 2.1 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=found.zdim > 1)
    cells: list[tuple[float, ...]] = []
    for axis in grid.ravel()[count:]:
        axis.set_axis_off()
    for axis, epoch, embedding in zip(grid.ravel(), found.examined, found.embeddings, strict=False):
        _density(axis, embedding)
        axis.set_title(f"epoch {epoch}", fontsize=8)
        counts, edges = np.histogramdd(embedding, bins=criteria.BINS)
        for cell in np.argwhere(counts > 0):
            lower = [float(edge[k]) for edge, k in zip(edges, cell, strict=True)]
            cells.append((epoch, *lower, counts[tuple(cell)]))
    names = ("z",) if found.zdim == 1 else ("umap1", "umap2")
    folder.write_table("umap_density.csv", ("epoch", *names, "particles"), cells)
    folder.write_figure("plots/01_encoder_umaps.png", figure)
    what = "z" if found.zdim == 1 else "UMAP, each turned onto that of the last epoch"
    caption = f"Density of {len(found.subset):,} particles at intervals: {what}."
    return Section(title="Latent space through training", figures=[(figure, caption)])


def _density(
    axis: Axes, embedding: Float[np.ndarray, "s k"], *, cmap: str | Colormap = "viridis"
) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if embedding.shape[1] == 1:
        axis.hist(embedding[:, 0], bins=criteria.BINS, color=PALETTE[0])
        axis.set_xlabel("z", fontsize=8)
        return
    size = int(np.clip(len(embedding) ** 0.5 / 2, 20, 60))
    axis.hexbin(*embedding.T, gridsize=size, bins="log", mincnt=1, cmap=cmap, linewidths=0.1)


def _shifts(found: Convergence, folder: ResultFolder) -> Section:
    shifts = found.shifts
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
        found,
    )
    folder.write_figure("plots/02_encoder_latent_vector_shifts.png", figure)
    caption = (
        "Medians over all particles: how far each moves in latent space from epoch to epoch, and "
        "the direction of its step relative to the step before (0: the same; 2: opposite)."
    )
    return Section(title="Latent shifts", figures=[(figure, caption)])


def _curves(
    curves: Sequence[tuple[str, Sequence[float], Float[np.ndarray, " e"]]], found: Convergence
) -> Figure:
    """Draw curves over epochs, and the epoch from which on each has converged."""
    figure = Figure(figsize=(3.6 * len(curves) + 0.6, 3.0), layout="constrained")
    converged = {finding.criterion: finding.converged_from for finding in found.findings}
    for axis, (name, epochs, values) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True
    ):
        axis.plot(epochs, values, color=PALETTE[0], marker=".", markersize=4, linewidth=1)
        axis.set_ylabel(name)
        label_epochs(axis)
        axis.spines[["top", "right"]].set_visible(False)
        since = converged.get(name)
        if since is not None:
            axis.axvspan(since, epochs[-1], color=PALETTE[2], alpha=0.12, linewidth=0)
            axis.set_title(f"converged from epoch {since}", fontsize=8)
    return figure


def _points(found: Convergence, folder: ResultFolder) -> Section:
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axis = figure.subplots()
    embedding = found.embeddings[-1]
    _density(axis, embedding, cmap=GREYS)
    order = {int(row): k for k, row in enumerate(found.subset)}
    for name, row, colour in zip(
        found.names, found.rows[-1], series_colours(len(found.counts)), strict=True
    ):
        point = embedding[order[int(row)]]
        x, y = (float(point[0]), 0.0) if len(point) == 1 else point.tolist()
        axis.scatter([x], [y], s=26, color=colour, edgecolors="black", linewidths=0.7, zorder=5)
        axis.annotate(
            name, (x, y), xytext=(3.5, 3.5), textcoords="offset points", zorder=6,
            path_effects=HALO,
        )  # fmt: skip
    _write_points(found, folder)
    for epoch, latents in zip(found.examined, found.latents, strict=True):
        name = f"repr_particles/latent_representative.{epoch}.txt"
        folder.write_numbers(name, latents, fmt="%.8e")
    folder.write_figure("plots/03_decoder_UMAP-sketching.png", figure)
    numbers = found.rows[-1] if found.original is None else found.original[-1]
    rows = [
        (name, f"{count:,}", str(row), str(number) if found.original is not None else "–")
        for name, count, row, number in zip(
            found.names, found.counts, found.rows[-1], numbers, strict=True
        )
    ]
    return Section(
        title="Representative points",
        text="Maxima of the density in the last epoch. The members of each are followed through "
        "training; in each epoch the particle nearest to the median of them stands for all.",
        figures=[(figure, "Points, highest maximum first.")],
        tables=[
            ReportTable(
                head=("point", "members", "particle, last epoch", "in the original set"), rows=rows
            )
        ],
    )


def _write_points(found: Convergence, folder: ResultFolder) -> None:
    """Write the representative particles of each epoch; without a known selection no number."""
    names = ("epoch", "point", "particle", "original", *(f"z{k + 1}" for k in range(found.zdim)))
    rows: list[Sequence[object]] = []
    for number, epoch in enumerate(found.examined):
        for point, name in enumerate(found.names):
            original = "" if found.original is None else found.original[number, point]
            row = found.rows[number, point]
            rows.append((epoch, name, row, original, *found.latents[number, point]))
    folder.write_table("points.csv", names, rows)


def _agreement(found: Convergence, folder: ResultFolder, pixel_size_angstrom: float) -> Section:
    pairs = [f"{a}-{b}" for a, b in zip(found.examined, found.examined[1:], strict=False)]
    correlation, fsc = found.stacked("correlation"), found.stacked("fsc")
    shells = frequencies(2 * fsc.shape[-1]).numpy() / pixel_size_angstrom
    _write_agreement(found, pairs, shells, folder)
    rows = [
        (pair, f"{np.median(c):.3f}", f"{np.median(f):.3f}")
        for pair, c, f in zip(pairs, correlation.T, fsc[..., -1].T, strict=True)
    ]
    return Section(
        title="Volumes",
        text="Each volume is multiplied by its own soft mask (3 voxels wider than the density, "
        "edge of 10 voxels).",
        figures=_agreement_figures(found, pairs, shells, folder),
        tables=[ReportTable(head=("epochs", "median correlation", "at Nyquist"), rows=rows)],
    )


def _write_agreement(
    found: Convergence, pairs: Sequence[str], shells: np.ndarray, folder: ResultFolder
) -> None:
    """Write how volumes of successive epochs agree, as numbers."""
    names = found.compared_names
    correlation, fsc = found.stacked("correlation"), found.stacked("fsc")
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


def _agreement_figures(
    found: Convergence, pairs: Sequence[str], shells: np.ndarray, folder: ResultFolder
) -> list[tuple[Figure, str]]:
    """Draw how volumes of successive epochs agree, and the volumes."""
    names, later = found.compared_names, found.examined[1:]
    correlation, fsc = found.stacked("correlation"), found.stacked("fsc")
    figures = []
    for number, what, values in (
        ("05_decoder_CC", "correlation of volumes", correlation),
        ("07_decoder_FSC-nyquist", "FSC of volumes at Nyquist", fsc[..., -1]),
    ):
        figure = _point_curves(later, values, names, what)
        folder.write_figure(f"plots/{number}.png", figure)
        figures.append(
            (figure, "Each volume with that of the examined epoch before; black: median.")
        )
    figure = _shell_curves(shells, np.median(fsc, axis=0), pairs)
    folder.write_figure("plots/06_decoder_FSC.png", figure)
    figures.insert(1, (figure, "Median over the points of the FSC of successive volumes."))
    slices = found.stacked("slices")
    tiles = [
        (f"epoch {epoch}", [Tile(image=s, title=n) for n, s in zip(names, row, strict=True)])
        for epoch, row in zip(found.examined, slices.swapaxes(0, 1), strict=True)
    ]
    drawn = sheet(tiles, tile_inches=0.9)
    folder.write_figure("plots/08_volumes.png", drawn)
    figures.append((drawn, "Central slices normal to z."))
    return figures


def _point_curves(
    epochs: Sequence[int], values: Float[np.ndarray, "points e"], names: Sequence[str], what: str
) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for name, curve, colour in zip(names, values, series_colours(len(names)), strict=True):
        axis.plot(epochs, curve, color=colour, marker=".", linewidth=0.9, label=name)
    axis.plot(epochs, np.median(values, axis=0), color="black", linewidth=2)
    axis.set_ylabel(what)
    label_epochs(axis)
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


def _overfitting(found: Convergence, folder: ResultFolder) -> Section:
    measures = found.stacked("overfitting")
    head = ("epoch", "high_frequency_power_share", "sd_outside_over_inside")
    medians = np.median(measures, axis=0)
    folder.write_table(
        "overfitting.csv",
        head,
        [(epoch, *row) for epoch, row in zip(found.examined, medians, strict=True)],
    )
    names = ("power at high frequencies, share", "SD outside the mask, relative to inside")
    figures = []
    for number, (name, values) in enumerate(zip(names, measures.T, strict=True), start=9):
        figure = _point_curves(found.examined, values.T, found.compared_names, name)
        folder.write_figure(f"plots/{number:02d}_overfitting.png", figure)
        figures.append((figure, "Black: median over the points."))
    text = " ".join(found.warnings) or "Neither measure rises in late epochs."
    if len(found.examined) < criteria.OVERFITTING_EPOCHS:
        text = f"Too few epochs to judge ({len(found.examined)})."
    return Section(title="Overfitting", text=text, figures=figures)
