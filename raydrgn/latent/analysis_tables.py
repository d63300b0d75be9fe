"""Tables of an analysis; names of files follow cryoDRGN's ``analyze``.

Every table of particles has their row in the latents (``particle``) and their number in the set
before any selection (``original``), and cryoSPARC's ``uid`` where it is known.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raydrgn.io import cryodrgn
from raydrgn.latent.analysis import LatentSpace
from raydrgn.reporting.analysis_results import kmeans_folder
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Int


def write_tables(
    space: LatentSpace,
    numbers: Int[np.ndarray, " n"] | None,
    folder: ResultFolder,
    *,
    uids: np.ndarray | None = None,
) -> pa.Table:
    """Write clusters, components, paths and particles; return the table of particles.

    Args:
        space: The analysed latents.
        numbers: Of the particles in the original set; None if they are not known.
        folder: Where the tables go.
        uids: cryoSPARC's ids of the particles, where they are known.
    """
    _write_clusters(space, numbers, folder)
    folder.write_table(
        "pca_explained.csv",
        ("component", "explained_variance_share"),
        [(k, float(share)) for k, share in enumerate(space.components.explained, start=1)],
    )
    for component, path in enumerate(space.paths, start=1):
        scores = space.components.project(path.z)[:, component - 1]
        folder.write_table(
            f"{path.name}/points.csv",
            ("point", "score", "particles_around"),
            [
                (k, float(score), int(around))
                for k, (score, around) in enumerate(zip(scores, path.support, strict=True))
            ],
        )
    return _write_particles(space, numbers, folder, uids)


def _write_clusters(
    space: LatentSpace, numbers: Int[np.ndarray, " n"] | None, folder: ResultFolder
) -> None:
    clusters, z = space.clusters, space.z
    name = kmeans_folder(len(clusters.rows))
    folder.write_numbers(f"{name}/centers.txt", z[clusters.rows], fmt="%.8e")
    folder.write_numbers(f"{name}/centers_ind.txt", clusters.rows, fmt="%d")
    cryodrgn.write_pickles(folder.at(name, "labels.pkl"), clusters.labels)
    folder.write_parquet(
        f"{name}/labels.parquet",
        {**particle_columns(len(z), numbers), "cluster": clusters.labels},
    )
    originals = [""] * len(clusters.rows) if numbers is None else numbers[clusters.rows]
    folder.write_table(
        f"{name}/clusters.csv",
        ("cluster", "particles", "share", "centre_particle", "centre_original"),
        [
            (k, size, float(size / len(z)), row, original)
            for k, (size, row, original) in enumerate(
                zip(clusters.sizes(), clusters.rows, originals, strict=True)
            )
        ],
    )


def _write_particles(
    space: LatentSpace,
    numbers: Int[np.ndarray, " n"] | None,
    folder: ResultFolder,
    uids: np.ndarray | None,
) -> pa.Table:
    """Write a row per particle: everything that the figures show of it."""
    columns = particle_columns(len(space.z), numbers, uids=uids)
    for k in range(min(2, len(space.components.axes))):
        columns[f"pc{k + 1}"] = space.components.coordinates[:, k]
    if space.umap is not None:
        columns |= {"umap1": space.umap[:, 0], "umap2": space.umap[:, 1]}
    columns["cluster"] = space.clusters.labels
    return folder.write_parquet("embedding.parquet", columns)


def particle_columns(
    num_particles: int,
    numbers: Int[np.ndarray, " n"] | None,
    *,
    uids: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the columns that every table of particles begins with."""
    unknown = pa.nulls(num_particles, pa.int64())
    return {
        "particle": np.arange(num_particles),
        "original": unknown if numbers is None else numbers,
        **({} if uids is None else {"uid": uids}),
    }
