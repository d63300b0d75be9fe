"""Selections of particles given back to RELION, cryoSPARC and cryoDRGN.

Where the particles come from a STAR or .cs file, its own rows are written: every column, the optics
groups in use, the uids. Poses and CTF are written over them only where they are others. Rows come
in the order of the numbers asked for, and one that is asked for twice comes twice; a .cs file is
the exception, since cryoSPARC's uids must be unique: there each comes once, at its first place.
"""

import logging
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.cryosparc import (
    read_cryosparc,
    read_rows,
    with_ctf_rows,
    with_pose_rows,
    write_rows,
)
from raydrgn.io.imaging import Imaging
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.relion import read_relion, write_relion
from raydrgn.io.relionrows import select_rows, with_ctf, with_poses
from raydrgn.io.sources import ParticleSource, open_particles
from raydrgn.io.starrows import read_text_star
from raydrgn.io.storage import Uri
from raydrgn.shapes import Int

log = logging.getLogger(__name__)

SAME_ROTATION = 1e-5
SAME_SHIFT_ANGSTROM = 1e-3
SAME_CTF = 1e-5  # relative


def original_of(table: ParticleTable, suffix: str) -> Uri | None:
    """Return the file that a table was read from, if it is of a kind and still there."""
    source = table.metadata.get("source", "")
    is_kind = PurePosixPath(source).suffix.lower() == suffix
    return source if is_kind and storage.exists(source) else None


def original_rows(table: ParticleTable, uri: Uri) -> ParticleTable:
    """Read what the original file says of the particles of a table; its images are not needed."""
    reader = read_relion if uri.endswith(".star") else read_cryosparc
    imaging = Imaging(box=table.single_box())
    return reader(uri, imaging=imaging, need_images=False).select(table.column("index"))


def same_poses(table: ParticleTable, other: ParticleTable) -> bool:
    """Tell whether two tables of the same particles agree in their poses, or the first has none."""
    if not table.has_poses:
        return True
    if not other.has_poses:
        return False
    turned = np.abs(table.rotations - other.rotations).max(initial=0)
    moved = np.abs(table.column("shift_angstrom") - other.column("shift_angstrom")).max(initial=0)
    return bool(turned < SAME_ROTATION and moved < SAME_SHIFT_ANGSTROM)


def same_ctf(table: ParticleTable, other: ParticleTable) -> bool:
    """Tell whether two tables of the same particles agree in their CTF, or the first has none."""
    if not table.has_ctf:
        return True
    if not other.has_ctf:
        return False
    return all(
        np.allclose(table.column(name), other.column(name), rtol=SAME_CTF, atol=SAME_CTF)
        for name in CTF_COLUMNS
    )


def select_indices(table: ParticleTable, indices: Int[np.ndarray, " k"]) -> ParticleTable:
    """Return the particles that have these numbers in the original set, in this order.

    Raises:
        InputError: If one is not in the table.
    """
    own = table.column("index")
    order = np.argsort(own, kind="stable")
    if not len(own):
        raise InputError("There is no particle to select from.")
    place = np.searchsorted(own[order], indices).clip(max=len(own) - 1)
    rows = order[place]
    missing = np.flatnonzero(own[rows] != indices)
    if missing.size:
        raise InputError(
            f"Particle {indices[missing[0]]} is asked for, but is none of the {len(own)} particles "
            f"({missing.size} such numbers). Numbers count from 0 in the original file."
        )
    return table.select(rows)


def export_star(source: ParticleSource, out: Uri, *, table: ParticleTable | None = None) -> int:
    """Write particles as a RELION file; return how many.

    Args:
        source: Particles, what replaces their poses and CTF, and which to take.
        out: STAR file to write.
        table: The particles, if they are known already; ``source`` is not read then.
    """
    _check_out(out, ".star", source)
    if table is None and source.particles.endswith(".star") and not (source.poses or source.ctf):
        star = read_text_star(storage.absolute(source.particles))
        count = len(star.particles().rows)
        rows = np.arange(count) if not source.ind else _indices(source.ind, count, source.particles)
        star = select_rows(star, rows)
        star.write(out)
        _say_where_images_are(out, star.uri)
        return len(rows)
    if table is None:
        table = open_particles(source, need_images=False)
    original = original_of(table, ".star")
    if original is None:
        write_relion(out, table)
        return len(table)
    before = original_rows(table, original)
    keep_poses, keep_ctf = same_poses(table, before), same_ctf(table, before)
    del before
    star = select_rows(read_text_star(original), table.column("index"))
    if not keep_poses:
        star = with_poses(star, table)
    if not keep_ctf:
        star = with_ctf(star, table)
    star.write(out)
    _say_where_images_are(out, original)
    return len(table)


def _say_where_images_are(out: Uri, original: Uri) -> None:
    """Say that image names, kept as they are, may not be found from another folder."""
    folder = storage.parent(original)
    if storage.parent(storage.absolute(out)) != folder:
        log.info("image names are those of %s; elsewhere than there use --datadir", folder)


def export_cs(source: ParticleSource, out: Uri, *, table: ParticleTable | None = None) -> int:
    """Write particles as a cryoSPARC file and its group file (.csg); return how many.

    Raises:
        ConfigError: If the particles do not come from a .cs file: uids cannot be made up.
    """
    _check_out(out, ".cs", source)
    if table is None and source.particles.endswith(".cs") and not (source.poses or source.ctf):
        rows = read_rows(storage.absolute(source.particles))
        if source.ind:
            rows = rows[_once(_indices(source.ind, len(rows), source.particles))]
        write_rows(out, rows)
        return len(rows)
    if table is None:
        table = open_particles(source, need_images=False)
    original = original_of(table, ".cs")
    if original is None:
        raise ConfigError(
            f"{source.particles} does not come from a .cs file, whose uids cryoSPARC needs. Export "
            "a .star file instead, and take it in with cryoSPARC's Import Particle Stack."
        )
    kept = _once(table.column("index"))
    table = select_indices(table, kept)
    before = original_rows(table, original)
    rows = read_rows(original)[kept]
    if not same_poses(table, before):
        rows = with_pose_rows(rows, table, source=original)
    if not same_ctf(table, before):
        rows = with_ctf_rows(rows, table, source=original)
    write_rows(out, rows)
    return len(rows)


def _once(indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
    _, first = np.unique(indices, return_index=True)
    if len(first) < len(indices):
        log.warning(
            "%d particles are asked for more than once; a .cs file has each once",
            len(indices) - len(first),
        )
    return indices[np.sort(first)]


def _indices(uri: Uri, count: int, particles: Uri) -> Int[np.ndarray, " k"]:
    indices = cryodrgn.read_indices(storage.absolute(uri), count=count, particles=particles)
    if not indices.size:
        raise InputError(f"{uri} selects no particle.")
    return indices


def _check_out(out: Uri, suffix: str, source: ParticleSource) -> None:
    if PurePosixPath(out).suffix != suffix:
        raise ConfigError(f"-o {out} should end in {suffix}.")
    if storage.absolute(out) == storage.absolute(source.particles):
        raise ConfigError(f"-o {out} would replace {source.particles}, which is read; rename it.")


def find_numbers(particles: Uri, original: Uri) -> Int[np.ndarray, " k"]:
    """Return the rows of the original file that another program's selection of it holds.

    STAR files are matched by image name, .cs files by uid.

    Raises:
        InputError: If the two are of different kinds, or a particle is not in the original.
    """
    kinds = {PurePosixPath(uri).suffix.lower() for uri in (particles, original)}
    if kinds == {".star"}:
        selected, every = (
            np.array(read_text_star(storage.absolute(uri)).particles().cells("rlnImageName"))
            for uri in (particles, original)
        )
    elif kinds == {".cs"}:
        selected, every = (read_rows(storage.absolute(uri))["uid"] for uri in (particles, original))
    else:
        raise InputError(
            f"{particles} and {original} must both be .star, or both .cs files, to be compared."
        )
    order = np.argsort(every, kind="stable")
    rows = order[np.searchsorted(every[order], selected).clip(max=len(every) - 1)]
    missing = np.flatnonzero(every[rows] != selected)
    if missing.size:
        raise InputError(
            f"{particles}, particle {missing[0]}: {selected[missing[0]]} is not in {original} "
            f"({missing.size} such particles)."
        )
    return rows
