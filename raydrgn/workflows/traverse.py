"""``traverse``: volumes along a path through the latent space of one epoch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.latent.options import Spacing
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_percentiles
from raydrgn.workflows.epoch import LatentSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.volume_sets import MadeSets
    from raydrgn.latent.paths import LatentPath
    from raydrgn.reporting.analysis_results import AnalysisResults
    from raydrgn.reporting.result_folder import ResultFolder


@dataclass(frozen=True, kw_only=True)
class TraverseSettings(LatentSettings, ABC):
    """Settings of every path."""

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", project="epoch")
    ] = None

    @abstractmethod
    def find_path(
        self, z: "np.ndarray", analysis: "AnalysisResults"
    ) -> "tuple[LatentPath, np.ndarray]":
        """Return the path through latents, and the latents of its anchors or ends."""


@dataclass(frozen=True, kw_only=True)
class TraversePcSettings(TraverseSettings):
    """Settings of ``traverse pc``: along a principal component."""

    pc: Annotated[int, Setting("Component, from 1.", min=1)] = 1

    points: Annotated[int, Setting("Points along the path.", flags=("-n", "--points"), min=2)] = 10

    percentiles: Annotated[
        tuple[float, float],
        Setting("Percentiles of the particles at the two ends.", flags=("--range",)),
    ] = (1.0, 99.0)

    spaced: Annotated[
        Spacing,
        Setting("Equal distances, or equally many particles, between points."),
    ] = "even"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_percentiles(self.percentiles, "--range")

    def find_path(
        self, z: "np.ndarray", analysis: "AnalysisResults"
    ) -> "tuple[LatentPath, np.ndarray]":
        """Return points along the component, and the two ends."""
        from raydrgn.clustering.embedding import principal_components
        from raydrgn.latent.paths import LatentPath, along_component, support

        points = along_component(
            principal_components(z),
            self.pc - 1,
            points=self.points,
            percentiles=self.percentiles,
            spaced=self.spaced,
        )
        path = LatentPath(name=f"pc{self.pc}", z=points, support=support(z, points))
        return path, points[[0, -1]]


@dataclass(frozen=True, kw_only=True)
class AnchoredPathSettings(TraverseSettings):
    """Settings of paths that visit anchors."""

    anchors: Annotated[
        str | None,
        Setting("Particles to visit, such as 0,17,42 (rows of z.N.pkl), or a file of them."),
    ] = None

    centres: Annotated[
        str | None,
        Setting(
            "Clusters of analyze to visit, such as 0,7, or 20:0,7 if K = 20 is not the latest."
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.anchors is None) == (self.centres is None):
            raise ConfigError("Choose what to visit with one of --anchors and --centres.")

    def rows(self, num_particles: int, analysis: "AnalysisResults") -> "np.ndarray":
        """Return the particles to visit, as rows of the latents."""
        from raydrgn.latent.anchors import read_anchors

        return read_anchors(analysis, num_particles, anchors=self.anchors, centres=self.centres)


@dataclass(frozen=True, kw_only=True)
class TraverseDirectSettings(AnchoredPathSettings):
    """Settings of ``traverse direct``: straight lines from anchor to anchor."""

    points: Annotated[
        int, Setting("Points of each line, ends included.", flags=("-n", "--points"), min=2)
    ] = 6

    def find_path(
        self, z: "np.ndarray", analysis: "AnalysisResults"
    ) -> "tuple[LatentPath, np.ndarray]":
        """Return points on the lines between anchors, and the anchors."""
        from raydrgn.latent.paths import LatentPath, straight, support

        anchors = z[self.rows(len(z), analysis)]
        points = straight(anchors, points=self.points)
        return LatentPath(name="direct", z=points, support=support(z, points)), anchors


@dataclass(frozen=True, kw_only=True)
class TraverseGraphSettings(AnchoredPathSettings):
    """Settings of ``traverse graph``: from particle to particle through near neighbours."""

    max_neighbors: Annotated[
        int, Setting("Nearest neighbours of a particle, itself included.", min=2)
    ] = 10

    avg_neighbors: Annotated[
        float, Setting("Neighbours that are kept on average: those at the shortest distances.")
    ] = 5.0

    def find_path(
        self, z: "np.ndarray", analysis: "AnalysisResults"
    ) -> "tuple[LatentPath, np.ndarray]":
        """Return the shortest path from anchor to anchor, and the anchors."""
        from raydrgn.latent.paths import LatentPath, NeighbourGraph, support

        anchors = self.rows(len(z), analysis)
        graph = NeighbourGraph(
            z, max_neighbors=self.max_neighbors, avg_neighbors=self.avg_neighbors
        )
        rows = graph.through(anchors.tolist()).rows
        path = LatentPath(name="graph", z=z[rows], support=support(z, z[rows]), rows=rows)
        return path, z[anchors]


@dataclass(frozen=True, kw_only=True)
class TraverseResult:
    """A path and its volumes; the folder has them as files."""

    folder: "ResultFolder"
    epoch: int | None
    path: "LatentPath"
    """Latents of the points, the particles around each, and the particles that they are."""

    originals: "np.ndarray | None"
    """Numbers of these particles in the original set; None if points are not particles."""

    length: float
    """Sum of the distances between successive points."""

    distance: float
    """Sum of the straight distances between successive anchors, or between the two ends."""

    volumes: "MadeSets | None"
    """Previews of the volumes; None if they were skipped."""

    @property
    def failures(self) -> list[str]:
        """Volumes that could not be decoded, and why."""
        return self.volumes.failures if self.volumes else []


def run(
    settings: TraverseSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> TraverseResult:
    """Find a path, decode the volumes of its points, and write the result folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    from raydrgn.io import storage
    from raydrgn.latent.path_report import path_volumes, write_path, write_pictures
    from raydrgn.reporting.analysis_results import AnalysisResults

    opened = settings.open(executor)
    source, epoch, z, makes_volumes = opened
    settings.result_folder(source, epoch, "traverse").require_writable()
    analysis = AnalysisResults(source, epoch)
    path, anchors = settings.find_path(z, analysis)
    numbers = None if path.rows is None else source.known_numbers(len(z))
    originals = None if numbers is None else numbers[path.rows]
    folder = settings.begin(
        source,
        epoch,
        f"traverse {path.name}",
        found={"path": _in_words(path.z)},
        folder=storage.join(source.results("traverse", epoch), path.name),
    )
    write_path(path, originals, z, analysis.umap(len(z)), folder)
    made = None
    if makes_volumes:
        from raydrgn.decoding.volume_sets import make_sets

        with settings.pool(opened, executor) as pool:
            made = make_sets(pool, [path_volumes(path, folder)], progress=progress)
        write_pictures(path, made, folder)
    folder.finish()
    return TraverseResult(
        folder=folder,
        epoch=epoch,
        path=path,
        originals=originals,
        length=_length(path.z),
        distance=_length(anchors),
        volumes=made,
    )


def _length(points: "np.ndarray") -> float:
    """Return the sum of the distances between successive points."""
    import numpy as np

    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _in_words(points: "np.ndarray") -> str:
    """Return what identifies a path: its number of points, ends and checksum."""
    from raydrgn.io.storage import checksum

    first, last = (",".join(f"{value:.4g}" for value in z) for z in (points[0], points[-1]))
    digest = checksum(points.tobytes())[:12]
    return f"{len(points)} points from z = {first} to {last} ({digest})"
