"""A run whose particle images have moved: where they are now, checked to be the same images.

A run keeps the full name of every stack. When it starts, a checksum of some of its images is kept
with its particles, so that images at another place are known to be the same ones.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_slices
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.selection import select_indices
from raydrgn.io.sources import open_particles, with_found_stacks
from raydrgn.io.stacks import check_slices, read_headers
from raydrgn.io.storage import Uri
from raydrgn.run.claim import RunClaim
from raydrgn.run.config import RunConfig, read_yaml
from raydrgn.run.directory import CONFIG, RunDirectory, is_run, no_run
from raydrgn.shapes import Int

SAMPLED_IMAGES = 16
OF_FILE = ("source", "passthrough")
"""Metadata of particles that name the file they were read from."""

SAMPLE_KEY = "sampled_images_sha256"
"""Key of the checksum among the metadata of a run's particles."""


class Relocation(NamedTuple):
    """What was found at another place."""

    root: Uri
    num_stacks: int
    num_moved: int
    """Stacks that were at another place before."""

    is_compared: bool
    """Whether images were compared; runs of earlier versions have no checksum of theirs."""


def with_sample(table: ParticleTable) -> ParticleTable:
    """Return a table with the checksum of some of its images, by which they are known again."""
    metadata = {**table.metadata, SAMPLE_KEY: _sample_checksum(table)}
    return ParticleTable(table.table.replace_schema_metadata(metadata))


def require_stacks(table: ParticleTable, root: Uri) -> None:
    """Refuse a run whose stacks are gone from this machine.

    Raises:
        RunDirectoryError: If one is; names the command that says where it is now.
    """
    missing = [s for s in table.stacks if storage.is_local(s) and not storage.exists(s)]
    if missing:
        raise RunDirectoryError(
            f"{root} was trained on the stack {missing[0]}, which does not exist "
            f"({len(missing):,} of {len(table.stacks):,} stacks are missing). If they have moved, "
            f"run: {relocation_command(root)} FOLDER"
        )


def relocation_command(root: Uri) -> str:
    """Return the command that says where the stacks of a run are now, without their folder."""
    return f"raydrgn relocate {shlex.quote(root)} --datadir"


def relocate(
    root: Uri,
    *,
    datadir: Uri | None,
    particles: Uri | None = None,
    passthrough: Sequence[Uri] = (),
    ind: Uri | None = None,
) -> Relocation:
    """Record where the stacks of a run are now; nothing is changed if they are other images.

    Args:
        root: Run directory.
        datadir: Folder of the stacks, searched by the rule of ``raydrgn.io.stacks``.
        particles: Particle file that names the stacks at their new place.
        passthrough: Passthrough files that belong to it, if it is a .cs file.
        ind: The selection that the run was trained on; None leaves it where it was.

    Raises:
        RunDirectoryError: If there is no run of raydrgn's, the images are not those of the run, or
            a command trains it.
        InputError: If a stack is not found, or does not fit.
    """
    from raydrgn.run.writer import RunWriter  # loads torch

    root = storage.absolute(root)
    files = RunDirectory(root)
    config = _own_config(files)
    table = ParticleTable.read(files.particles)
    datadir = datadir and storage.absolute(datadir)
    if datadir and storage.is_local(datadir) and not storage.is_folder(datadir):
        raise InputError(f"{datadir} is not a folder; --datadir takes the folder of the stacks.")
    source = _moved_source(config.source, datadir, particles, passthrough)
    source = source if ind is None else dataclasses.replace(source, ind=storage.absolute(ind))
    if particles:
        moved = _with_stacks_of(table, source)
    else:
        moved = with_found_stacks(table, source=files.particles, datadir=datadir)
    _check_boxes(moved, files.particles)
    expected = table.metadata.get(SAMPLE_KEY)
    if expected:
        _require_same_pixels(moved, expected, root)
    pairs = set(zip(_names_of_rows(table), _names_of_rows(moved), strict=True))
    num_moved = sum(before != after for before, after in pairs)
    config = dataclasses.replace(config, source=source)
    with RunClaim(root) as claim:
        claim.take()
        RunWriter(root, num_particles=len(table), claim=claim.ticket).replace_source(
            config.to_yaml().encode(),
            moved.to_bytes(),
            f"{num_moved:,} of {len(pairs):,} stacks are at another place now, the first is "
            f"{moved.stacks[0]}",
        )
    return Relocation(root, len(pairs), num_moved, bool(expected))


def _moved_source(
    source: ParticleSource,
    datadir: Uri | None,
    particles: Uri | None,
    passthrough: Sequence[Uri],
) -> ParticleSource:
    """Return where a run's particles come from, with what of it has a new place."""
    if datadir:
        source = dataclasses.replace(source, datadir=datadir)
    if particles:
        source = dataclasses.replace(
            source,
            particles=storage.absolute(particles),
            passthrough=tuple(map(storage.absolute, passthrough)),
        )
    return source


def _require_same_pixels(moved: ParticleTable, expected: str, root: Uri) -> None:
    """Refuse images that have another checksum than those a run was trained on.

    Raises:
        RunDirectoryError: If they have.
    """
    if _sample_checksum(moved) == expected:
        return
    raise RunDirectoryError(
        f"{root} was trained on other images than those in {moved.stacks[0]}"
        + (f" and {len(moved.stacks) - 1} other stacks" if len(moved.stacks) > 1 else "")
        + ": their pixels differ. The run is left as it was; to train on these images, choose "
        "another run directory."
    )


def _own_config(files: RunDirectory) -> RunConfig:
    names = storage.list_names(files.root)
    if CONFIG in names and "particles.parquet" in names:
        raw = read_yaml(files.config)
        if "raydrgn_version" in raw:
            return RunConfig.from_dict(raw, where=files.config)
    if is_run(names):
        raise RunDirectoryError(
            f"{files.root} is a run of cryoDRGN's, whose files are left as they are. Make a link "
            "to the particles where its configuration has them."
        )
    raise no_run(files.root)


def _with_stacks_of(table: ParticleTable, source: ParticleSource) -> ParticleTable:
    """Return a run's table with the stacks that another particle file names for its particles.

    The file is the one that exports take rows of, from then on.

    Raises:
        RunDirectoryError: If the file lists other particles.
    """
    uri = source.particles
    found = open_particles(
        ParticleSource(
            particles=uri,
            datadir=source.datadir,
            passthrough=source.passthrough,
        )
    )
    numbers = table.column("index")
    missing = np.setdiff1d(numbers, found.column("index"))
    if missing.size:
        raise RunDirectoryError(
            f"{uri} has {len(found):,} particles, and not particle {missing[0]} (from 0) of the "
            "run; it lists other particles."
        )
    found = select_indices(found, numbers)
    other = np.flatnonzero(found.column("slice") != table.column("slice"))
    if other.size:
        raise RunDirectoryError(
            f"{uri}: particle {numbers[other[0]]} (from 0) is image "
            f"{found.column('slice')[other[0]] + 1} of its stack, but image "
            f"{table.column('slice')[other[0]] + 1} in the run ({other.size:,} such particles); "
            "the file lists other particles, or in another order."
        )
    moved = table.with_columns({"stack": _names_of_rows(found)})
    metadata = {key: value for key, value in table.metadata.items() if key not in OF_FILE}
    metadata |= {key: found.metadata[key] for key in OF_FILE if key in found.metadata}
    return ParticleTable(moved.table.replace_schema_metadata(metadata))


def _check_boxes(table: ParticleTable, source: Uri) -> None:
    boxes = check_slices(
        read_headers(table.stacks), table.stack_codes, table.column("slice"), source=source
    )
    other = np.flatnonzero(boxes != table.column("box"))
    if other.size:
        row = int(other[0])
        raise RunDirectoryError(
            f"{_names_of_rows(table)[row]} has images of {boxes[row]} px, but the run was trained "
            f"on images of {table.column('box')[row]} px."
        )


def _names_of_rows(table: ParticleTable) -> np.ndarray:
    """Return the stack of each row."""
    return np.array(table.stacks, dtype=object)[table.stack_codes]


def _sample_checksum(table: ParticleTable) -> str:
    """Return the SHA-256 of images spread evenly over the table, as they are stored."""
    rows: Int[np.ndarray, " k"] = np.unique(
        np.linspace(0, len(table) - 1, SAMPLED_IMAGES).astype(np.int64)
    )
    slices = table.column("slice")
    images = [
        read_slices(read_header(table.stacks[table.stack_codes[row]]), int(slices[row]), 1)
        for row in rows
    ]
    return storage.checksum(b"".join(np.ascontiguousarray(image).tobytes() for image in images))
