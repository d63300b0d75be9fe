"""The folder of the classes: of each its particles, their map, and its decoded volume.

Maps and decoded volumes are compared as the poses have them, and reversed only as they are written:
`--flip` moves a density by one voxel, which is another length in each box.
"""

from collections.abc import Mapping, Sequence
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
from raydrgn.io.particles import ParticleTable
from raydrgn.io.selection import select_indices
from raydrgn.io.storage import Uri
from raydrgn.io.verification import quiet
from raydrgn.protocol.class_differences import EnsembleMean
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
    members: Mapping[str, Int[np.ndarray, " m"]],
    *,
    table: ParticleTable,
    out: Uri,
    options: BackprojectionOptions,
    executor: Executor,
    progress: Progress,
) -> list[ClassSupport]:
    """Write the particles, the map and the decoded volume of each class, and a figure of all.

    Args:
        run: The run whose particles fall into classes.
        epoch: Its epoch.
        members: Rows of the run's particles that are in each class, by its name.
        table: The particles at full box.
        out: Folder to write.
        options: Contrast and hand; the hand is that of the files.
        executor: Where particles are back-projected.
        progress: Called after each class.
    """
    z = run.finite_latents(epoch)
    numbers = run.original_numbers(len(z))
    as_given, step = replace(options, flip=False), -1 if options.flip else 1
    whole = back_project(
        select_indices(table, numbers), as_given, executor=executor, progress=progress
    )
    filled = {name: rows for name, rows in members.items() if len(rows)}
    volumes = _decoded(run, epoch, z, list(filled.values()))
    sizes = [len(rows) for rows in filled.values()]
    mean = EnsembleMean.of(whole, volumes, sizes)
    found, slices = [], {}
    for done, (name, decoded) in enumerate(zip(filled, volumes, strict=True), start=1):
        rows, folder = filled[name], storage.join(out, name)
        cryodrgn.write_indices(storage.join(folder, "ind.pkl"), numbers[rows])
        pixel_size = run.pixel_size_angstrom or 1.0
        write_volume(
            storage.join(folder, "decoded.mrc"), decoded[::step], pixel_size_angstrom=pixel_size
        )
        maps = _maps(table, numbers[rows], as_given, executor)
        if maps is not None:
            write_backprojection(maps.reversed() if options.flip else maps, folder)
        found.append(
            class_support(
                name,
                maps,
                decoded,
                particles=len(rows),
                share=len(rows) / len(z),
                mean=mean,
            )
        )
        middle = None if maps is None else maps.full[::step][len(maps.full) // 2]
        slices[name] = (decoded[::step][len(decoded) // 2], middle)
        progress("maps of classes", done, len(filled), unit="classes")
    figure = to_png(class_figure(found, slices))
    storage.write_bytes(storage.join(out, FIGURE), figure)
    return found


def _decoded(
    run: RunReader,
    epoch: int,
    z: Float[np.ndarray, "n zdim"],
    members: Sequence[Int[np.ndarray, " _"]],
) -> Float[np.ndarray, "k d d d"]:
    """Return the volume at the particle nearest to the median latent of each class."""
    centres = [nearest_to_median(z, rows) for rows in members]
    with DecoderPool(run.decoder(epoch), VolumeOptions()) as pool:
        return pool.volumes(z[centres])


def _maps(
    table: ParticleTable,
    numbers: Int[np.ndarray, " m"],
    options: BackprojectionOptions,
    executor: Executor,
) -> Backprojection | None:
    """Back-project the particles of a class; None if they are too few."""
    if len(numbers) < FEWEST:
        return None
    with quiet("raydrgn"):  # what is logged of all particles is true of these
        return back_project(select_indices(table, numbers), options, executor=executor)
