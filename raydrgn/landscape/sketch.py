"""The stages of a landscape: the sketch, sampled volumes, and the places of all particles.

What a stage has finished lies in the folder, and is taken from there by the next command.
"""

import io
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.clustering.clusters import SEED, Clusters, k_means
from raydrgn.decoding.pool import DecoderPool
from raydrgn.decoding.volume_sets import VolumeSet, write_maps
from raydrgn.errors import InputError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.mrc import write_volume
from raydrgn.landscape.states import (
    Regression,
    VolumeComponents,
    fit_regression,
    glance,
    state_maps,
    states,
    union_mask,
    volume_components,
)
from raydrgn.landscape.volume_store import VolumeStore, volume_store
from raydrgn.remote.progress import Progress
from raydrgn.reporting.latent_figures import path_colours, series_colours
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

COMPONENTS = 20
SHOWN_COMPONENTS, COMPONENT_POINTS = 5, 10
SECONDS_BETWEEN = 20.0
"""What an interrupted command may have to do again of the sampled volumes."""

SKETCH, SAMPLED, PLACES = "sketch.npz", "sampled.npz", "landscape.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketching:
    """How the sketch is made and divided into states."""

    ksample: int
    """Volumes of the sketch, each that of the particle nearest to a k-means centre."""

    states: int
    threshold: float | None
    """Density of the mask; the mean over volumes of half their 99.99th percentiles if None."""

    box: int
    """Edge of the volumes."""

    pixel_size_angstrom: float
    """Of the volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """On-data volumes in the space of maps."""

    clusters: Clusters
    """One for each volume of the sketch."""

    components: VolumeComponents
    labels: Int[np.ndarray, " n"]
    """State of each volume."""

    level: float
    """Density from which the mask was made."""

    def particle_states(self) -> Int[np.ndarray, " p"]:
        """Return the state of every particle: that of the sketch volume of its cluster."""
        return self.labels[self.clusters.labels]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Every particle in the landscape."""

    rows: Int[np.ndarray, " s"]
    """Particles whose volumes were made."""

    scores: Float[np.ndarray, "p k"]
    """Of volumes that were made where there are such, else as the regression says."""

    regression: Regression | None
    """None where every particle's volume was made."""


def make_sketch(
    pool: DecoderPool,
    z: Float[np.ndarray, "p zdim"],
    how: Sketching,
    folder: ResultFolder,
    *,
    progress: Progress,
) -> Sketch:
    """Decode the sketch, and find mask, components and states; or take them from the folder.

    Args:
        pool: Decoders.
        z: Latents of all particles.
        how: Number of volumes and states, and the grid of the volumes.
        folder: Where results are kept.
        progress: Called with how much is done.

    Raises:
        InputError: If volumes are not finite, all equal, or below the threshold.
        Exception: What a batch failed of.
    """
    pixel_size_angstrom = how.pixel_size_angstrom
    progress("k-means", 0, 1)
    clusters = k_means(z, how.ksample, seed=SEED)
    progress("k-means", 1, 1)
    if folder.has(SKETCH):
        return _read_sketch(folder, clusters, how.box)
    with volume_store(how.ksample, how.box) as store:
        level = _decode_sketch(pool, z[clusters.rows], store, progress)
        level = level if how.threshold is None else how.threshold
        mask = union_mask(store, level, box=how.box, pixel_size_angstrom=pixel_size_angstrom)
        progress("components", 0, 2)
        components = volume_components(store, mask, COMPONENTS)
        progress("components", 1, 2)
        labels = states(components.distances, how.states)
        mean, deviation = state_maps(store, labels, clusters.sizes(), box=how.box)
        progress("components", 2, 2)
    sketch = Sketch(clusters=clusters, components=components, labels=labels, level=level)
    write_volume(
        folder.at("mask.mrc"), mask.astype(np.float32), pixel_size_angstrom=pixel_size_angstrom
    )
    write_maps(state_set(sketch, folder), mean, pixel_size_angstrom=pixel_size_angstrom)
    for number, volume in enumerate(deviation):
        uri = folder.at("states", f"deviation_{number:03d}.mrc")
        write_volume(uri, volume, pixel_size_angstrom=pixel_size_angstrom)
    for component in range(min(SHOWN_COMPONENTS, len(components.axes))):
        one = component_set(sketch, component, folder)
        volumes = [components.volume(scores) for scores in _along(components, component)]
        write_maps(one, volumes, pixel_size_angstrom=pixel_size_angstrom)
    _write_sketch(folder, sketch)
    return sketch


def _decode_sketch(
    pool: DecoderPool, z: Float[np.ndarray, "n zdim"], store: VolumeStore, progress: Progress
) -> float:
    """Decode volumes into the store, and return the mean of their levels."""
    levels, done = np.empty(len(z)), 0
    for outcome in pool.apply(glance, z):
        if outcome.error:
            raise outcome.error
        found = outcome.value
        if not np.isfinite(found.volumes).all():
            raise InputError(
                "Volumes have voxels that are not finite: training has diverged. Take an earlier "
                "epoch."
            )
        store.put(outcome.item.start, found.volumes)
        levels[outcome.item.start : outcome.item.stop] = found.levels
        done += len(outcome.item)
        progress("sketch", done, len(z))
    return float(levels.mean())


def state_set(sketch: Sketch, folder: ResultFolder) -> VolumeSet:
    """Return the mean volumes of the states as a set."""
    particles = np.bincount(sketch.particle_states(), minlength=int(sketch.labels.max()) + 1)
    share = 100 * particles / particles.sum()
    return VolumeSet(
        name="states",
        folder=folder.at("states"),
        z=np.empty((len(share), 0), dtype=np.float32),
        colours=series_colours(len(share)),
        titles=[f"{number}: {value:.1f} %" for number, value in enumerate(share)],
    )


def component_set(sketch: Sketch, component: int, folder: ResultFolder) -> VolumeSet:
    """Return the volumes along a component, counted from 0, as a set."""
    scores = _along(sketch.components, component)[:, component]
    return VolumeSet(
        name=f"volume component {component + 1}",
        folder=folder.at(f"component{component + 1}"),
        z=np.empty((len(scores), 0), dtype=np.float32),
        colours=path_colours(len(scores)),
        titles=[f"{score:.3g}" for score in scores],
    )


def _along(components: VolumeComponents, component: int) -> Float[np.ndarray, "m k"]:
    """Return scores from one end of a component to the other, the other components 0."""
    own = components.scores[:, component]
    scores = np.zeros((COMPONENT_POINTS, components.scores.shape[1]))
    scores[:, component] = np.linspace(own.min(), own.max(), COMPONENT_POINTS)
    return scores


def _write_sketch(folder: ResultFolder, sketch: Sketch) -> None:
    found = sketch.components
    stream = io.BytesIO()
    np.savez(
        stream,
        **{**found._asdict(), "mask": np.packbits(found.mask)},
        states=sketch.labels,
        level=sketch.level,
    )
    storage.write_bytes(folder.at(SKETCH), stream.getvalue())


def _read_sketch(folder: ResultFolder, clusters: Clusters, box: int) -> Sketch:
    with np.load(io.BytesIO(storage.read_bytes(folder.at(SKETCH)))) as kept:
        values = {name: kept[name] for name in VolumeComponents._fields}
        values["mask"] = np.unpackbits(kept["mask"], count=box**3).reshape(box, box, box) > 0
        components = VolumeComponents(**values)
        return Sketch(
            clusters=clusters,
            components=components,
            labels=kept["states"],
            level=float(kept["level"]),
        )


def place_particles(
    pool: DecoderPool,
    z: Float[np.ndarray, "p zdim"],
    sketch: Sketch,
    folder: ResultFolder,
    *,
    sample: int,
    progress: Progress,
) -> tuple[Places, list[str]]:
    """Make the volumes of a sample of particles, and learn the places of all; list what failed.

    Particles of the sketch are placed by their own volumes too, and learnt from.

    Raises:
        InputError: If there are too few volumes to learn from.
    """
    rows = np.arange(len(z))
    if sample < len(z):
        rows = np.random.default_rng(SEED).choice(len(z), sample, replace=False)
        rows.sort()
    scores = np.full((len(rows), len(sketch.components.axes)), np.nan, dtype=np.float32)
    if folder.has(SAMPLED):
        with np.load(io.BytesIO(storage.read_bytes(folder.at(SAMPLED)))) as kept:
            scores = kept["scores"]
    failures = _score(pool, z[rows], sketch.components, scores, folder, progress)
    known = np.isfinite(scores).all(axis=1)
    learnt = np.concatenate([sketch.clusters.rows, rows[known]])
    rows, first = np.unique(learnt, return_index=True)
    scores = np.concatenate([sketch.components.scores, scores[known]])[first].astype(np.float32)
    if len(rows) == len(z):
        return Places(rows=rows, scores=scores, regression=None), failures
    if len(rows) < 2:
        raise InputError(f"Too few volumes could be made to learn from: {'; '.join(failures)}")
    progress("regression", 0, 1)
    regression = fit_regression(z[rows], scores, seed=SEED)
    everywhere = regression.predict(z)
    everywhere[rows] = scores
    progress("regression", 1, 1)
    return Places(rows=rows, scores=everywhere, regression=regression), failures


def _score(
    pool: DecoderPool,
    z: Float[np.ndarray, "s zdim"],
    components: VolumeComponents,
    scores: Float[np.ndarray, "s k"],
    folder: ResultFolder,
    progress: Progress,
) -> list[str]:
    """Fill in the scores that are missing, and keep them now and then; return what failed."""
    missing = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    done, kept, failures = len(scores) - len(missing), time.monotonic(), []
    nothing = np.empty((0, 0))
    project = components._replace(scores=nothing, distances=nothing).project
    try:
        for outcome in pool.apply(project, z[missing]):
            if outcome.error:
                first = missing[outcome.item.start]
                failures.append(f"sampled volume {first} and what follows: {outcome.error}")
            else:
                scores[missing[outcome.item.start : outcome.item.stop]] = outcome.value
            done += len(outcome.item)
            progress("volumes", done, len(scores))
            if time.monotonic() - kept > SECONDS_BETWEEN:
                _keep(folder, scores)
                kept = time.monotonic()
    finally:
        _keep(folder, scores)
    return failures


def _keep(folder: ResultFolder, scores: Float[np.ndarray, "s k"]) -> None:
    stream = io.BytesIO()
    np.savez(stream, scores=scores)
    storage.write_bytes(folder.at(SAMPLED), stream.getvalue())


def write_lists(
    sketch: Sketch, places: Places, numbers: Int[np.ndarray, " p"], folder: ResultFolder
) -> None:
    """Write the particles of each state, and a row per particle with its place."""
    state = sketch.particle_states()
    for number in range(int(sketch.labels.max()) + 1):
        uri = folder.at("states", f"state_{number:03d}.ind.pkl")
        cryodrgn.write_indices(uri, numbers[state == number])
    was_made = np.zeros(len(state), dtype=bool)
    was_made[places.rows] = True
    columns: dict[str, np.ndarray] = {
        "particle": np.arange(len(state)),
        "original": numbers,
        "state": state,
        "volume_was_made": was_made,
    }
    columns |= {f"component{k + 1}": column for k, column in enumerate(places.scores.T)}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    storage.write_bytes(folder.at(PLACES), stream.getvalue())
