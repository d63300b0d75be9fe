"""Analysis of the latents of one epoch: components, clusters, paths along components, UMAP."""

from dataclasses import dataclass

import numpy as np

from raydrgn.clustering.clusters import SEED, Clusters, k_means
from raydrgn.clustering.embedding import (
    PrincipalComponents,
    interpolate_embedding,
    principal_components,
)
from raydrgn.latent.paths import LatentPath, along_component, support
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentSpace:
    """Latents of an epoch, and their components, clusters, paths and embedding."""

    z: Float[np.ndarray, "n zdim"]
    components: PrincipalComponents
    clusters: Clusters
    paths: list[LatentPath]
    """Points along the first principal components."""

    umap: Float[np.ndarray, "n 2"] | None = None
    """None if it was skipped."""

    def embeddings(self) -> list[tuple[str, tuple[str, str], Float[np.ndarray, "n 2"]]]:
        """Return each two-dimensional embedding: file name, axis names, coordinates."""
        found = []
        if self.umap is not None:
            found.append(("umap", ("UMAP 1", "UMAP 2"), self.umap))
        if len(self.components.axes) > 1:
            names = (self._axis(0), self._axis(1))
            found.append(("z_pca", names, self.components.coordinates[:, :2]))
        return found

    def embed(self, name: str, points: Float[np.ndarray, "m zdim"]) -> Float[np.ndarray, "m 2"]:
        """Return the coordinates of other latents in one of the embeddings."""
        if name == "umap" and self.umap is not None:
            return interpolate_embedding(points, self.z, self.umap)
        return self.components.project(points)[:, :2]

    def beside_first(
        self, component: int, points: Float[np.ndarray, "m zdim"]
    ) -> tuple[tuple[str, str], Float[np.ndarray, "n 2"], Float[np.ndarray, "m 2"]]:
        """Return axis names, particles and points in the first component and another, from 1."""
        both = [0, component - 1]
        return (
            (self._axis(0), self._axis(both[1])),
            self.components.coordinates[:, both],
            self.components.project(points)[:, both],
        )

    def _axis(self, component: int) -> str:
        share = 100 * float(self.components.explained[component])
        return f"PC {component + 1} ({share:{'.0f' if share >= 1 else '.2g'}} %)"


def analyze_latents(
    z: Float[np.ndarray, "n zdim"],
    *,
    ksample: int,
    pc: int,
    pc_points: int,
    pc_range: tuple[float, float],
    progress: Progress = silent,
) -> LatentSpace:
    """Return components, clusters and paths of latents.

    Args:
        z: Latents, all finite.
        ksample: Clusters of k-means.
        pc: Principal components with a path along them.
        pc_points: Points along each.
        pc_range: Percentiles of the particles at the two ends.
        progress: Called after each step.

    Raises:
        ConfigError: If there are not as many components, particles or distinct latents.
    """
    progress("latent space", 0, 3, unit="steps")
    components = principal_components(z)
    progress("latent space", 1, 3, unit="steps")
    clusters = k_means(z, ksample, seed=SEED)
    progress("latent space", 2, 3, unit="steps")
    paths = []
    for component in range(pc):
        points = along_component(components, component, points=pc_points, percentiles=pc_range)
        paths.append(LatentPath(name=f"pc{component + 1}", z=points, support=support(z, points)))
    progress("latent space", 3, 3, unit="steps")
    return LatentSpace(z=z, components=components, clusters=clusters, paths=paths)
