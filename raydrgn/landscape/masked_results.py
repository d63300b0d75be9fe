"""Maps and tables of components within one mask, as they lie in the folder of results."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.volume_sets import VolumeSet
from raydrgn.io.masks import Mask
from raydrgn.io.mrc import write_volume
from raydrgn.landscape.components import VolumeComponents, rows_at_percentiles
from raydrgn.landscape.masked_volumes import VolumeList
from raydrgn.reporting.latent_figures import path_colours
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

PERCENTILES = tuple(np.linspace(5, 95, 10).tolist())
SHOWN_COMPONENTS = 3
"""Components that have a map and a series of volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentSeries:
    """Volumes along a component."""

    volumes: VolumeSet
    chosen: Sequence[int]
    """Which of the volumes they are."""

    rows: Float[np.ndarray, "s m"]
    """Their voxels inside the mask."""


def component_series(
    found: VolumeComponents,
    volumes: VolumeList,
    rows: Float[np.ndarray, "n m"],
    folder: ResultFolder,
) -> list[ComponentSeries]:
    """Return the volumes to show along each of the first components."""
    series = []
    for component in range(min(SHOWN_COMPONENTS, len(found.explained))):
        coordinate = found.coordinates[:, component]
        chosen = rows_at_percentiles(coordinate, PERCENTILES).tolist()
        no_latents = np.empty((len(chosen), 0), np.float32)
        volume_set = VolumeSet(
            name=f"voxel component {component + 1}",
            folder=folder.at(f"pc{component + 1}"),
            z=no_latents if volumes.z is None else volumes.z[chosen],
            colours=path_colours(len(chosen)),
            titles=[f"{coordinate[row] / coordinate.std():+.1f} SD" for row in chosen],
        )
        series.append(ComponentSeries(volumes=volume_set, chosen=chosen, rows=rows[chosen]))
    return series


def write_components(
    found: VolumeComponents,
    volumes: VolumeList,
    mask: Mask,
    folder: ResultFolder,
    *,
    pixel_size_angstrom: float,
    original: Int[np.ndarray, " p"] | None = None,
) -> None:
    """Write the coordinates of the volumes, the variance explained, and maps of the components.

    Args:
        found: Components.
        volumes: The volumes compared.
        mask: Where.
        folder: Where to write.
        pixel_size_angstrom: Of the volumes; the header of a mask may have none.
        original: Number of each particle of the run in the set before any selection.
    """
    count = len(found.explained)
    folder.write_table(
        "explained.csv",
        ("component", "share", "up_to_here"),
        [
            (k, float(share), float(total))
            for k, (share, total) in enumerate(
                zip(found.explained, found.explained.cumsum(), strict=True), start=1
            )
        ],
    )
    head = ["volume"]
    particles: list[tuple[int, ...]] = [()] * len(volumes.names)
    if volumes.rows is not None and original is not None:
        head += ["particle", "original"]
        particles = list(zip(volumes.rows, original[volumes.rows], strict=True))
    rows = [
        (name, *particle, *own)
        for name, particle, own in zip(volumes.names, particles, found.coordinates, strict=True)
    ]
    folder.write_table("coordinates.csv", [*head, *_names(count)], rows)
    shown = range(min(SHOWN_COMPONENTS, count))
    maps = {f"pc{k + 1}/component.mrc": found.change(k) for k in shown}
    for name, volume in {"mean.mrc": found.mean_volume(), **maps}.items():
        write_volume(
            folder.at(*name.split("/")),
            volume,
            pixel_size_angstrom=pixel_size_angstrom,
            origin_angstrom=mask.origin_angstrom,
        )


def write_particles(
    original: Int[np.ndarray, " p"], coordinates: Float[np.ndarray, "p k"], folder: ResultFolder
) -> None:
    """Write the coordinates of every particle, with its number before any selection."""
    columns = dict(zip(_names(coordinates.shape[1]), coordinates.T, strict=True))
    rows = np.arange(len(original))
    folder.write_parquet("particles.parquet", {"particle": rows, "original": original, **columns})


def _names(count: int) -> list[str]:
    return [f"pc{k + 1}" for k in range(count)]
