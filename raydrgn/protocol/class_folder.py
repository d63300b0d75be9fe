"""The folder of the classes: of each its particles, their map, and its decoded volume."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raydrgn.clustering.clusters import nearest_to_median
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.inputs.backprojection import Backprojection, back_project
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.inputs.report import write_backprojection
from raydrgn.io import cryodrgn, storage
from raydrgn.io.mrc import write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.selection import select_indices
from raydrgn.io.sources import open_particles
from raydrgn.protocol.support import FEWEST, ClassSupport, class_figure, class_support
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.reporting.figures import to_png
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

FIGURE = "classes.png"


def make_classes(
    run: RunReader,
    epoch: int,
    labels: Int[np.ndarray, " n"],
    names: Sequence[str],
    *,
    original: ParticleSource,
    options: BackprojectionOptions,
    executor: Executor,
    progress: Progress,
) -> list[ClassSupport]:
    """Write the particles, the map and the decoded volume of each class, and a figure of all.

    Args:
        run: The run whose particles fall into classes.
        epoch: Its epoch.
        labels: Class of each particle, from 0; −1 for none.
        names: Of the classes.
        original: Where the particles are at full box.
        options: Folder to write, contrast and hand.
        executor: Where particles are back-projected.
        progress: Called after each class.
    """
    z = run.finite_latents(epoch)
    numbers = run.original_numbers(len(z))
    table = open_particles(replace(original, ind=None))
    whole = back_project(
        select_indices(table, numbers), options, executor=executor, progress=progress
    )
    members = [np.flatnonzero(labels == k) for k in range(len(names))]
    filled = [k for k, rows in enumerate(members) if len(rows)]
    volumes = _decoded(run, epoch, z, [members[k] for k in filled], options.flip)
    found, slices = [], {}
    for done, (k, decoded) in enumerate(zip(filled, volumes, strict=True), start=1):
        rows, folder = members[k], storage.join(options.out, names[k])
        cryodrgn.write_indices(storage.join(folder, "ind.pkl"), numbers[rows])
        pixel_size = run.pixel_size_angstrom or 1.0
        write_volume(storage.join(folder, "decoded.mrc"), decoded, pixel_size_angstrom=pixel_size)
        maps = _maps(table, numbers[rows], replace(options, out=folder), executor)
        found.append(
            class_support(
                names[k],
                maps,
                decoded,
                particles=len(rows),
                share=len(rows) / len(z),
                resolution_angstrom=whole.resolution.at(0.143),
            )
        )
        middle = None if maps is None else maps.full[len(maps.full) // 2]
        slices[names[k]] = (decoded[len(decoded) // 2], middle)
        progress("maps of classes", done, len(filled), unit="classes")
    figure = to_png(class_figure(found, slices))
    storage.write_bytes(storage.join(options.out, FIGURE), figure)
    return found


def _decoded(
    run: RunReader,
    epoch: int,
    z: Float[np.ndarray, "n zdim"],
    members: Sequence[Int[np.ndarray, " _"]],
    flip: bool,
) -> Float[np.ndarray, "k d d d"]:
    """Return the volume at the particle nearest to the median latent of each class."""
    centres = [nearest_to_median(z, rows) for rows in members]
    with DecoderPool(run.decoder(epoch), VolumeOptions(flip=flip)) as pool:
        return pool.volumes(z[centres])


def _maps(
    table: ParticleTable,
    numbers: Int[np.ndarray, " m"],
    options: BackprojectionOptions,
    executor: Executor,
) -> Backprojection | None:
    """Back-project the particles of a class, and write the maps; None if they are too few."""
    if len(numbers) < FEWEST:
        return None
    maps = back_project(select_indices(table, numbers), options, executor=executor)
    write_backprojection(maps, options.out)
    return maps
