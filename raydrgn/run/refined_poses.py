"""Poses that a mixture of factor analysers has refined, and which particles of it are whose."""

import shlex

import numpy as np
from scipy.spatial.transform import Rotation

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.indices import rows_of_numbers
from raydrgn.io.particles import POSES_FROM, ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.run.reader import RunReader, open_run
from raydrgn.run.same_particles import difference_of
from raydrgn.shapes import Float, Int


def refined_particles(run: RunReader) -> ParticleTable:
    """Return the particles of a run with refined rotations and shifts, contrast and junk.

    The rotation comes after the given one. A particle that lies at d after the given shift is
    brought to the origin by the given shift less d.

    Raises:
        RunDirectoryError: If the run has not estimated poses.
    """
    _require_mixture(run)
    table = run.particles()
    found = run.estimates(run.epoch(None))
    further = _stacked(found, "rotation_x", "rotation_y", "rotation_z")
    rotations = Rotation.from_rotvec(further).as_matrix() @ table.rotations
    off = _stacked(found, "shift_x_px", "shift_y_px") * table.column("pixel_size_angstrom")[:, None]
    return table.with_columns(
        {
            "rotation": rotations.reshape(-1, 9).astype(np.float32),
            "shift_angstrom": (table.column("shift_angstrom") - off).astype(np.float32),
            "contrast": found["contrast"],
            "null_probability": found["null_probability"],
        }
    )


def with_poses_from(table: ParticleTable, uri: Uri) -> ParticleTable:
    """Return particles with the refined poses that a run has of them.

    Raises:
        RunDirectoryError: If the run has not estimated poses.
        InputError: If it is of other particles, or lacks some.
    """
    refined = refined_particles(open_run(uri))
    chosen = refined.select(rows_by_number(table, refined, uri, what="poses"))
    taken = table.with_columns(
        {
            "rotation": chosen.rotations.reshape(-1, 9),
            "shift_angstrom": chosen.column("shift_angstrom"),
        }
    )
    return taken.with_metadata(POSES_FROM, uri)


def shared_poses(table: ParticleTable) -> str | None:
    """Return a warning for comparisons of halves of particles whose poses a run refined on all."""
    uri = table.metadata.get(POSES_FROM)
    if uri is None:
        return None
    return (
        f"The poses were refined by {uri} on the particles of both halves, which agree better for "
        "that alone. A run with the poses of the consensus refinement shows what is real."
    )


def with_poses_of_halves(
    table: ParticleTable, uri: Uri
) -> tuple[ParticleTable, Int[np.ndarray, " n"], str | None]:
    """Return particles with poses that were refined in each half apart, and whose half each is.

    Args:
        table: Particles of both halves.
        uri: The folder that ``halves`` has made of a run, or the run: its last epoch's then.

    Returns:
        The particles with their refined poses; 0 or 1 for each; and a warning, if the poses from
        which the halves began were refined on both.

    Raises:
        RunDirectoryError: If there are no halves, or they have not estimated poses.
        InputError: If they are of other particles, or lack some.
    """
    roots = _roots_of_halves(uri)
    first, second = (open_run(root).particles() for root in roots)
    half = np.where(np.isin(table.column("index"), first.column("index")), 0, 1)
    if half.min() == half.max():
        is_of_either = half[0] == 0 or np.isin(table.column("index"), second.column("index")).all()
        found = f"are of one half, {roots[half[0]]}" if is_of_either else "are not all of a half"
        raise InputError(
            f"The particles {found}; half maps need particles of both. Check --ind and --first, "
            "and whether it is the same set."
        )
    rotations, shifts = table.rotations.copy(), table.column("shift_angstrom").copy()
    for number, root in enumerate(roots):
        mine = np.flatnonzero(half == number)
        refined = with_poses_from(table.select(mine), root)
        rotations[mine], shifts[mine] = refined.rotations, refined.column("shift_angstrom")
    columns = {"rotation": rotations.reshape(-1, 9), "shift_angstrom": shifts}
    return table.with_columns(columns), half, shared_poses(first)


def _require_mixture(run: RunReader) -> None:
    if not run.is_mixture:
        raise RunDirectoryError(
            f"{run.root} is an autoencoder, which refines no poses; `raydrgn train --method mfa` "
            "does."
        )


def _roots_of_halves(uri: Uri) -> tuple[Uri, Uri]:
    """Return the run directories of the halves."""
    folders = [uri]
    if not storage.exists(storage.join(uri, "half1")):
        run = open_run(uri)
        _require_mixture(run)
        made = [run.results("halves", epoch) for epoch in reversed(run.files.epochs())]
        folders = [folder for folder in made if storage.exists(storage.join(folder, "half1"))]
        if not folders:
            raise RunDirectoryError(
                f"{uri} has poses that were refined with all its particles at once: half maps made "
                "with them would agree for that alone. Refine each half apart first: raydrgn "
                f"halves {shlex.quote(uri)}"
            )
    first, second = (storage.join(folders[0], name) for name in ("half1", "half2"))
    for root in (first, second):
        if not storage.exists(root) or not open_run(root).is_finished():
            raise RunDirectoryError(
                f"{root} is not finished; the same raydrgn halves command goes on with it."
            )
    return first, second


def rows_by_number(
    table: ParticleTable, known: ParticleTable, uri: Uri, *, what: str
) -> Int[np.ndarray, " n"]:
    """Return the rows that particles have in the table of a run, by their original numbers.

    They must have about the same defocus or orientations (``difference_of``); in a set of the same
    box, each must be the same image of its stack as well.

    Args:
        table: Particles.
        known: Those of the run.
        uri: The run, for messages.
        what: What is wanted of the run, likewise.

    Raises:
        InputError: If the run is of other particles, or lacks some.
    """
    numbers, theirs = table.column("index"), known.column("index")
    rows = rows_of_numbers(theirs, numbers)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise InputError(
            f"{uri} has no {what} of particle {numbers[missing[0]]} ({missing.size:,} such "
            "particles, numbers from 0 in the original file); leave them out with --ind."
        )
    differing = difference_of(table, known.select(rows))
    if differing is not None:
        raise InputError(
            f"{uri} was trained on other particles: {differing}. Give a run on these particles, in "
            "the order of the same file."
        )
    if table.single_box() != known.single_box():  # stacks of another box may be divided otherwise
        return rows
    same = table.column("slice") == known.column("slice")[rows]
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        raise InputError(
            f"{uri} was trained on another set: its particle {numbers[row]} is image "
            f"{known.column('slice')[rows][row] + 1} of its stack, not "
            f"{table.column('slice')[row] + 1}."
        )
    return rows


def _stacked(columns: dict[str, np.ndarray], *names: str) -> Float[np.ndarray, "n k"]:
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64)
