"""Occupancies of many volumes: scored in parallel where the volumes are, and resumed.

Maps are read and scored by tasks, latents are decoded and scored by a pool of decoders.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from raydrgn.decoding.pool import DecoderPool
from raydrgn.io import cryodrgn, storage
from raydrgn.occupancy.masked_sums import ScoreFiles, ScoreLatents
from raydrgn.occupancy.partial_scores import PartialScores
from raydrgn.occupancy.scored_volumes import ScoredVolumes
from raydrgn.occupancy.subunits import SubunitSet
from raydrgn.occupancy.table import PARQUET_NAME, OccupancyTable
from raydrgn.remote.executor import Executor
from raydrgn.remote.fanout import Outcome
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Int

FILES_PER_TASK = 8
LABELS_NAME = "labels.pkl"
"""Cluster of every particle of the run, cryoDRGN's layout, where volumes stand for clusters."""

Scoring = Callable[[Int[np.ndarray, " m"]], Iterator[Outcome[Sequence[int]]]]
"""Scores rows of a list of volumes, and yields the outcome of each batch."""


def scored_files(work: ScoreFiles, executor: Executor) -> Scoring:
    """Return a function that scores maps by tasks of an executor."""
    size = sum(map(storage.file_size, work.uris))

    def score(rows: Int[np.ndarray, " m"]) -> Iterator[Outcome[Sequence[int]]]:
        starts = range(0, len(rows), FILES_PER_TASK)
        batches = [rows[start : start + FILES_PER_TASK].tolist() for start in starts]
        return executor.map(work, batches, input_bytes=size)

    return score


def scored_latents(work: ScoreLatents, pool: DecoderPool) -> Scoring:
    """Return a function that scores volumes where they are decoded; none is written or sent."""
    return lambda rows: pool.run(work, rows.tolist())


def score_volumes(
    volumes: ScoredVolumes,
    subunits: SubunitSet,
    scoring: Scoring,
    folder: ResultFolder,
    *,
    progress: Progress = silent,
) -> tuple[OccupancyTable, list[str]]:
    """Score volumes and write the tables; return the table, and which volumes failed and why.

    Scores that an interrupted command has kept are used. Volumes that failed are not in the
    tables; the scores of the others are kept until all volumes are scored.
    """
    keys = volumes.keys()
    source = storage.checksum("\n".join(keys).encode())
    if folder.has(PARQUET_NAME):
        found = OccupancyTable.read(folder.uri)
        if (found.volumes, found.source) == (volumes.names, source):
            return found, []
    scores = PartialScores(folder, keys, len(subunits.names))
    failures = _score_missing(volumes, scores, scoring, progress)
    occupancies = subunits.normalised(scores.sums)
    table = OccupancyTable(
        volumes=volumes.names,
        subunits=subunits.names,
        values=occupancies,
        particles=volumes.particles,
        original=volumes.original,
        latents=volumes.z,
        clusters=volumes.clusters,
        source=source,
    ).select(np.flatnonzero(np.isfinite(occupancies).all(axis=1)))
    if len(table):
        table.write(folder.uri)
    if volumes.labels is not None:
        cryodrgn.write_pickles(folder.at(LABELS_NAME), volumes.labels)
    if not failures:
        scores.remove()
    return table, failures


def _score_missing(
    volumes: ScoredVolumes, scores: PartialScores, scoring: Scoring, progress: Progress
) -> list[str]:
    """Score the volumes that have no scores yet; return which of them failed and why."""
    missing, total = scores.missing(), len(volumes.names)
    done, failures = total - len(missing), []
    progress("scoring", done, total, unit="volumes")
    try:
        for outcome in scoring(missing) if len(missing) else ():
            rows = list(outcome.item)
            if outcome.error:
                failures += [f"{_name(volumes, row)}: {outcome.error}" for row in rows]
            else:
                reasons = outcome.value.failures.items()
                failures += [f"{_name(volumes, row)}: {reason}" for row, reason in reasons]
                scores.add(np.array(rows), outcome.value.sums)
            done += len(rows)
            progress("scoring", done, total, unit="volumes")
    finally:
        scores.keep()
    return failures


def _name(volumes: ScoredVolumes, row: int) -> str:
    return volumes.uris[row] if volumes.uris else f"volume {volumes.names[row]}"
