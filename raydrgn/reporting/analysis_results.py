"""What ``raydrgn analyze`` has written of an epoch, as other commands read it.

Results of another epoch, or of weights that have since been trained anew, are never returned.
"""

from collections.abc import Sequence

import numpy as np

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

UMAP = "umap.pkl"


def kmeans_folder(ksample: int) -> str:
    """Return the name of the folder of k-means with ``ksample`` clusters."""
    return f"kmeans{ksample}"


class AnalysisResults:
    """Embedding and clusters of one epoch of a run, if they have been made."""

    def __init__(self, run: RunReader, epoch: int | None) -> None:
        self._run, self._epoch = run, epoch
        self.folder = ResultFolder(run.files.results("analyze", epoch))

    @property
    def is_current(self) -> bool:
        """Whether there are results, and these are of this epoch as it is now."""
        return self.folder.is_made_from(self._run.identity(self._epoch))

    def umap(self, num_particles: int) -> Float[np.ndarray, "n 2"] | None:
        """Return the UMAP embedding, or None if there is none of these particles."""
        if not self.is_current:
            return None
        return read_umap(self.folder, num_particles)

    def labels(self, ksample: int, num_particles: int) -> Int[np.ndarray, " n"]:
        """Return the k-means cluster of each particle.

        Raises:
            RunDirectoryError: If `analyze` has not been run on this epoch with this many clusters.
            InputError: If the file has another number of particles.
        """
        name = f"{kmeans_folder(ksample)}/labels.pkl"
        if not self.is_current or not self.folder.has(name):
            raise RunDirectoryError(
                f"{self.folder.uri} has no k-means clusters of this epoch with K = {ksample}. "
                f"{self._remedy(['--ksample', str(ksample)])}"
            )
        labels = cryodrgn.read_labels(self.folder.at(name))
        if len(labels) != num_particles:
            raise InputError(
                f"{self.folder.at(name)} has {len(labels)} labels, but the run has "
                f"{num_particles} particles."
            )
        return labels

    def _remedy(self, words: Sequence[str]) -> str:
        epoch = [] if self._epoch is None else [str(self._epoch)]
        return f"Run: {' '.join(['raydrgn analyze', self._run.files.root, *epoch, *words])}"


def read_umap(folder: ResultFolder, num_particles: int) -> Float[np.ndarray, "n 2"] | None:
    """Return the UMAP embedding in a folder of results, or None if it is of other particles."""
    if not folder.has(UMAP):
        return None
    [found] = cryodrgn.read_pickles(folder.at(UMAP))
    if not isinstance(found, np.ndarray) or found.shape != (num_particles, 2):
        return None
    return found.astype(np.float32)
