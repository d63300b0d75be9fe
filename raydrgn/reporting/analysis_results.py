"""What ``raydrgn analyze`` has written of an epoch, as other commands read it.

Results of another epoch, or of weights or latents that have been replaced, are never returned.
"""

import shlex

import numpy as np

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.identity import SETTINGS, read_record
from raydrgn.run.latents_file import LatentSource
from raydrgn.shapes import Float, Int

UMAP = "umap.pkl"

CRYODRGN_KSAMPLE = 20
"""Number of clusters that cryoDRGN makes by default."""


def kmeans_folder(ksample: int) -> str:
    """Return the name of the folder of k-means with ``ksample`` clusters."""
    return f"kmeans{ksample}"


class AnalysisResults:
    """Embedding and clusters of a run's epoch, or of a file of latents, if they have been made."""

    def __init__(self, run: LatentSource, epoch: int | None) -> None:
        self._run, self._epoch = run, epoch
        self.folder = ResultFolder(run.results("analyze", epoch))

    @property
    def is_current(self) -> bool:
        """Whether there are results, and these are of this epoch as it is now.

        cryoDRGN records nothing of what it analysed; in its own run, results of its own are of the
        epoch in their name if they are not older than the latents.
        """
        if self._run.is_foreign and not self.folder.has(SETTINGS):
            return self._is_of_cryodrgn
        return self.folder.is_made_from(self._run.identity(self._epoch))

    @property
    def _is_of_cryodrgn(self) -> bool:
        written = (UMAP, f"{kmeans_folder(CRYODRGN_KSAMPLE)}/labels.pkl")
        trained = self._run.latents_uri(self._epoch)
        return any(
            storage.modified(self.folder.at(name)) >= storage.modified(trained)
            for name in written
            if self.folder.has(name)
        )

    def umap(self, num_particles: int) -> Float[np.ndarray, "n 2"] | None:
        """Return the UMAP embedding, or None if there is none of these particles."""
        if not self.is_current:
            return None
        return read_umap(self.folder, num_particles)

    def require_umap(self, num_particles: int) -> Float[np.ndarray, "n 2"]:
        """Return the UMAP embedding.

        Raises:
            RunDirectoryError: If `analyze` has not made one of this epoch.
        """
        found = self.umap(num_particles)
        if found is None:
            raise RunDirectoryError(
                f"{self.folder.uri} has no UMAP of this epoch. {self._remedy()}"
            )
        return found

    def ksample(self) -> int:
        """Return the number of clusters of the latest k-means.

        Raises:
            RunDirectoryError: If `analyze` has not been run on this epoch.
        """
        if not self.is_current:
            raise RunDirectoryError(
                f"{self.folder.uri} has no k-means clusters of this epoch. {self._remedy()}"
            )
        if not self.folder.has(SETTINGS):
            return CRYODRGN_KSAMPLE
        return int(read_record(self.folder.at(SETTINGS))["ksample"])

    def labels(self, ksample: int, num_particles: int) -> Int[np.ndarray, " n"]:
        """Return the k-means cluster of each particle.

        Raises:
            RunDirectoryError: If `analyze` has not been run on this epoch with this many clusters.
            InputError: If the file has another number of particles.
        """
        uri = self._require(ksample, "labels.pkl")
        labels = cryodrgn.read_labels(uri)
        if len(labels) != num_particles:
            raise InputError(
                f"{uri} has {len(labels):,} labels, but there are {num_particles:,} particles."
            )
        return labels

    def centres(self, ksample: int) -> Int[np.ndarray, " k"]:
        """Return the row of the particle nearest to the centre of each k-means cluster.

        Raises:
            RunDirectoryError: If `analyze` has not been run on this epoch with this many clusters.
        """
        return cryodrgn.read_indices(self._require(ksample, "centers_ind.txt"))

    def _require(self, ksample: int, name: str) -> Uri:
        """Return the path of a file of the k-means with ``ksample`` clusters."""
        part = f"{kmeans_folder(ksample)}/{name}"
        if not self.is_current or not self.folder.has(part):
            raise RunDirectoryError(
                f"{self.folder.uri} has no k-means clusters of this epoch with K = {ksample}. "
                f"{self._remedy(ksample)}"
            )
        return self.folder.at(part)

    def _remedy(self, ksample: int | None = None) -> str:
        """Return the command that makes what is missing; results of other origin are replaced."""
        epoch = [] if self._epoch is None else [str(self._epoch)]
        clusters = [] if ksample is None else ["--ksample", str(ksample)]
        is_outdated = self.folder.has(SETTINGS) and not self.is_current
        replace = ["--overwrite"] if is_outdated else []
        words = ["raydrgn", "analyze", self._run.root, *epoch, *clusters, *replace]
        reason = "Its results are of other weights or latents. " if is_outdated else ""
        return f"{reason}Run: {shlex.join(words)}"


def read_umap(folder: ResultFolder, num_particles: int) -> Float[np.ndarray, "n 2"] | None:
    """Return the UMAP embedding in a folder of results, or None if it is of other particles."""
    if not folder.has(UMAP):
        return None
    [found] = cryodrgn.read_pickles(folder.at(UMAP))
    if not isinstance(found, np.ndarray) or found.shape != (num_particles, 2):
        return None
    return found.astype(np.float32)
