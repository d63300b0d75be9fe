"""Agreement of a run with a known truth.

Per-image FSC is CryoBench's: the volume of a particle's latent against the particle's true volume,
for about a hundred particles evenly taken, negative correlations counting as 0. Beside it stands
the same figure for the mean of the true volumes, which is what a reconstruction without
heterogeneity could reach. Junk has no true volume: it counts among the states that the latent space
should separate, and not here.

References:
    Jeon et al. (2024), CryoBench, NeurIPS Datasets and Benchmarks.
"""

import io
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch

from raydrgn.clustering.clusters import nearest_to_median
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.evaluation.separation import Separation, separate
from raydrgn.evaluation.truth import Truth, read_truth
from raydrgn.fourier.masks import soft_mask
from raydrgn.fourier.shells import frequencies, shell_correlation
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

IMAGES = 100
DECODE_BATCH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class StateVolume:
    """One state's volume, decoded at the particle nearest to the median of its latents."""

    name: str
    state: int
    particle: int
    """Row of the particle in the run."""

    fsc: float
    """Mean FSC of the decoded volume with the one that the particle shows."""


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

    separation: Separation
    states: list[StateVolume]


def evaluate(run: RunReader, truth_folder: Uri, *, epoch: int | None = None) -> Evaluation:
    """Compare a run with the truth, and write figures and curves into ``RUN/evaluate.N``.

    Raises:
        InputError: If the truth is of other particles or of another box.
    """
    chosen = run.epoch(epoch)
    z = run.latents(chosen)
    truth = read_truth(truth_folder, run, num_particles=len(z))
    particles = np.flatnonzero(~truth.is_junk)
    rows = particles[:: max(len(particles) // IMAGES, 1)]
    decoder = VolumeDecoder(run.decoder(chosen), VolumeOptions())
    decoded = decode_rows(decoder, z, rows)
    true = truth.volumes[truth.shown[rows]]
    mean = np.broadcast_to(truth.mean_volume(), true.shape)
    mask = soft_mask(truth.volumes.max(axis=0), pixel_size_angstrom=truth.pixel_size_angstrom)

    curves = fsc_curves(decoded, true)
    result = Evaluation(
        epoch=chosen,
        images=len(rows),
        fsc=mean_fsc(curves),
        fsc_masked=mean_fsc(fsc_curves(decoded * mask, true * mask)),
        fsc_of_mean=mean_fsc(fsc_curves(mean, true)),
        fsc_of_mean_masked=mean_fsc(fsc_curves(mean * mask, true * mask)),
        fsc_auc=float(np.trapezoid(curves, frequencies(run.box).numpy(), axis=1).mean()),
        separation=separate(z, truth),
        states=_state_volumes(decoder, z, truth),
    )
    _write(run, chosen, result, rows, curves)
    return result


def decode_rows(
    decoder: VolumeDecoder, z: Float[np.ndarray, "n zdim"], rows: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k d d d"]:
    """Return the volumes of some particles' latents."""
    parts = np.array_split(z[rows], -(-len(rows) // DECODE_BATCH))
    return np.concatenate([decoder.decode(part) for part in parts])


def fsc_curves(
    first: Float[np.ndarray, "b d d d"], second: Float[np.ndarray, "b d d d"]
) -> Float[np.ndarray, "b shells"]:
    """Return the FSC of each pair of volumes, negative values as 0."""
    pairs = zip(first.astype(np.float32), second.astype(np.float32), strict=True)
    curves = [
        shell_correlation(torch.from_numpy(np.ascontiguousarray(a)), torch.from_numpy(b))
        for a, b in pairs
    ]
    return torch.stack(curves).clamp(min=0).numpy()


def mean_fsc(curves: Float[np.ndarray, "b shells"]) -> float:
    """Return the mean over pairs and shells, without the entry 0 that is 1 by definition."""
    return float(curves[:, 1:].mean())


def _state_volumes(
    decoder: VolumeDecoder, z: Float[np.ndarray, "n zdim"], truth: Truth
) -> list[StateVolume]:
    found = []
    for state in np.unique(truth.labels[~truth.is_junk]).tolist():
        row = nearest_to_median(z, np.flatnonzero(truth.labels == state))
        decoded = decode_rows(decoder, z, np.array([row]))
        curves = fsc_curves(decoded, truth.volumes[truth.shown[[row]]])
        found.append(
            StateVolume(
                name=truth.state_names[state], state=state, particle=row, fsc=mean_fsc(curves)
            )
        )
    return found


def _write(
    run: RunReader,
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
