"""Occupancies of many volumes: scored where they are, in parallel, resumed where it was stopped."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from raydrgn.decoding.pool import DecoderPool
from raydrgn.io import cryodrgn, storage
from raydrgn.occupancy.masked_sums import ScoreFiles, ScoreLatents
from raydrgn.occupancy.partial_scores import PartialScores
from raydrgn.occupancy.scored_volumes import WantedVolumes
from raydrgn.occupancy.subunits import SubunitSet
from raydrgn.occupancy.table import PARQUET_NAME, OccupancyTable
from raydrgn.remote.fanout import Outcome, fan_out
from raydrgn.remote.session import Allocation
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

FILES_PER_TASK = 8
LABELS_NAME = "labels.pkl"
"""Cluster of every particle of the run, cryoDRGN's layout, where volumes stand for clusters."""

Progress = Callable[[int, int], None]
Scoring = Callable[[Int[np.ndarray, " m"]], Iterator[Outcome[Sequence[int]]]]
"""Scores some rows of the volumes, batch by batch."""


def scored_files(work: ScoreFiles, allocation: Allocation | None) -> Scoring:
    """Score maps by the tasks of an allocation, or in this process if there is none."""

    def run(rows: Int[np.ndarray, " m"]) -> Iterator[Outcome[Sequence[int]]]:
        starts = range(0, len(rows), FILES_PER_TASK)
        batches = [rows[start : start + FILES_PER_TASK].tolist() for start in starts]
        if allocation is None:
            yield from (Outcome(batch, value=work(batch)) for batch in batches)
            return
        import ray

        task: Any = ray.remote(lambda work, batch: work(batch)).options(num_cpus=allocation.cpus)
        shipped = ray.put(work)
        yield from fan_out(
            lambda batch: task.remote(shipped, batch),
            batches,
            max_in_flight=allocation.num_workers,
        )

    return run


def scored_latents(work: ScoreLatents, pool: DecoderPool) -> Scoring:
    """Score volumes of latents where the decoders are; none is written or sent."""
    return lambda rows: pool.run(work, rows.tolist())


def score(
    wanted: WantedVolumes,
    subunits: SubunitSet,
    scoring: Scoring,
    folder: ResultFolder,
    *,
    progress: Progress | None = None,
) -> tuple[OccupancyTable, list[str]]:
    """Score volumes and write the tables; return the table, and what failed.

    What a stopped run has finished is taken from its parts. Volumes that failed are not in the
    tables; the parts are kept as long as there are such.
    """
    keys = wanted.keys()
    source = storage.checksum("\n".join(keys).encode())
    if folder.has(PARQUET_NAME):
        found = OccupancyTable.read(folder.uri)
        if (found.volumes, found.source) == (wanted.names, source):
            return found, []
    scores = PartialScores(folder, keys, len(subunits.names))
    missing = scores.missing()
    done, failures = len(wanted.names) - len(missing), []
    if progress:
        progress(done, len(wanted.names))
    try:
        for outcome in scoring(missing) if len(missing) else ():
            rows = list(outcome.item)
            if outcome.error:
                failures.append(f"{_what(wanted, rows[0])} and what follows: {outcome.error}")
            else:
                failures += [f"{_what(wanted, r)}: {s}" for r, s in outcome.value.failures.items()]
                scores.add(np.array(rows), outcome.value.sums)
            done += len(rows)
            if progress:
                progress(done, len(wanted.names))
    finally:
        scores.keep()
    table = _table(wanted, subunits, scores, source)
    if len(table):
        table.write(folder.uri)
    if wanted.labels is not None:
        cryodrgn.write_pickles(folder.at(LABELS_NAME), wanted.labels)
    if not failures:
        scores.remove()
    return table, failures


def _what(wanted: WantedVolumes, row: int) -> str:
    return wanted.uris[row] if wanted.uris else f"volume {wanted.names[row]}"


def _table(
    wanted: WantedVolumes, subunits: SubunitSet, scores: PartialScores, source: str
) -> OccupancyTable:
    table: Float[np.ndarray, "n subunits"] = subunits.normalised(scores.sums)
    rows = np.flatnonzero(np.isfinite(table).all(axis=1))
    return OccupancyTable(
        volumes=wanted.names,
        subunits=subunits.names,
        values=table,
        particles=wanted.particles,
        latents=wanted.z,
        clusters=wanted.clusters,
        source=source,
    ).select(rows)
