"""A path through the latent space: its points, their volumes, and a figure of it on the UMAP."""

import numpy as np
from matplotlib.figure import Figure

from raydrgn.clustering.embedding import interpolate_embedding, principal_components
from raydrgn.decoding.latent_input import write_latents
from raydrgn.decoding.volume_sets import MadeSets, VolumeSet, central_slices
from raydrgn.latent.paths import TYPICAL_SUPPORT, LatentPath
from raydrgn.latent.volume_surfaces import surface_sheet, surfaces, write_path_movie
from raydrgn.reporting import latent_figures
from raydrgn.reporting.figures import sheet, slice_rows
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int


def write_path(
    path: LatentPath,
    originals: Int[np.ndarray, " m"] | None,
    z: Float[np.ndarray, "n zdim"],
    umap: Float[np.ndarray, "n 2"] | None,
    folder: ResultFolder,
) -> None:
    """Write the points of a path, and a figure of it.

    Args:
        path: The path.
        originals: Numbers of its particles in the original set; None if they are not known, or
            points are not particles.
        z: Latents of all particles.
        umap: Their UMAP; without it the figure shows the first two principal components.
        folder: Where the files go.
    """
    write_latents(folder.uri, path.z)
    blank = [""] * len(path.z)
    rows = blank if path.rows is None else path.rows
    numbers = blank if originals is None else originals
    if path.rows is not None:
        folder.write_numbers("path_ind.txt", path.rows, fmt="%d")
    folder.write_table(
        "points.csv",
        ("point", "particle", "original", "particles_around"),
        [(k, *values) for k, values in enumerate(zip(rows, numbers, path.support, strict=True))],
    )
    folder.write_figure("path.png", _draw(path, z, umap))


def path_volumes(path: LatentPath, folder: ResultFolder) -> VolumeSet:
    """Return the volumes of the points of a path."""
    return VolumeSet(
        name=path.name,
        folder=folder.uri,
        z=path.z,
        colours=latent_figures.path_colours(len(path.z)),
        titles=[f"{k} ({around} near)" for k, around in enumerate(path.support)],
    )


def write_pictures(path: LatentPath, made: MadeSets, folder: ResultFolder) -> None:
    """Draw central slices and isosurfaces of the volumes along a path, and write the movie."""
    volumes = path_volumes(path, folder)
    rows = slice_rows(volumes.titles, central_slices(made.previews[0]))
    folder.write_figure("slices.png", sheet(rows))
    if pictures := surfaces(volumes, made.previews[0]):
        folder.write_figure("surfaces.png", surface_sheet(pictures))
        write_path_movie(pictures, volumes)


def _draw(
    path: LatentPath, z: Float[np.ndarray, "n zdim"], umap: Float[np.ndarray, "n 2"] | None
) -> Figure:
    if min(z.shape) == 1:
        line, points = z[:, :1], path.z[:, :1]
        return latent_figures.path_in_line(line, points, path.support, typical=TYPICAL_SUPPORT)
    if umap is not None:
        names, xy = ("UMAP 1", "UMAP 2"), umap
        points = interpolate_embedding(path.z, z, umap)
    else:
        components = principal_components(z)
        names, xy = ("PC 1", "PC 2"), components.coordinates[:, :2]
        points = components.project(path.z)[:, :2]
    return latent_figures.path(names, xy, points, path.support, typical=TYPICAL_SUPPORT)
