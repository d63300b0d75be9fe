"""Volumes of all representative points through the epochs; finished points are kept."""

import io
from typing import Any

import numpy as np

from raydrgn.convergence.epochs import NAMES, Convergence
from raydrgn.convergence.point_comparison import ComparePoint, PointComparison
from raydrgn.decoding.options import VolumeOptions
from raydrgn.io import storage
from raydrgn.model.device import gpu_problem
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader


def compare_volumes(
    run: RunReader,
    found: Convergence,
    folder: ResultFolder,
    *,
    options: VolumeOptions,
    pixel_size_angstrom: float | None = None,
    keep_volumes: bool = False,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> tuple[list[PointComparison | None], list[str]]:
    """Decode and compare the volumes of all points.

    Args:
        run: The run.
        found: Its examined epochs and representative points.
        folder: Results, from which finished points are taken.
        options: What is done to volumes.
        pixel_size_angstrom: At the run's box, if the run does not contain it.
        keep_volumes: Write the volumes into ``vols.EPOCH``.
        executor: Where the points are decoded, one task for each.
        progress: Called with how much is done.

    Returns:
        The comparison of each point, None where it failed, and what failed.
    """
    states = [
        run.decoder(epoch, pixel_size_angstrom=pixel_size_angstrom) for epoch in found.examined
    ]
    folders = tuple(folder.at(f"vols.{epoch}") for epoch in found.examined) if keep_volumes else ()
    work = ComparePoint(states=states, options=options, latents=found.latents, folders=folders)
    points = range(len(found.counts))
    made = {k: stored for k in points if (stored := _read_point(folder, k, found)) is not None}
    missing = [point for point in points if point not in made]
    failures = []
    outcomes = executor.map(work, missing, cpus=0, gpu_problem=gpu_problem)
    for done, outcome in enumerate(outcomes, start=1):
        if outcome.error:
            failures.append(f"point {NAMES[outcome.item]}: {outcome.error}")
        else:
            made[outcome.item] = outcome.value
            _write_point(folder, outcome.item, found, outcome.value)
        progress("volumes of points", done, len(missing), unit="points")
    return [made.get(point) for point in points], failures


def _write_point(
    folder: ResultFolder, point: int, found: Convergence, made: PointComparison
) -> None:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {"rows": found.rows[:, point], **made._asdict()}
    np.savez(stream, **arrays)
    storage.write_bytes(folder.at("points", f"{NAMES[point]}.npz"), stream.getvalue())


def _read_point(folder: ResultFolder, point: int, found: Convergence) -> PointComparison | None:
    """Return a point that was finished before, of the same particles."""
    name = f"{NAMES[point]}.npz"
    if not folder.has("points", name):
        return None
    content = storage.read_bytes(folder.at("points", name))
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        if not np.array_equal(stored["rows"], found.rows[:, point]):
            return None
        return PointComparison(*(stored[name] for name in PointComparison._fields))
