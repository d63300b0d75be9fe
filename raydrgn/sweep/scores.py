"""Scores of a run, by which a sweep decides: a mean over images with its standard error."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.evaluation.evaluation import compared_rows, fsc_curves
from raydrgn.evaluation.truth import read_truth
from raydrgn.io.storage import Uri
from raydrgn.run.reader import open_run
from raydrgn.shapes import Float
from raydrgn.sweep.held_out import EncodedHalf, HeldOutImages
from raydrgn.sweep.networks import read_network

TITLES = {
    "heldout": "gain in held-out coefficients, % of the error of one map",
    "truth": "per-image FSC",
}
"""What the score of a trial is, for tables and figures; that of halves is heldout at first."""


@dataclass(frozen=True, slots=True)
class Score:
    """A value for each of some images; higher is better."""

    parts: Float[np.ndarray, " n"]

    @property
    def mean(self) -> float:
        """The score."""
        return float(self.parts.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean over images."""
        return float(self.parts.std(ddof=1) / np.sqrt(len(self.parts)))


Scorer = Callable[[Uri, int], Score]
"""From a run directory and an epoch to a score."""


@dataclass(frozen=True, slots=True)
class HeldOutScorer:
    """How much better a run predicts unseen coefficients than one map for all particles.

    In percent of the error of that map, which is mostly noise: what heterogeneity can explain of a
    noisy image is a small part of it.
    """

    images: HeldOutImages
    errors_of_map: Float[np.ndarray, " n"]

    def __call__(self, root: Uri, epoch: int) -> Score:
        """Score an epoch of a run."""
        predict = EncodedHalf(read_network(root, epoch), self.images.lattice)
        gains = self.errors_of_map - self.images.errors(predict)
        return Score(100 * gains / self.errors_of_map.mean())


@dataclass(frozen=True, slots=True)
class TruthScorer:
    """The per-image FSC with the truth of a simulation, as ``evaluate`` has it."""

    truth: Uri

    def __call__(self, root: Uri, epoch: int) -> Score:
        """Score an epoch of a run.

        Raises:
            InputError: If the truth is of other particles or of another box.
        """
        run = open_run(root)
        z = run.latents(epoch)
        truth = read_truth(self.truth, run, num_particles=len(z))
        rows = compared_rows(truth)
        with DecoderPool(run.decoder(epoch), VolumeOptions()) as pool:
            decoded = pool.volumes(z[rows])
        curves = fsc_curves(decoded, truth.volumes[truth.shown[rows]])
        return Score(curves[:, 1:].mean(1).astype(np.float64))
