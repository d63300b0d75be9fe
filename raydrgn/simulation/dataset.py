"""A whole simulated data set on disk, as a refinement would leave it, with the truth beside it."""

import json
import re
from collections.abc import Callable, Iterator

import numpy as np

from raydrgn.io import cryodrgn, storage
from raydrgn.io.mrc import VOLUME_NAME, volume_name, write_volume
from raydrgn.io.mrc_stacks import StackWriter
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import to_ctf
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float
from raydrgn.simulation.acquisition import Acquisition, draw_acquisition, with_errors, with_options
from raydrgn.simulation.ensemble import Ensemble, of_maps, of_phantom, with_junk
from raydrgn.simulation.images import ForwardModel
from raydrgn.simulation.model import MODEL_FILES, model_files
from raydrgn.simulation.options import Simulation
from raydrgn.simulation.phantom import PHANTOMS

Progress = Callable[[int, int], None]
"""Called with the number of particles done and of all."""

TRUE_VALUES = ("particles.parquet", "contrast.npy")
"""Files of the truth that are there only where it is not what is written."""

ARRAYS = ("labels.npy", "shown.npy", "motion_deg.npy")
STACK = re.compile(r"particles(\.\d+)?\.mrcs")
LIST = "particles.txt"
"""Of the stacks, where there are several."""


def simulate(
    out: Uri, simulation: Simulation, *, progress: Progress | None = None
) -> ParticleTable:
    """Write stacks, STAR file, cryoDRGN's pickles and the truth into a folder.

    ``truth/labels.npy`` is the state of each particle and ``truth/vol_NNN.mrc`` the volume of state
    N; where states move, ``truth/shown.npy`` is the number of the very volume that each image
    shows, and ``truth/motion_deg.npy`` its angle. ``truth/states.json`` names the states; junk is
    in states of its own, whose volumes are empty, and has poses and optics like particles.

    Where poses or defocus are written with errors, or contrast varies, ``truth/particles.parquet``
    is the particle table of the true ones, and ``truth/contrast.npy`` the factor of each particle's
    signal, NaN for junk.

    Of a phantom, ``truth/model.pdb`` has its subunits as chains, ``truth/subunits.yaml`` names them
    for ``occupancy masks --by``, and ``truth/composition.csv`` says which state has which.

    Returns:
        The particles, as `parse` would read them.
    """
    generator = np.random.default_rng(simulation.seed)
    count, box = simulation.num_particles, simulation.box
    if simulation.maps:
        ensemble = of_maps(simulation.maps, num_particles=count, box=box, generator=generator)
    else:
        phantom = PHANTOMS[simulation.phantom]
        ensemble = of_phantom(phantom, num_particles=count, box=box, generator=generator)
    if simulation.junk:
        ensemble = with_junk(ensemble, simulation.junk, generator=generator)
    acquisition = with_options(draw_acquisition(count, generator=generator), simulation)
    model = ForwardModel(ensemble, acquisition)
    noisy = model.noisy(noise_sd=model.noise_sd(simulation.snr), generator=generator)

    _remove_earlier(out)
    _write_truth(storage.join(out, "truth"), ensemble)
    if not simulation.maps:
        for name, text in model_files(PHANTOMS[simulation.phantom], box=box).items():
            storage.write_bytes(storage.join(out, "truth", name), text.encode())
    stacks = _write_stacks(out, _counted(noisy, count, progress), simulation, ensemble)
    written = with_errors(acquisition, simulation)
    table = _particle_table(written, simulation, ensemble, stacks)
    cryodrgn.write_poses(
        storage.join(out, "poses.pkl"), cryodrgn.Poses(written.rotations, written.shifts_fraction)
    )
    cryodrgn.write_ctf(storage.join(out, "ctf.pkl"), to_ctf(table))
    write_relion(storage.join(out, "particles.star"), table)
    true, contrast = (storage.join(out, "truth", name) for name in TRUE_VALUES)
    if simulation.has_true_values:
        _particle_table(acquisition, simulation, ensemble, stacks).write(true)
        _write_array(contrast, _true_contrast(acquisition, ensemble))
    return table


def _remove_earlier(out: Uri) -> None:
    """Remove stacks and truth of an earlier simulation, which would be taken for those of this."""
    truth = storage.join(out, "truth")
    for folder, pattern, others in (
        (out, STACK, (LIST,)),
        (truth, VOLUME_NAME, (*ARRAYS, *TRUE_VALUES, *MODEL_FILES)),
    ):
        for name in storage.list_names(folder):
            if pattern.fullmatch(name) or name in others:
                storage.remove(storage.join(folder, name))


def _particle_table(
    acquisition: Acquisition, simulation: Simulation, ensemble: Ensemble, stacks: list[Uri]
) -> ParticleTable:
    count, box = simulation.num_particles, simulation.box
    chunk = simulation.chunk or count
    field_angstrom = box * ensemble.pixel_size_angstrom
    return ParticleTable.from_columns(
        {
            "index": np.arange(count),
            "stack": np.array(stacks, dtype=object)[np.arange(count) // chunk],
            "slice": np.arange(count) % chunk,
            "box": np.full(count, box),
            "rotation": acquisition.rotations.reshape(-1, 9),
            "shift_angstrom": acquisition.shifts_fraction * field_angstrom,
            "pixel_size_angstrom": np.full(count, ensemble.pixel_size_angstrom),
            "optics_group": ["1"] * count,
            **{name: acquisition.ctf[:, i] for i, name in enumerate(CTF_COLUMNS)},
        }
    )


def _true_contrast(acquisition: Acquisition, ensemble: Ensemble) -> Float[np.ndarray, " n"]:
    """Return the contrast of each particle, and NaN for images that show none."""
    contrast = acquisition.contrast
    if contrast is None:
        contrast = np.ones(len(ensemble.labels), dtype=np.float32)
    return np.where(ensemble.is_junk(), np.float32(np.nan), contrast)


def _counted(
    blocks: Iterator[Float[np.ndarray, "b h w"]], total: int, progress: Progress | None
) -> Iterator[Float[np.ndarray, "b h w"]]:
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        if progress:
            progress(done, total)


def _write_truth(folder: Uri, ensemble: Ensemble) -> None:
    for number, volume in enumerate(ensemble.volumes):
        write_volume(
            storage.join(folder, volume_name(number)),
            volume,
            pixel_size_angstrom=ensemble.pixel_size_angstrom,
        )
    arrays = {"labels": ensemble.labels.astype(np.int64)}
    if ensemble.motion_deg is not None:
        arrays |= {"shown": ensemble.shown.astype(np.int64), "motion_deg": ensemble.motion_deg}
    for name, values in arrays.items():
        _write_array(storage.join(folder, f"{name}.npy"), values)
    names = json.dumps(ensemble.state_names, indent=1)
    storage.write_bytes(storage.join(folder, "states.json"), names.encode())


def _write_array(uri: Uri, values: np.ndarray) -> None:
    with storage.atomic_write(uri) as stream:
        np.save(stream, values)


def _write_stacks(
    out: Uri,
    blocks: Iterator[Float[np.ndarray, "b h w"]],
    simulation: Simulation,
    ensemble: Ensemble,
) -> list[Uri]:
    """Write the images into stacks of ``chunk``; return the stacks."""
    count, chunk = simulation.num_particles, simulation.chunk or simulation.num_particles
    sizes = [min(chunk, count - start) for start in range(0, count, chunk)]
    names = (
        [f"particles.{i}.mrcs" for i in range(len(sizes))]
        if simulation.chunk
        else ["particles.mrcs"]
    )
    pending = np.empty((0, simulation.box, simulation.box), dtype=np.float32)
    stacks = []
    for name, size in zip(names, sizes, strict=True):
        stacks.append(storage.absolute(storage.join(out, name)))
        with StackWriter.open(
            stacks[-1], size, box=simulation.box, pixel_size_angstrom=ensemble.pixel_size_angstrom
        ) as writer:
            left = size
            while left:
                if not len(pending):
                    pending = next(blocks)
                writer.append(pending[:left])
                taken = min(left, len(pending))
                pending, left = pending[taken:], left - taken
    for _ in blocks:  # lets the progress end
        pass
    if simulation.chunk:
        listed = "".join(f"{name}\n" for name in names)
        storage.write_bytes(storage.join(out, LIST), listed.encode())
    return stacks
