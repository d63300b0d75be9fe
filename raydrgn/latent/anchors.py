"""Anchors of a path: particles by their number, or centres of k-means clusters."""

import re

import numpy as np

from raydrgn.errors import ConfigError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_indices
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.shapes import Int


def read_anchors(
    analysis: AnalysisResults, num_particles: int, *, anchors: str | None, centres: str | None
) -> Int[np.ndarray, " a"]:
    """Return the particles to visit, as rows of the latents.

    Args:
        analysis: Results of ``analyze`` on the epoch.
        num_particles: Particles of the run.
        anchors: Particle numbers with commas between them, or a file of them.
        centres: Clusters of ``analyze``, as ``0,7``, or ``K:0,7`` for a K that is not the latest.

    Raises:
        ConfigError: If not exactly one is given, or a particle or cluster does not exist.
        RunDirectoryError: If ``analyze`` has made no k-means clusters of this epoch.
    """
    if (anchors is None) == (centres is None):
        raise ConfigError("Choose what to visit with one of --anchors and --centres.")
    rows = _particles(anchors) if anchors is not None else _centres(analysis, centres or "")
    outside = rows[(rows < 0) | (rows >= num_particles)]
    if outside.size:
        raise ConfigError(f"There is no particle {outside[0]}; there are 0 to {num_particles - 1}.")
    if len(rows) < 2:
        raise ConfigError("A path needs at least two anchors.")
    return rows


def _particles(text: str) -> Int[np.ndarray, " a"]:
    """Return the numbers in a text, or in the file of that name."""
    numbers = _numbers(text)
    if numbers is not None:
        return numbers
    if re.fullmatch(r"[-+.,\s\d]*", text):
        raise ConfigError(f"--anchors takes particle numbers such as 0,17,42; got {text!r}.")
    return read_indices(storage.absolute(text))


def _centres(analysis: AnalysisResults, text: str) -> Int[np.ndarray, " a"]:
    """Return the particles at the centres of clusters."""
    found = re.fullmatch(r"(?:(\d+):)?([\d,\s]+)", text)
    clusters = _numbers(found[2]) if found else None
    if found is None or clusters is None:
        raise ConfigError(f"--centres takes clusters such as 0,7 or 20:0,7; got {text!r}.")
    rows = analysis.centres(int(found[1]) if found[1] else analysis.ksample())
    outside = clusters[clusters >= len(rows)]
    if outside.size:
        raise ConfigError(
            f"--centres contains {outside[0]}, but there are clusters 0 to {len(rows) - 1}."
        )
    return rows[clusters]


def _numbers(text: str) -> Int[np.ndarray, " a"] | None:
    """Return numbers with commas or spaces between them, or None if the text is something else."""
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isdecimal() for part in parts):
        return None
    return np.array(parts, dtype=np.int64)
