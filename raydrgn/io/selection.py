"""Selections of particles given back to RELION, cryoSPARC and cryoDRGN.

Where the particles come from a STAR or .cs file, its own rows are written: every column, the optics
groups in use, the uids. Poses and CTF are written over them only where they are others. Rows come
in the order of the numbers asked for, and one that is asked for twice comes twice; a .cs file is
the exception, since cryoSPARC's uids must be unique: there each comes once, at its first place.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import ConfigError, InputError, StorageError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.cryosparcrows import (
    with_contrast,
    with_ctf_rows,
    with_given_rows,
    with_pixel_size_rows,
    with_pose_rows,
    write_rows,
)
from raydrgn.io.filetypes import suffix_of
from raydrgn.io.imaging import imaging_of
from raydrgn.io.indices import read_original_numbers, rows_of_numbers
from raydrgn.io.metadata import read_metadata
from raydrgn.io.micrographs import micrograph_cells
from raydrgn.io.originals import (
    lost_original,
    original_of,
    original_rows,
    remedy_of_lost,
    warn_of_lost_original,
)
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, NoParticlesError, ParticleTable
from raydrgn.io.passthrough import passthrough_of, read_joined
from raydrgn.io.relionrows import (
    select_rows,
    with_ctf,
    with_estimates,
    with_given_values,
    with_pixel_size,
    with_poses,
)
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import open_particles
from raydrgn.io.stacks import find_stacks, leads_there, without_format
from raydrgn.io.starrows import TextStar, read_text_star
from raydrgn.io.storage import Uri
from raydrgn.io.verification import check_cs, check_star, quiet, same_ctf, same_poses
from raydrgn.shapes import Int

log = logging.getLogger(__name__)


def select_indices(table: ParticleTable, indices: Int[np.ndarray, " k"]) -> ParticleTable:
    """Return the particles that have these numbers in the original set, in this order.

    Raises:
        InputError: If one is not in the table.
    """
    own = table.column("index")
    if not len(own):
        raise InputError("There is no particle to select from.")
    rows = rows_of_numbers(own, indices)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise InputError(
            f"Particle {indices[missing[0]]} was selected, but is none of the {len(own):,} "
            f"particles ({missing.size:,} such numbers). Numbers count from 0 in the original file."
        )
    return table.select(rows)


def select_by_file(table: ParticleTable, ind: Uri, particles: Uri) -> ParticleTable:
    """Return the particles that a file selects by their numbers in the original set, in its order.

    Args:
        table: Particles.
        ind: The file, as of ``read_original_numbers``.
        particles: The file or run that they are of, for messages.

    Raises:
        InputError: If it selects none, or one that is not in the table.
    """
    numbers = read_original_numbers(ind, table.column("index"))
    if not len(numbers):
        raise InputError(f"{ind} selects no particle of {particles}.")
    return select_indices(table, numbers)


def rows_of(source: ParticleSource, numbers: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
    """Return the rows of a particle file that have these numbers in the original set, ascending.

    They are others than the numbers where the file is a table (.parquet) of a selection.

    Raises:
        InputError: If the file cannot be read.
    """
    whole = replace(source, ind=None, poses=None, ctf=None)
    table = open_particles(whole, need_images=False)
    return np.flatnonzero(np.isin(table.column("index"), numbers))


def counts_as_original(source: ParticleSource, numbers: Int[np.ndarray, " n"]) -> bool:
    """Return whether a particle file has the particles of these numbers in rows of the same.

    Only a table (.parquet) of a selection does not: it keeps the numbers of the original set.

    Raises:
        InputError: If such a table cannot be read.
    """
    if suffix_of(source.particles) != ".parquet":
        return True
    return rows_of(source, numbers).tolist() == sorted(numbers.tolist())


def export_star(source: ParticleSource, out: Uri, *, table: ParticleTable | None = None) -> int:
    """Write particles as a RELION file, read it again, and return how many they are.

    Image names stay as they are where they lead to the same stacks from the new file, and are
    made absolute where they do not.

    Args:
        source: Particles, what replaces their poses and CTF, and which to take.
        out: STAR file to write.
        table: The particles, if they are known already; ``source`` is not read then.
    """
    _check_out(out, ".star", source)
    source = source.absolute()
    if table is None and source.particles.endswith(".star") and not (source.poses or source.ctf):
        star = read_text_star(source.particles)
        count = len(star.particles().rows)
        if not count:
            raise NoParticlesError(source.particles)
        rows = np.arange(count) if not source.ind else _indices(source.ind, count, source.particles)
        expected = _rows_of_table(source, rows)
        star = _with_names(select_rows(star, rows), out, source.datadir)
        star.write(out, check=partial(check_star, star=star, table=expected))
        return len(rows)
    if table is None:
        table = open_particles(source, need_images=False)
    original = original_of(table, ".star")
    if original is None:
        warn_of_lost_original(table, ".star", source.particles)
        warn_of_names(table)
        more = micrograph_cells(table, source.particles)
        write_relion(out, table, more=more, check=partial(check_star, table=table))
        return len(table)
    star, expected = original_star(table, original)
    star = _with_names(with_estimates(star, table), out, source.datadir)
    star.write(out, check=partial(check_star, star=star, table=expected))
    return len(table)


def original_star(table: ParticleTable, uri: Uri) -> tuple[TextStar, ParticleTable]:
    """Return the rows of the STAR file that a table comes from, with what the table has anew.

    Poses, CTF, a calibrated pixel size and values that were given are written over the file's where
    they are others; the images are those of the file.

    Returns:
        The rows, and how they read.

    Raises:
        InputError: If the file has changed since, or cannot hold what the table has.
    """
    before = original_rows(table, uri)
    star = select_rows(read_text_star(uri), table.column("index"))
    star = with_given_values(star, imaging_of(table))
    if "pixel_size_angstrom" in before.table.column_names:
        star = with_pixel_size(star, before)
    poses_and_ctf = ("rotation", "shift_angstrom", *CTF_COLUMNS)
    values = {n: table.column(n) for n in poses_and_ctf if n in table.table.column_names}
    expected = before.with_columns(values)
    if not same_poses(table, before):
        star = with_poses(star, expected)
    if not same_ctf(table, before):
        star = with_ctf(star, expected)
    return star, expected


def _rows_of_table(source: ParticleSource, rows: Int[np.ndarray, " k"]) -> ParticleTable | None:
    """Return the rows of a STAR file as a table, to compare with; None if it does not read as one.

    A file may lack what training needs, such as a pixel size, and be given back all the same.
    """
    try:
        with quiet():
            table = read_metadata(source.particles, datadir=source.datadir, need_images=False)
    except (InputError, StorageError):
        return None
    return table.select(rows)


def _with_names(star: TextStar, out: Uri, datadir: Uri | None) -> TextStar:
    """Return a file with image names that lead to its stacks from where it is written."""
    particles = star.particles()
    images = [name.partition("@") for name in particles.cells("rlnImageName")]
    names = list(dict.fromkeys(without_format(path) for _, _, path in images))
    places = find_stacks(names, source=star.uri, datadir=datadir, required=False)
    missing = [
        name
        for name, place in zip(names, places, strict=True)
        if name == place and storage.is_local(name) and not os.path.isfile(name)
    ]
    if missing:
        log.warning(
            "%d stacks are not found, the first is %s; image names stay those of %s, relative to "
            "the project folder of that file. Give --datadir to have them led there.",
            *(len(missing), missing[0], star.uri),
        )
    new_source = storage.absolute(out)
    changed = {
        name: place
        for name, place in zip(names, places, strict=True)
        if name not in missing and not leads_there(name, place, source=new_source)
    }
    warn_of_suffixes([path for _, _, path in images])
    if not changed:
        return star
    log.info("image names are made absolute: from %s they would not lead to the stacks", out)
    cells = []
    for number, at, path in images:
        name = without_format(path)
        cells.append(number + at + changed.get(name, name) + path[len(name) :])
    return star.with_blocks(particles.with_columns({"rlnImageName": cells}))


def warn_of_names(table: ParticleTable) -> None:
    """Warn of stacks whose place is not known, and of names that RELION does not read as stacks."""
    unknown = [
        stack for stack in table.stacks if storage.is_local(stack) and not stack.startswith("/")
    ]
    if unknown:
        log.warning(
            "%d stacks are not found, the first is %s; image names are relative to the project "
            "folder of %s. Give --datadir to have them led there.",
            *(len(unknown), unknown[0], table.metadata.get("source", "the original")),
        )
    warn_of_suffixes(table.stacks)


def warn_of_suffixes(names: Sequence[str]) -> None:
    """Warn of stacks that RELION would open as single images."""
    others = [name for name in dict.fromkeys(names) if not name.endswith("mrcs")]
    if others:
        log.warning(
            "%s: RELION reads a stack only if its name ends in .mrcs. Rename or link the stacks, "
            "or write %s:mrcs, which raydrgn reads too.",
            *(others[0], others[0]),
        )


def export_cs(source: ParticleSource, out: Uri, *, table: ParticleTable | None = None) -> int:
    """Write particles as a cryoSPARC file and its group file (.csg); return how many.

    The file is read again before it is put in place.

    Raises:
        ConfigError: If the particles do not come from a .cs file: uids cannot be made up.
    """
    _check_out(out, ".cs", source)
    source = source.absolute()
    if table is None and source.particles.endswith(".cs") and not (source.poses or source.ctf):
        rows, used = read_joined(source.particles, source.passthrough)
        storage.refuse_to_replace(out, used)
        if not len(rows):
            raise NoParticlesError(source.particles)
        if source.ind:
            rows = rows[_once(_indices(source.ind, len(rows), source.particles))]
        write_rows(out, rows, check=partial(check_cs, rows=rows))
        return len(rows)
    if table is None:
        table = open_particles(source, need_images=False)
    original = _original_cs_of(table, source.particles)
    storage.refuse_to_replace(out, [original, *passthrough_of(table)])
    rows = _original_cs(select_indices(table, _once(table.column("index"))), original)
    write_rows(out, rows, check=partial(check_cs, rows=rows))
    if storage.parent(storage.absolute(out)) != storage.parent(original):
        log.info(
            "stacks are named as in %s, from cryoSPARC's project folder; raydrgn finds those of "
            "%s with --datadir",
            *(original, out),
        )
    return len(rows)


def _original_cs_of(table: ParticleTable, particles: Uri) -> Uri:
    """Return the .cs file that a table was read from.

    Raises:
        InputError: If it is gone.
        ConfigError: If there was none.
    """
    original = original_of(table, ".cs")
    if original is not None:
        return original
    if (lost := lost_original(table, ".cs")) is not None:
        raise InputError(
            f"{lost}, from which the particles were read and whose uids cryoSPARC needs, does "
            f"not exist. {remedy_of_lost(particles)}"
        )
    raise ConfigError(
        f"{particles} does not come from a .cs file, whose uids cryoSPARC needs. Export "
        "a .star file instead, and take it in with cryoSPARC's Import Particle Stack."
    )


def _original_cs(table: ParticleTable, uri: Uri) -> np.ndarray:
    """Return the rows of the .cs file that a table comes from, with what the table has anew.

    As in ``original_star``; a contrast of each particle is written, too.
    """
    before = original_rows(table, uri)
    rows = read_joined(uri, passthrough_of(table))[0][table.column("index")]
    rows = with_given_rows(rows, imaging_of(table))
    if "pixel_size_angstrom" in before.table.column_names:
        rows = with_pixel_size_rows(rows, before)
    if not same_poses(table, before):
        rows = with_pose_rows(rows, table, before=before, source=uri)
    if not same_ctf(table, before):
        rows = with_ctf_rows(rows, table, source=uri)
    return with_contrast(rows, table)


def _once(indices: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
    _, first = np.unique(indices, return_index=True)
    if len(first) < len(indices):
        log.warning(
            "%s particles are selected more than once; a .cs file has each once",
            f"{len(indices) - len(first):,}",
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
    given = (source.particles, source.poses, source.ctf, source.ind, *source.passthrough)
    storage.refuse_to_replace(
        storage.absolute(out), [storage.absolute(uri) for uri in given if uri]
    )
