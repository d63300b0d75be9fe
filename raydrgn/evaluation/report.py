"""Report of a run whose truth is known: what was recovered, beside what there was."""

from collections.abc import Callable, Sequence

import numpy as np

from raydrgn.clustering.embedding import principal_components, umap_embedding
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.evaluation.evaluation import Evaluation, decode_rows, fsc_curves
from raydrgn.evaluation.truth import Truth, read_truth
from raydrgn.fourier.shells import frequencies
from raydrgn.io.storage import Uri
from raydrgn.reporting.figures import (
    Tile,
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

MOTION_STEPS = 5
NEAR_DEG = 4.0  # particles this near to an angle stand for it
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
        commands: What a reader may type next.
        progress: Told how many of how many parts are made.
    """
    z = run.latents(result.epoch)
    truth = read_truth(truth_folder, run, num_particles=len(z))
    decoder = VolumeDecoder(run.decoder(result.epoch), VolumeOptions())
    sections: list[Section] = []
    parts: list[Callable[[], Section]] = [
        lambda: _figures_of_merit(result),
        lambda: _latent_space(z, truth),
        lambda: _volumes(decoder, z, truth, result),
        lambda: _motion(decoder, z, truth),
        lambda: Section(
            title="Learning curve",
            figures=[
                (
                    learning_curve(epoch_rows(run.files.metrics)),
                    "Mean over the particles of each epoch: squared error of the noisy image's "
                    "Fourier coefficients, in units of their variance, and KL divergence.",
                )
            ],
        ),
    ]
    for number, part in enumerate(parts, start=1):
        sections.append(part())
        if progress:
            progress(number, len(parts))
    if commands:
        sections.append(Section(title="Where to go from here", commands=commands))
    kept = [section for section in sections if section.figures or section.tables or section.text]
    kept += [section for section in sections if section.commands]
    write_report(uri, title=title, summary=verdict(result), sections=kept)


def verdict(result: Evaluation) -> str:
    """Say in a few sentences how well a run did."""
    better = result.fsc - result.fsc_of_mean
    said = [
        f"Per-image FSC {result.fsc:.3f}; one map for all particles would reach "
        f"{result.fsc_of_mean:.3f} ({better:+.3f})."
    ]
    separation = result.separation
    if separation.neighbour_accuracy is not None:
        said.append(
            f"{100 * separation.neighbour_accuracy:.1f} % of the particles lie among particles of "
            "their own state."
        )
    for state in separation.by_state:
        if state.share <= RARE_SHARE:
            found = "found" if min(state.recall, state.precision) >= 0.5 else "not found"
            said.append(
                f"The rare state {state.name} ({100 * state.share:.1f} % of particles) is {found}: "
                f"recall {100 * state.recall:.0f} %, precision {100 * state.precision:.0f} %."
            )
    if separation.motion_order is not None:
        order = "in order" if separation.motion_order >= IN_ORDER else "not in order"
        said.append(
            f"The motion is {order} (|Spearman| of latent and angle {separation.motion_order:.2f})."
        )
    return " ".join(said)


def _figures_of_merit(result: Evaluation) -> Section:
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
    places: list[tuple[str, np.ndarray]] = []
    if z.shape[1] > 1:
        places.append(("UMAP", umap_embedding(z)))
        components = principal_components(z)
        places.append(("PC", components.coordinates[:, :2]))
    else:
        places.append(("z", np.column_stack([z[:, 0], np.zeros(len(z))])))
    figures = [
        (
            scatter_by_state(places, truth.labels, truth.state_names),
            "Latents of all particles by UMAP and principal components, coloured by their true "
            "state, which the training has not seen.",
        )
    ]
    if truth.motion_deg is not None:
        name, xy = places[0]
        figures.append(
            (
                scatter_by_value(name, xy, truth.motion_deg, label="angle of the motion, degrees"),
                "The same, coloured by the true angle of those particles that move.",
            )
        )
    return Section(title="Latent space", figures=figures)


def _volumes(
    decoder: VolumeDecoder, z: Float[np.ndarray, "n zdim"], truth: Truth, result: Evaluation
) -> Section:
    particles = np.array([state.particle for state in result.states])
    if len(particles) > 2 * MOTION_STEPS:  # frames of a motion: some of them
        particles = particles[np.linspace(0, len(particles) - 1, 2 * MOTION_STEPS).astype(int)]
    decoded = decode_rows(decoder, z, particles)
    true = truth.volumes[truth.shown[particles]]
    names = [truth.state_names[state] for state in truth.labels[particles]]
    curves = fsc_curves(decoded, true)
    shells = frequencies(true.shape[-1]).numpy()
    shares = {state.name: state for state in result.separation.by_state}
    rows = [
        (
            state.name,
            f"{100 * shares[state.name].share:.1f} %" if state.name in shares else "–",
            f"{shares[state.name].recall:.3f}" if state.name in shares else "–",
            f"{shares[state.name].precision:.3f}" if state.name in shares else "–",
            f"{state.fsc:.3f}",
        )
        for state in result.states
    ]
    return Section(
        title="Volumes of the states",
        text="Each volume is decoded at the particle nearest to the median latent of its state.",
        figures=[
            (
                sheet(_pairs(decoded, true, names)),
                "Central slices across y, and projections along y, of decoded and true volumes.",
            ),
            (
                fsc_figure(
                    shells,
                    list(zip(names, curves, strict=True)),
                    pixel_size_angstrom=truth.pixel_size_angstrom,
                ),
                "FSC of each decoded volume with the true one.",
            ),
        ],
        tables=[ReportTable(head=("state", "share", "recall", "precision", "mean FSC"), rows=rows)],
    )


def _motion(decoder: VolumeDecoder, z: Float[np.ndarray, "n zdim"], truth: Truth) -> Section:
    if truth.motion_deg is None:
        return Section(title="Motion")
    known = truth.motion_deg[np.isfinite(truth.motion_deg)]
    particles, titles = [], []
    for angle in np.linspace(known.min(), known.max(), MOTION_STEPS):
        near = np.flatnonzero(np.abs(truth.motion_deg - angle) <= NEAR_DEG)
        if len(near):
            middle = np.median(z[near], axis=0)
            particles.append(near[np.linalg.norm(z[near] - middle, axis=1).argmin()])
            titles.append(f"{truth.motion_deg[particles[-1]]:.0f}°")
    chosen = np.array(particles)
    return Section(
        title="Motion",
        figures=[
            (
                sheet(
                    _pairs(
                        decode_rows(decoder, z, chosen), truth.volumes[truth.shown[chosen]], titles
                    )
                ),
                "Volumes along the motion, each decoded at the particle nearest to the median "
                "latent of the particles at that angle; projections along y show it.",
            )
        ],
    )


def _pairs(
    decoded: Float[np.ndarray, "k d d d"], true: Float[np.ndarray, "k d d d"], titles: Sequence[str]
) -> list[tuple[str, list[Tile]]]:
    """Return rows of slices and projections of decoded volumes, each above the true ones."""
    middle = decoded.shape[-1] // 2

    def row(volumes: np.ndarray, look: Callable[[np.ndarray], np.ndarray]) -> list[Tile]:
        return [Tile(image=look(v), title=t) for v, t in zip(volumes, titles, strict=True)]

    looks: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("slice", lambda v: v[:, middle, :]),
        ("projection", lambda v: v.sum(axis=1)),
    ]
    return [
        (f"{whose}\n{name}", row(volumes, look))
        for name, look in looks
        for whose, volumes in (("decoded", decoded), ("true", true))
    ]
