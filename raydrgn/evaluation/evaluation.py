"""Agreement of a run with a known truth.

Per-image FSC is CryoBench's: the volume of a particle's latent against the particle's true volume,
for about a hundred particles evenly taken, negative correlations counting as 0. Beside it stands
the same figure for the mean of the true volumes, which is what a reconstruction without
heterogeneity could reach. Junk has no true volume: it counts among the states that the latent space
should separate, and not here.

References:
    Jeon et al. (2024), CryoBench, NeurIPS Datasets and Benchmarks.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from raydrgn.clustering.clusters import nearest_to_median
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.evaluation.separation import Separation, separate
from raydrgn.evaluation.truth import Truth, read_truth
from raydrgn.fourier.masks import soft_mask
from raydrgn.fourier.shells import frequencies, shell_correlation
from raydrgn.io.storage import Uri
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

IMAGES = 100


def compared_rows(truth: Truth) -> Int[np.ndarray, " n"]:
    """Return about a hundred particles, evenly taken, of those that show something."""
    particles = np.flatnonzero(~truth.is_junk)
    return particles[:: max(len(particles) // IMAGES, 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class StateVolume:
    """One state's volume, decoded at the particle nearest to the median of its latents."""

    name: str
    state: int
    particle: int
    """Row of the particle in the run."""

    original: int
    """Number of the particle in the simulated set."""

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

    rows: Int[np.ndarray, " k"]
    """Particles whose volumes were compared."""

    original: Int[np.ndarray, " k"]
    """Their numbers in the simulated set."""

    curves: Float[np.ndarray, "k shells"]
    """FSC of each particle's volume with the true one, negative values as 0."""

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as plain values."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in ("rows", "original", "curves")}


def evaluate(
    run: RunReader,
    truth_folder: Uri,
    *,
    epoch: int | None = None,
    executor: Executor = IN_PROCESS,
) -> Evaluation:
    """Compare a run with the truth.

    Args:
        run: The run.
        truth_folder: Folder ``truth`` of its simulation.
        epoch: Epoch of the run; the last finished one if None.
        executor: Where volumes are decoded.

    Raises:
        InputError: If the truth is of other particles or of another box.
    """
    chosen = run.epoch(epoch)
    z = run.finite_latents(chosen)
    truth = read_truth(truth_folder, run, num_particles=len(z))
    rows = compared_rows(truth)
    states = np.unique(truth.labels[~truth.is_junk])
    centres = np.array(
        [nearest_to_median(z, np.flatnonzero(truth.labels == state)) for state in states]
    )
    with DecoderPool(run.decoder(chosen), VolumeOptions(), executor) as pool:
        decoded, of_states = pool.volumes(z[rows]), pool.volumes(z[centres])
    true = truth.volumes[truth.shown[rows]]
    mean = np.broadcast_to(truth.mean_volume(), true.shape)
    mask = soft_mask(truth.volumes.max(axis=0), pixel_size_angstrom=truth.pixel_size_angstrom)
    curves = fsc_curves(decoded, true)
    state_curves = fsc_curves(of_states, truth.volumes[truth.shown[centres]])
    return Evaluation(
        epoch=chosen,
        images=len(rows),
        fsc=mean_fsc(curves),
        fsc_masked=mean_fsc(fsc_curves(decoded * mask, true * mask)),
        fsc_of_mean=mean_fsc(fsc_curves(mean, true)),
        fsc_of_mean_masked=mean_fsc(fsc_curves(mean * mask, true * mask)),
        fsc_auc=float(np.trapezoid(curves, frequencies(run.box).numpy(), axis=1).mean()),
        separation=separate(z, truth),
        states=[
            StateVolume(
                name=truth.state_names[state],
                state=int(state),
                particle=int(row),
                original=int(truth.original[row]),
                fsc=mean_fsc(curve[None]),
            )
            for state, row, curve in zip(states, centres, state_curves, strict=True)
        ],
        rows=rows,
        original=truth.original[rows],
        curves=curves,
    )


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
