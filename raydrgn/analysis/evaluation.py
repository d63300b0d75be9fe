"""Agreement of a run with a known truth.

Per-image FSC is CryoBench's: the volume of a particle's latent against the particle's true volume,
for about a hundred particles evenly taken, negative correlations counting as 0. Beside it stands
the same figure for the mean of the true volumes, which is what a reconstruction without
heterogeneity could reach.

References:
    Jeon et al. (2024), CryoBench, NeurIPS Datasets and Benchmarks.
"""

import io
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from raydrgn.analysis.masks import soft_mask
from raydrgn.analysis.volumes import VolumeDecoder, VolumeOptions
from raydrgn.errors import InputError
from raydrgn.fourier.shells import frequencies, shell_correlation
from raydrgn.io import storage
from raydrgn.io.mrc import read_volume
from raydrgn.io.storage import Uri
from raydrgn.run.opened import OpenedRun
from raydrgn.shapes import Float, Int

IMAGES = 100
NEIGHBOURS = 10
FOLDS = 5
DECODE_BATCH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What a simulation knows about its particles."""

    volumes: Float[np.ndarray, "v d d d"]
    pixel_size_angstrom: float
    labels: Int[np.ndarray, " n"]
    """State of each particle of the run."""

    shown: Int[np.ndarray, " n"]
    """Volume that each particle's image shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Figures of agreement; FSC means are over all shells and images, between 0 and 1."""

    epoch: int | None
    images: int
    fsc: float
    fsc_masked: float
    fsc_of_mean: float
    """The same for the plain mean of the particles' true volumes."""

    fsc_of_mean_masked: float
    fsc_auc: float
    """CryoBench's figure: area under the curve over frequency in cycles per pixel, 0.5 at most."""

    fsc_by_state: dict[str, float]
    neighbour_accuracy: float | None
    """Share of particles whose state is that of most of their ten neighbours."""

    rand_index: float | None
    """Adjusted Rand index between states and as many k-means clusters."""

    rand_index_mixture: float | None
    """The same for a Gaussian mixture, which may have small and long clusters."""


def read_truth(folder: Uri, indices: Int[np.ndarray, " n"]) -> Truth:
    """Read ``labels.npy``, ``vol_NNN.mrc`` and, if it is there, ``shown.npy``.

    Args:
        folder: The ``truth`` folder of a simulation.
        indices: Numbers of the run's particles in the simulated set.

    Raises:
        InputError: If files are missing or do not fit the run.
    """
    names = storage.list_names(folder)
    paths = [storage.join(folder, n) for n in names if n.startswith("vol_") and n.endswith(".mrc")]
    if "labels.npy" not in names or not paths:
        raise InputError(
            f"{folder} has no labels.npy with vol_000.mrc …; --truth takes such a folder."
        )
    arrays = {}
    for name in ("labels", "shown"):
        if f"{name}.npy" in names:
            content = storage.read_bytes(storage.join(folder, f"{name}.npy"))
            arrays[name] = np.load(io.BytesIO(content), allow_pickle=False).astype(np.int64)
    if indices.max() >= len(arrays["labels"]):
        raise InputError(
            f"{folder}/labels.npy has {len(arrays['labels'])} particles, but the run has particle "
            f"{indices.max()}; this is the truth of other particles."
        )
    volumes = [read_volume(path) for path in paths]
    shown = arrays.get("shown", arrays["labels"])
    if shown.max() >= len(volumes):
        raise InputError(
            f"{folder} has {len(volumes)} volumes, but particles show number {shown.max()}."
        )
    return Truth(
        volumes=np.stack([volume for volume, _ in volumes]),
        pixel_size_angstrom=volumes[0][1].pixel_size_angstrom or 1.0,
        labels=arrays["labels"][indices],
        shown=shown[indices],
    )


def evaluate(run: OpenedRun, truth_folder: Uri, *, epoch: int | None = None) -> Evaluation:
    """Compare a run with the truth, and write figures and curves into ``RUN/evaluate.N``.

    Raises:
        InputError: If the truth is of other particles or of another box.
    """
    chosen = run.epoch(epoch)
    z = run.latents(chosen)
    indices = np.arange(len(z)) if run.is_foreign else run.particles().column("index")
    truth = read_truth(truth_folder, indices)
    if truth.volumes.shape[-1] != run.box:
        raise InputError(
            f"{truth_folder} has volumes of {truth.volumes.shape[-1]} px, but the run's box is "
            f"{run.box} px."
        )
    rows = np.arange(0, len(z), max(len(z) // IMAGES, 1))
    decoder = VolumeDecoder(run.decoder(chosen), VolumeOptions())
    parts = np.array_split(z[rows], -(-len(rows) // DECODE_BATCH))
    decoded = np.concatenate([decoder.decode(part) for part in parts])
    true = truth.volumes[truth.shown[rows]]
    shares = np.bincount(truth.shown, minlength=len(truth.volumes)) / len(truth.shown)
    mean = np.broadcast_to(np.tensordot(shares, truth.volumes, axes=1), true.shape)
    mask = soft_mask(truth.volumes.max(axis=0), pixel_size_angstrom=truth.pixel_size_angstrom)

    curves = _curves(decoded, true)
    scores = curves[:, 1:].mean(axis=1)
    result = Evaluation(
        epoch=chosen,
        images=len(rows),
        fsc=float(scores.mean()),
        fsc_masked=_mean_fsc(decoded * mask, true * mask),
        fsc_of_mean=_mean_fsc(mean, true),
        fsc_of_mean_masked=_mean_fsc(mean * mask, true * mask),
        fsc_auc=float(np.trapezoid(curves, frequencies(run.box).numpy(), axis=1).mean()),
        fsc_by_state={
            str(state): float(scores[truth.labels[rows] == state].mean())
            for state in np.unique(truth.labels[rows])
        },
        **latent_agreement(z, truth.labels),
    )
    _write(run, chosen, result, rows, curves)
    return result


def latent_agreement(
    z: Float[np.ndarray, "n zdim"], labels: Int[np.ndarray, " n"]
) -> dict[str, float | None]:
    """Return how well the latent space separates states; None where there is but one."""
    states, counts = np.unique(labels, return_counts=True)
    if len(states) < 2 or counts.min() < FOLDS:
        return dict.fromkeys(("neighbour_accuracy", "rand_index", "rand_index_mixture"))
    neighbours = KNeighborsClassifier(NEIGHBOURS)
    kmeans = KMeans(len(states), n_init=10, random_state=0).fit_predict(z)
    mixture = GaussianMixture(len(states), n_init=3, random_state=0).fit_predict(z)
    return {
        "neighbour_accuracy": float(cross_val_score(neighbours, z, labels, cv=FOLDS).mean()),
        "rand_index": float(adjusted_rand_score(labels, kmeans)),
        "rand_index_mixture": float(adjusted_rand_score(labels, mixture)),
    }


def _curves(
    first: Float[np.ndarray, "b d d d"], second: Float[np.ndarray, "b d d d"]
) -> Float[np.ndarray, "b shells"]:
    pairs = zip(first, second, strict=True)
    curves = [
        shell_correlation(torch.from_numpy(np.ascontiguousarray(a)), torch.from_numpy(b)).clamp(
            min=0
        )
        for a, b in pairs
    ]
    return torch.stack(curves).numpy()


def _mean_fsc(first: Float[np.ndarray, "b d d d"], second: Float[np.ndarray, "b d d d"]) -> float:
    """Return the mean over images and shells, without the entry 0 that is 1 by definition."""
    return float(_curves(first.astype(np.float32), second)[:, 1:].mean())


def _write(
    run: OpenedRun,
    epoch: int | None,
    result: Evaluation,
    rows: Int[np.ndarray, " k"],
    curves: Float[np.ndarray, "k shells"],
) -> None:
    folder = run.files.results("evaluate", epoch)
    content = json.dumps(asdict(result), indent=1).encode()
    storage.write_bytes(storage.join(folder, "evaluation.json"), content)
    head = "particle," + ",".join(f"{f:.6f}" for f in frequencies(run.box).tolist())
    text = io.StringIO()
    np.savetxt(
        text,
        np.column_stack([rows, curves]),
        delimiter=",",
        header=head,
        comments="",
        fmt=["%d", *["%.6f"] * curves.shape[1]],
    )
    storage.write_bytes(storage.join(folder, "per_image_fsc.csv"), text.getvalue().encode())
