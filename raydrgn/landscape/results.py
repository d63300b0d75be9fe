"""Maps and tables of a landscape, as they lie in the folder of results."""

from collections.abc import Sequence

import numpy as np

from raydrgn.decoding.volume_sets import VolumeSet, write_maps
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import write_volume
from raydrgn.io.storage import Uri
from raydrgn.landscape.components import VolumeComponents
from raydrgn.landscape.particles import ParticleCoordinates
from raydrgn.landscape.sketch import Sketch, StateMaps
from raydrgn.reporting.latent_figures import path_colours, series_colours
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

SHOWN_COMPONENTS, COMPONENT_POINTS = 5, 10
PARTICLES = "landscape.parquet"


def state_set(sketch: Sketch, folder: ResultFolder) -> VolumeSet:
    """Return the mean volumes of the states as a set."""
    particles = np.bincount(sketch.particle_states(), minlength=sketch.num_states)
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
    coordinates = _along(sketch.components, component)[:, component]
    return VolumeSet(
        name=f"volume component {component + 1}",
        folder=folder.at(f"component{component + 1}"),
        z=np.empty((len(coordinates), 0), dtype=np.float32),
        colours=path_colours(len(coordinates)),
        titles=[f"{value:.3g}" for value in coordinates],
    )


def sd_map(state: int, folder: ResultFolder) -> str:
    """Return the path of the SD map of a state."""
    return folder.at("states", f"sd_{state:03d}.mrc")


def _along(components: VolumeComponents, component: int) -> Float[np.ndarray, "m k"]:
    """Return coordinates from one end of a component to the other, those of the others 0."""
    own = components.coordinates[:, component]
    coordinates = np.zeros((COMPONENT_POINTS, components.coordinates.shape[1]))
    coordinates[:, component] = np.linspace(own.min(), own.max(), COMPONENT_POINTS)
    return coordinates


def write_sketch_maps(
    sketch: Sketch, maps: StateMaps, folder: ResultFolder, *, pixel_size_angstrom: float
) -> None:
    """Write the mask, mean and SD of each state, and volumes along the first components."""
    components = sketch.components
    write_volume(
        folder.at("mask.mrc"),
        components.mask.astype(np.float32),
        pixel_size_angstrom=pixel_size_angstrom,
    )
    write_maps(state_set(sketch, folder), maps.mean, pixel_size_angstrom=pixel_size_angstrom)
    for state, volume in enumerate(maps.sd):
        write_volume(sd_map(state, folder), volume, pixel_size_angstrom=pixel_size_angstrom)
    for component in range(min(SHOWN_COMPONENTS, len(components.axes))):
        volumes = [components.volume(point) for point in _along(components, component)]
        write_maps(
            component_set(sketch, component, folder),
            volumes,
            pixel_size_angstrom=pixel_size_angstrom,
        )


def write_particles(
    sketch: Sketch,
    found: ParticleCoordinates,
    original: Int[np.ndarray, " p"],
    folder: ResultFolder,
) -> None:
    """Write the particles of each state, and a table with a row per particle.

    Args:
        sketch: States of the particles.
        found: Coordinates of the particles.
        original: Number of each particle in the set before any selection.
        folder: Where to write.
    """
    state = sketch.particle_states()
    for number in range(sketch.num_states):
        uri = folder.at("states", f"state_{number:03d}.ind.pkl")
        cryodrgn.write_indices(uri, original[state == number])
    was_decoded = np.zeros(len(state), dtype=bool)
    was_decoded[found.rows] = True
    columns: dict[str, np.ndarray] = {
        "particle": np.arange(len(state)),
        "original": original,
        "state": state,
        "volume_was_made": was_decoded,
    }
    names = component_names(found.coordinates.shape[1])
    columns |= dict(zip(names, found.coordinates.T, strict=True))
    folder.write_parquet(PARTICLES, columns)


def write_one_state(original: Int[np.ndarray, " p"], folder: Uri) -> None:
    """Write the table of ``write_particles`` for volumes that do not differ: all in state 0."""
    rows = np.arange(len(original))
    columns = {"particle": rows, "original": original, "state": np.zeros_like(rows)}
    ResultFolder(folder).write_parquet(PARTICLES, columns)


def write_sketch_table(
    sketch: Sketch, original: Int[np.ndarray, " p"], folder: ResultFolder
) -> None:
    """Write a row for each volume of the sketch: its particle, state and coordinates."""
    coordinates = sketch.components.coordinates
    particles, sizes = sketch.clusters.rows, sketch.clusters.sizes()
    rows: list[Sequence[object]] = [
        (number, row, original[row], sizes[number], sketch.labels[number], *coordinates[number])
        for number, row in enumerate(particles)
    ]
    head = ("volume", "particle", "original", "particles", "state")
    folder.write_table("sketch.csv", (*head, *component_names(coordinates.shape[1])), rows)


def component_names(count: int) -> list[str]:
    """Return the names of columns of coordinates."""
    return [f"component{k + 1}" for k in range(count)]
