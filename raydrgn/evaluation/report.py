"""Report of a run whose truth is known: what was recovered, beside what there was."""

from collections.abc import Callable, Sequence

import numpy as np

from raydrgn.clustering.embedding import principal_components, umap_embedding
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.evaluation.evaluation import Evaluation
from raydrgn.evaluation.truth import Truth, read_truth
from raydrgn.evaluation.volume_pairs import VolumePairs, motion_pairs, state_pairs
from raydrgn.fourier.shells import frequencies
from raydrgn.io.storage import Uri
from raydrgn.reporting.figures import (
    Tile,
    curve_caption,
    fsc_figure,
    learning_curve,
    scatter_by_state,
    scatter_by_value,
    sheet,
)
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.run.metrics import epoch_rows
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

RARE_SHARE = 0.05
IN_ORDER = 0.8  # |Spearman|

Progress = Callable[[int, int], None]


def write_truth_report(
    uri: Uri,
    run: RunReader,
    truth_folder: Uri,
    result: Evaluation,
    *,
    title: str,
    commands: str = "",
    progress: Progress | None = None,
) -> None:
    """Write a report of a run beside its truth.

    Args:
        uri: HTML file to write.
        run: The run.
        truth_folder: The ``truth`` folder of its simulation.
        result: The evaluation of the epoch to show.
        title: Head line.
        commands: Commands that a reader may run next.
        progress: Called with the number of sections that are done, and of all.
    """
    z = run.finite_latents(result.epoch)
    truth = read_truth(truth_folder, run, num_particles=len(z))
    with DecoderPool(run.decoder(result.epoch), VolumeOptions()) as pool:
        states, motion = state_pairs(pool, z, truth, result), motion_pairs(pool, z, truth)
    parts: list[Callable[[], Section]] = [
        lambda: _measures(result),
        lambda: _latent_space(z, truth),
        lambda: _volumes(states, result, truth.pixel_size_angstrom),
        lambda: _motion(motion),
        lambda: _learning_curve(run),
    ]
    sections = []
    for number, part in enumerate(parts, start=1):
        sections.append(part())
        if progress:
            progress(number, len(parts))
    kept = [section for section in sections if section.figures or section.tables or section.text]
    if commands:
        kept.append(Section(title="Where to go from here", commands=commands))
    write_report(uri, title=title, summary=verdict(result), sections=kept)


def verdict(result: Evaluation) -> str:
    """Return in a few sentences how well a run agrees with the truth."""
    better = result.fsc - result.fsc_of_mean
    sentences = [
        f"Per-image FSC {result.fsc:.3f}; one map for all particles would reach "
        f"{result.fsc_of_mean:.3f} ({better:+.3f})."
    ]
    separation = result.separation
    if separation.neighbour_accuracy is not None:
        sentences.append(
            f"{100 * separation.neighbour_accuracy:.1f} % of the particles lie among particles of "
            "their own state."
        )
    for state in separation.by_state:
        if state.share <= RARE_SHARE:
            found = "found" if min(state.recall, state.precision) >= 0.5 else "not found"
            sentences.append(
                f"The rare state {state.name} ({100 * state.share:.1f} % of particles) is {found}: "
                f"recall {100 * state.recall:.0f} %, precision {100 * state.precision:.0f} %."
            )
    if separation.motion_order is not None:
        order = "in order" if separation.motion_order >= IN_ORDER else "not in order"
        sentences.append(
            f"The motion is {order} (|Spearman| of latent and angle {separation.motion_order:.2f})."
        )
    return " ".join(sentences)


def _measures(result: Evaluation) -> Section:
    rows = [
        ("per-image FSC", f"{result.fsc:.4f}", f"{result.fsc_of_mean:.4f}"),
        ("… within a soft mask", f"{result.fsc_masked:.4f}", f"{result.fsc_of_mean_masked:.4f}"),
    ]
    latent = [
        (name, "–" if value is None else f"{value:.3f}")
        for name, value in (
            ("accuracy of the ten nearest neighbours", result.separation.neighbour_accuracy),
            ("adjusted Rand index, k-means", result.separation.rand_index),
            ("adjusted Rand index, Gaussian mixture", result.separation.rand_index_mixture),
            ("|Spearman| of latent and angle of the motion", result.separation.motion_order),
        )
    ]
    return Section(
        title="Agreement with the truth",
        text=f"FSC is the mean over all shells and {result.images} particles of the correlation "
        "between the volume decoded at a particle's latent and the volume that its image shows.",
        tables=[
            ReportTable(head=("volumes", "this run", "mean of true volumes"), rows=rows),
            ReportTable(head=("latent space", ""), rows=latent),
        ],
    )


def _latent_space(z: Float[np.ndarray, "n zdim"], truth: Truth) -> Section:
    embeddings: list[tuple[str, np.ndarray]] = []
    if z.shape[1] > 1:
        embeddings.append(("UMAP", umap_embedding(z)))
        components = principal_components(z)
        embeddings.append(("PC", components.coordinates[:, :2]))
    else:
        embeddings.append(("z", np.column_stack([z[:, 0], np.zeros(len(z))])))
    figures = [
        (
            scatter_by_state(embeddings, truth.labels, truth.state_names),
            "Latents of all particles by UMAP and principal components, coloured by their true "
            "state, which the training has not seen.",
        )
    ]
    if truth.motion_deg is not None:
        name, xy = embeddings[0]
        figures.append(
            (
                scatter_by_value(name, xy, truth.motion_deg, label="angle of the motion, degrees"),
                "The same, coloured by the true angle of those particles that move.",
            )
        )
    return Section(title="Latent space", figures=figures)


def _volumes(pairs: VolumePairs, result: Evaluation, pixel_size_angstrom: float) -> Section:
    shells = frequencies(pairs.true.shape[-1]).numpy()
    separated = {state.name: state for state in result.separation.by_state}
    rows = [
        (
            state.name,
            f"{100 * separated[state.name].share:.1f} %" if state.name in separated else "–",
            f"{separated[state.name].recall:.3f}" if state.name in separated else "–",
            f"{separated[state.name].precision:.3f}" if state.name in separated else "–",
            f"{state.fsc:.3f}",
        )
        for state in result.states
    ]
    curves = fsc_figure(
        shells,
        list(zip(pairs.titles, pairs.curves, strict=True)),
        pixel_size_angstrom=pixel_size_angstrom,
    )
    return Section(
        title="Volumes of the states",
        text="Each volume is decoded at the particle nearest to the median latent of its state.",
        figures=[
            (
                sheet(_tiles(pairs)),
                "Central slices across y, and projections along y, of decoded and true volumes.",
            ),
            (curves, "FSC of each decoded volume with the true one."),
        ],
        tables=[ReportTable(head=("state", "share", "recall", "precision", "mean FSC"), rows=rows)],
    )


def _motion(pairs: VolumePairs | None) -> Section:
    if pairs is None:
        return Section(title="Motion")
    caption = (
        "Volumes along the motion, each decoded at the particle nearest to the median latent of "
        "the particles at that angle; projections along y show it."
    )
    return Section(title="Motion", figures=[(sheet(_tiles(pairs)), caption)])


def _learning_curve(run: RunReader) -> Section:
    figure = learning_curve(epoch_rows(run.files.metrics), is_mixture=run.is_mixture)
    caption = curve_caption(is_mixture=run.is_mixture)
    return Section(title="Learning curve", figures=[(figure, caption)])


def _tiles(pairs: VolumePairs) -> list[tuple[str, Sequence[Tile]]]:
    """Return rows of slices and projections of decoded volumes, each above the true ones."""
    middle = pairs.decoded.shape[-1] // 2
    views: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("slice", lambda volume: volume[:, middle, :]),
        ("projection", lambda volume: volume.sum(axis=1)),
    ]
    return [
        (
            f"{whose}\n{name}",
            [
                Tile(image=view(volume), title=title)
                for volume, title in zip(volumes, pairs.titles, strict=True)
            ],
        )
        for name, view in views
        for whose, volumes in (("decoded", pairs.decoded), ("true", pairs.true))
    ]
