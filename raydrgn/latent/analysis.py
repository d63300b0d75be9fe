"""Analysis of one epoch: embeddings, clusters and traversals of its latents, and their volumes.

Names of files follow cryoDRGN's ``analyze``, so that its notebooks and MAVEn find them.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.clustering.clusters import SEED, Clusters, k_means
from raydrgn.clustering.embedding import (
    PrincipalComponents,
    place_among,
    principal_components,
    umap_embedding,
)
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.volume_sets import Progress, VolumeSet
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import cryodrgn, storage
from raydrgn.latent.paths import along_component, support
from raydrgn.reporting.analysis_results import UMAP, kmeans_folder, read_umap
from raydrgn.reporting.latent_figures import path_colours, series_colours
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisSettings:
    """What decides the results of an analysis."""

    ksample: int = 20
    """Clusters of k-means."""

    pc: int = 2
    """Components along which to make volumes."""

    pc_points: int = 10
    pc_range: tuple[float, float] = (1.0, 99.0)
    """Percentiles between which they lie."""

    umap: bool = True
    volumes: bool = True
    options: VolumeOptions = field(default_factory=VolumeOptions)
    pixel_size_angstrom: float | None = None
    """At the run's box, where the run does not say it."""

    def check(self, zdim: int) -> None:
        """Check the settings against a run.

        Raises:
            ConfigError: If there are not so many components.
        """
        if self.pc > zdim:
            raise ConfigError(f"--pc {self.pc} is more than the run's zdim, {zdim}.")

    def identity(self) -> dict[str, Any]:
        """Return what pieces of one folder have in common: all but whether some are made."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("umap", "volumes")
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Traversal:
    """Points along one component."""

    component: int
    """From 1."""

    z: Float[np.ndarray, "m zdim"]
    supported: Int[np.ndarray, " m"]
    """Particles around each point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentSpace:
    """All that is known of an epoch's latents."""

    epoch: int | None
    z: Float[np.ndarray, "n zdim"]
    components: PrincipalComponents
    clusters: Clusters
    traversals: list[Traversal]
    umap: Float[np.ndarray, "n 2"] | None
    """None where it was skipped."""

    def embeddings(self) -> list[tuple[str, tuple[str, str], Float[np.ndarray, "n 2"]]]:
        """Return each two-dimensional embedding: file name, axis names, coordinates."""
        found = []
        if self.umap is not None:
            found.append(("umap", ("UMAP 1", "UMAP 2"), self.umap))
        if self.z.shape[1] > 1:
            names = (self._axis(0), self._axis(1))
            found.append(("z_pca", names, self.components.coordinates[:, :2]))
        return found

    def beside_first(
        self, line: Traversal
    ) -> tuple[tuple[str, str], Float[np.ndarray, "n 2"], Float[np.ndarray, "m 2"]]:
        """Return axis names, particles and points in the first component and a traversal's own."""
        both = [0, line.component - 1]
        return (
            (self._axis(0), self._axis(both[1])),
            self.components.coordinates[:, both],
            self.components.project(line.z)[:, both],
        )

    def _axis(self, component: int) -> str:
        share = 100 * float(self.components.explained[component])
        return f"PC {component + 1} ({share:{'.0f' if share >= 1 else '.2g'}} %)"

    def places(self, name: str, points: Float[np.ndarray, "m zdim"]) -> Float[np.ndarray, "m 2"]:
        """Return where latents lie in one of the embeddings."""
        if name == "umap" and self.umap is not None:
            return place_among(points, self.z, self.umap)
        return self.components.project(points)[:, :2]


def describe(
    run: RunReader,
    epoch: int | None,
    settings: AnalysisSettings,
    folder: ResultFolder,
    *,
    progress: Progress | None = None,
) -> LatentSpace:
    """Embed and cluster the latents of an epoch, and write tables.

    A UMAP that is in the folder is taken from there.
    """
    say = progress or (lambda what, done, total: None)
    say("latent space", 0, 3)
    z = run.finite_latents(epoch)
    components = principal_components(z)
    say("latent space", 1, 3)
    clusters = k_means(z, settings.ksample, seed=SEED)
    say("latent space", 2, 3)
    traversals = []
    for component in range(settings.pc):
        line = along_component(
            components, component, points=settings.pc_points, percentiles=settings.pc_range
        )
        traversals.append(Traversal(component=component + 1, z=line, supported=support(z, line)))
    say("latent space", 3, 3)
    umap = _umap(z, folder, say) if settings.umap and z.shape[1] > 1 else None
    space = LatentSpace(
        epoch=epoch,
        z=z,
        components=components,
        clusters=clusters,
        traversals=traversals,
        umap=umap,
    )
    _write_tables(space, settings, folder)
    return space


def _umap(
    z: Float[np.ndarray, "n zdim"], folder: ResultFolder, say: Progress
) -> Float[np.ndarray, "n 2"]:
    try:
        found = read_umap(folder, len(z))
    except InputError as error:
        log.warning("it is made again: %s", error)
        found = None
    if found is None:
        found = umap_embedding(z, seed=SEED, progress=partial(say, "UMAP"))
        cryodrgn.write_pickles(folder.at(UMAP), found.astype(np.float32))
    return found


def _write_tables(space: LatentSpace, settings: AnalysisSettings, folder: ResultFolder) -> None:
    name = kmeans_folder(settings.ksample)
    clusters, z = space.clusters, space.z
    folder.write_numbers(f"{name}/centers.txt", z[clusters.rows], fmt="%.8e")
    folder.write_numbers(f"{name}/centers_ind.txt", clusters.rows, fmt="%d")
    cryodrgn.write_pickles(folder.at(name, "labels.pkl"), clusters.labels)
    sizes = clusters.sizes()
    folder.write_table(
        f"{name}/clusters.csv",
        ("cluster", "particles", "share", "centre_particle"),
        [
            (k, size, float(size / len(z)), row)
            for k, (size, row) in enumerate(zip(sizes, clusters.rows, strict=True))
        ],
    )
    folder.write_table(
        "pca_explained.csv",
        ("component", "explained_variance_share"),
        [(k, float(share)) for k, share in enumerate(space.components.explained, start=1)],
    )
    for line in space.traversals:
        scores = space.components.project(line.z)[:, line.component - 1]
        folder.write_table(
            f"pc{line.component}/points.csv",
            ("point", "score", "particles_around"),
            [
                (k, float(score), int(near))
                for k, (score, near) in enumerate(zip(scores, line.supported, strict=True))
            ],
        )
    _write_particles(space, folder)


def _write_particles(space: LatentSpace, folder: ResultFolder) -> None:
    """Write a row per particle: everything that the figures show of it."""
    columns: dict[str, np.ndarray] = {
        f"pc{k + 1}": space.components.coordinates[:, k] for k in range(min(2, space.z.shape[1]))
    }
    if space.umap is not None:
        columns |= {"umap1": space.umap[:, 0], "umap2": space.umap[:, 1]}
    columns["cluster"] = space.clusters.labels
    table = pa.table({"particle": np.arange(len(space.z)), **columns})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    storage.write_bytes(folder.at("embedding.parquet"), stream.getvalue())


def volume_sets(
    space: LatentSpace, settings: AnalysisSettings, folder: ResultFolder
) -> Sequence[VolumeSet]:
    """Return the volumes that an analysis makes: at cluster centres and along components."""
    sizes = space.clusters.sizes()
    sets = [
        VolumeSet(
            name=f"k-means, {settings.ksample} clusters",
            folder=folder.at(kmeans_folder(settings.ksample)),
            z=space.z[space.clusters.rows],
            colours=series_colours(settings.ksample),
            titles=[f"{k}: {100 * size / len(space.z):.1f} %" for k, size in enumerate(sizes)],
        )
    ]
    for line in space.traversals:
        sets.append(
            VolumeSet(
                name=f"component {line.component}",
                folder=folder.at(f"pc{line.component}"),
                z=line.z,
                colours=path_colours(len(line.z)),
                titles=[f"{k}" for k in range(len(line.z))],
            )
        )
    return sets
