"""Coordinates of all particles along the components of volumes.

Volumes are decoded for a sample of particles; a regression from latents predicts the others.
"""

import io
import time
from dataclasses import dataclass

import numpy as np

from raydrgn.clustering.clusters import SEED
from raydrgn.decoding.pool import DecoderPool
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.landscape.components import MaskedVoxels, VolumeComponents
from raydrgn.landscape.regression import MIN_VOLUMES, Regression, fit_regression
from raydrgn.landscape.sketch import Sketch
from raydrgn.remote.progress import Progress
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

SECONDS_BETWEEN_SAVES = 20.0
"""Work on sampled volumes that an interrupted command may have to repeat."""

SAMPLED = "sampled.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParticleCoordinates:
    """Every particle along the components of volumes."""

    rows: Int[np.ndarray, " s"]
    """Particles whose volumes were decoded."""

    coordinates: Float[np.ndarray, "p k"]
    """Of the volume where one was decoded, else predicted by the regression."""

    regression: Regression | None
    """None where every particle's volume was decoded."""


def particle_coordinates(
    pool: DecoderPool,
    z: Float[np.ndarray, "p zdim"],
    sketch: Sketch,
    folder: ResultFolder,
    *,
    sample: int,
    progress: Progress,
) -> tuple[ParticleCoordinates, list[str]]:
    """Decode the volumes of a sample of particles, and predict the coordinates of all others.

    The particles of the sketch have their own volumes, and the regression is fitted to them too.
    Coordinates that an earlier command finished are taken from the folder.

    Returns:
        The coordinates, and what could not be decoded.

    Raises:
        InputError: If there are too few volumes for a regression.
    """
    rows = np.arange(len(z))
    if sample < len(z):
        rows = np.random.default_rng(SEED).choice(len(z), sample, replace=False)
        rows.sort()
    found = np.full((len(rows), len(sketch.components.axes)), np.nan, dtype=np.float32)
    if folder.has(SAMPLED):
        with np.load(io.BytesIO(storage.read_bytes(folder.at(SAMPLED)))) as stored:
            found = stored["coordinates"]
    failures = _project(pool, z[rows], sketch.components, found, folder, progress)
    known = np.isfinite(found).all(axis=1)
    decoded = np.concatenate([sketch.clusters.rows, rows[known]])
    rows, first = np.unique(decoded, return_index=True)
    found = np.concatenate([sketch.components.coordinates, found[known]])[first].astype(np.float32)
    if len(rows) == len(z):
        return ParticleCoordinates(rows=rows, coordinates=found, regression=None), failures
    if len(rows) < MIN_VOLUMES:
        because = f" These could not be decoded: {'; '.join(failures)}." if failures else ""
        raise InputError(
            f"There are volumes of {len(rows)} particles, and the coordinates of the others are "
            f"predicted from {MIN_VOLUMES} or more.{because} Decode more with --sample."
        )
    progress("regression", 0, 1)
    regression = fit_regression(z[rows], found, seed=SEED)
    everywhere = regression.predict(z)
    everywhere[rows] = found
    progress("regression", 1, 1)
    return (
        ParticleCoordinates(rows=rows, coordinates=everywhere, regression=regression),
        failures,
    )


@dataclass(frozen=True, slots=True)
class _Projection:
    """From volumes to their coordinates, as work for the processes that decode."""

    voxels: MaskedVoxels
    components: VolumeComponents

    def __call__(self, volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "b k"]:
        return self.components.project(self.voxels(volumes))


def _project(
    pool: DecoderPool,
    z: Float[np.ndarray, "s zdim"],
    components: VolumeComponents,
    found: Float[np.ndarray, "s k"],
    folder: ResultFolder,
    progress: Progress,
) -> list[str]:
    """Fill in the coordinates that are missing, and save them at intervals; return failures."""
    missing = np.flatnonzero(~np.isfinite(found).all(axis=1))
    done, saved, failures = len(found) - len(missing), time.monotonic(), []
    shipped = components._replace(coordinates=np.empty((0, 0)))
    work = _Projection(MaskedVoxels.of(components.mask, is_clipped=True), shipped)
    try:
        for outcome in pool.apply(work, z[missing]):
            if outcome.error:
                first = missing[outcome.item.start]
                failures.append(f"sampled volumes from number {first} on: {outcome.error}")
            else:
                found[missing[outcome.item.start : outcome.item.stop]] = outcome.value
            done += len(outcome.item)
            progress("sampled volumes", done, len(found), unit="volumes")
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                _save(found, folder)
                saved = time.monotonic()
    finally:
        _save(found, folder)
    return failures


def _save(found: Float[np.ndarray, "s k"], folder: ResultFolder) -> None:
    stream = io.BytesIO()
    np.savez(stream, coordinates=found)
    storage.write_bytes(folder.at(SAMPLED), stream.getvalue())
