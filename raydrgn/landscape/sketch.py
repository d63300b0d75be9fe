"""The sketch of a landscape: on-data volumes, their mask, components and states."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raydrgn.clustering.clusters import Clusters
from raydrgn.decoding.pool import DecoderPool
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.landscape.components import VolumeComponents, gram_matrix, volume_components
from raydrgn.landscape.options import Linkage
from raydrgn.landscape.states import state_maps, states, union_mask, with_thresholds
from raydrgn.landscape.volume_store import VolumeStore, masked_slabs, volume_store
from raydrgn.remote.progress import Progress
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Bool, Float, Int

COMPONENTS = 20
SKETCH = "sketch.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class SketchSettings:
    """How the sketch is made and divided into states."""

    states: int
    linkage: Linkage
    """Of the agglomerative clusters."""

    threshold: float | None
    """Density of the mask; the mean over volumes of half their 99.99th percentiles if None."""

    mask: Bool[np.ndarray, "d d d"] | None = None
    """Voxels to compare, instead of those of a threshold."""

    box: int
    """Edge of the volumes."""

    pixel_size_angstrom: float
    """Of the volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """On-data volumes, their components and states."""

    clusters: Clusters
    """Particles around each volume of the sketch, which is that of the cluster's centre."""

    components: VolumeComponents
    labels: Int[np.ndarray, " n"]
    """State of each volume."""

    threshold: float | None
    """Density from which the mask was made; None if a mask was given."""

    @property
    def num_states(self) -> int:
        """Number of states found."""
        return int(self.labels.max()) + 1

    def particle_states(self) -> Int[np.ndarray, " p"]:
        """Return the state of every particle: that of the sketch volume of its cluster."""
        return self.labels[self.clusters.labels]


class StateMaps(NamedTuple):
    """Maps of the volumes of each state, weighted by particles."""

    mean: Float[np.ndarray, "s d d d"]
    sd: Float[np.ndarray, "s d d d"]


def make_sketch(
    pool: DecoderPool,
    z: Float[np.ndarray, "p zdim"],
    clusters: Clusters,
    settings: SketchSettings,
    *,
    progress: Progress,
) -> tuple[Sketch, StateMaps]:
    """Decode the volume of each cluster's centre, and find mask, components and states.

    Args:
        pool: Decoders.
        z: Latents of all particles.
        clusters: Clusters of the particles.
        settings: Number of states, mask, and the grid of the volumes.
        progress: Called with how much is done.

    Raises:
        InputError: If volumes are not finite, all equal, or below the threshold.
        Exception: The error of a batch that could not be decoded.
    """
    box = settings.box
    with volume_store(len(clusters.rows), box) as store:
        usual = _decode(pool, z[clusters.rows], store, progress)
        threshold, mask = None, settings.mask
        if mask is None:
            threshold = usual if settings.threshold is None else settings.threshold
            mask = union_mask(
                store, threshold, box=box, pixel_size_angstrom=settings.pixel_size_angstrom
            )
        progress("components", 0, 2)
        slabs = masked_slabs(store, mask)
        gram = gram_matrix(slabs, num_volumes=len(clusters.rows), num_voxels=int(mask.sum()))
        components = volume_components(gram, slabs, mask, COMPONENTS)
        progress("components", 1, 2)
        labels = states(gram.distances(), settings.states, method=settings.linkage)
        mean, sd = state_maps(store, labels, clusters.sizes(), box=box)
        progress("components", 2, 2)
    sketch = Sketch(clusters=clusters, components=components, labels=labels, threshold=threshold)
    return sketch, StateMaps(mean, sd)


def _decode(
    pool: DecoderPool, z: Float[np.ndarray, "n zdim"], store: VolumeStore, progress: Progress
) -> float:
    """Decode volumes into the store, and return the mean of their usual thresholds."""
    thresholds, done = np.empty(len(z)), 0
    for outcome in pool.apply(with_thresholds, z):
        if outcome.error:
            raise outcome.error
        found = outcome.value
        if not np.isfinite(found.volumes).all():
            raise InputError(
                "Volumes have voxels that are not finite: training has diverged. Take an earlier "
                "epoch."
            )
        store.put(outcome.item.start, found.volumes)
        thresholds[outcome.item.start : outcome.item.stop] = found.thresholds
        done += len(outcome.item)
        progress("sketch", done, len(z), unit="volumes")
    return float(thresholds.mean())


def save_sketch(sketch: Sketch, folder: ResultFolder) -> None:
    """Write a sketch into the folder of results, from which ``load_sketch`` takes it."""
    found = sketch.components
    stream = io.BytesIO()
    np.savez(
        stream,
        **{**found._asdict(), "mask": np.packbits(found.mask)},
        states=sketch.labels,
        threshold=np.nan if sketch.threshold is None else sketch.threshold,
    )
    storage.write_bytes(folder.at(SKETCH), stream.getvalue())


def load_sketch(clusters: Clusters, box: int, folder: ResultFolder) -> Sketch | None:
    """Return the sketch that an earlier command finished in the folder, if there is one."""
    if not folder.has(SKETCH):
        return None
    with np.load(io.BytesIO(storage.read_bytes(folder.at(SKETCH)))) as stored:
        values = {name: stored[name] for name in VolumeComponents._fields}
        values["mask"] = np.unpackbits(stored["mask"], count=box**3).reshape(box, box, box) > 0
        threshold = float(stored["threshold"])
        return Sketch(
            clusters=clusters,
            components=VolumeComponents(**values),
            labels=stored["states"],
            threshold=None if np.isnan(threshold) else threshold,
        )
