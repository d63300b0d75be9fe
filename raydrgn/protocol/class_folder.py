"""The folder of the classes: of each its particles, their map, and its decoded volume."""

from collections.abc import Mapping, Sequence

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
        options: Contrast and hand.
        executor: Where particles are back-projected.
        progress: Called after each class.
    """
    z = run.finite_latents(epoch)
    numbers = run.original_numbers(len(z))
    whole = back_project(
        select_indices(table, numbers), options, executor=executor, progress=progress
    )
    filled = {name: rows for name, rows in members.items() if len(rows)}
    volumes = _decoded(run, epoch, z, list(filled.values()), options.flip)
    sizes = [len(rows) for rows in filled.values()]
    mean = EnsembleMean.of(whole, volumes, sizes)
    found, slices = [], {}
    for done, (name, decoded) in enumerate(zip(filled, volumes, strict=True), start=1):
        rows, folder = filled[name], storage.join(out, name)
        cryodrgn.write_indices(storage.join(folder, "ind.pkl"), numbers[rows])
        pixel_size = run.pixel_size_angstrom or 1.0
        write_volume(storage.join(folder, "decoded.mrc"), decoded, pixel_size_angstrom=pixel_size)
        maps = _maps(table, numbers[rows], folder, options, executor)
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
        middle = None if maps is None else maps.full[len(maps.full) // 2]
        slices[name] = (decoded[len(decoded) // 2], middle)
        progress("maps of classes", done, len(filled), unit="classes")
    figure = to_png(class_figure(found, slices))
    storage.write_bytes(storage.join(out, FIGURE), figure)
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
    out: Uri,
    options: BackprojectionOptions,
    executor: Executor,
) -> Backprojection | None:
    """Back-project the particles of a class, and write the maps; None if they are too few."""
    if len(numbers) < FEWEST:
        return None
    with quiet("raydrgn"):  # what is logged of all particles is true of these
        maps = back_project(select_indices(table, numbers), options, executor=executor)
    write_backprojection(maps, out)
    return maps
