"""Particles of a run of cryoDRGN's, read from the files that its configuration names."""

import shlex

from raydrgn.errors import RaydrgnError, RunDirectoryError, StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_poses
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.io.stacks import StackNotFoundError
from raydrgn.io.storage import Uri


def open_named_particles(
    source: ParticleSource | None, root: Uri, *, need_images: bool
) -> ParticleTable:
    """Read the particles that a run was trained on.

    Args:
        source: What its configuration names; None if nothing.
        root: Run directory, for messages.
        need_images: Whether their stacks must be there.

    Raises:
        RunDirectoryError: Naming the file that is gone or cannot be read.
    """
    if source is None:
        raise RunDirectoryError(f"{root} does not name its particles.")
    try:
        return open_particles(source, need_images=need_images)
    except RaydrgnError as error:
        raise RunDirectoryError(
            f"{root} is a run of cryoDRGN's, and its particles cannot be read where its "
            f"configuration has them: {_fault(source, error)}"
        ) from error


def _fault(source: ParticleSource, error: RaydrgnError) -> str:
    """Return which file is at fault, and what to do, without options of other commands."""
    named = [uri for uri in (source.particles, source.poses, source.ctf, source.ind) if uri]
    absent = next((uri for uri in named if not _is_there(uri)), None)
    if absent is not None:
        return f"{absent} does not exist. Make a link there to where it is now."
    if isinstance(error, StackNotFoundError | StorageError):
        return (
            f"stacks that {source.particles} names are not found. Make links to where they are now."
        )
    wrong = next((uri for uri in reversed(named) if uri in str(error)), source.particles)
    return f"{wrong} is not as it should be. What is wrong: raydrgn info {shlex.quote(wrong)}"


def _is_there(uri: Uri) -> bool:
    return storage.exists(storage.absolute(uri))


def check_number(poses: Uri, num_latents: int, root: Uri) -> None:
    """Compare the number of latents with that of the poses, where these can be read.

    Raises:
        RunDirectoryError: If they differ.
    """
    try:
        found = len(read_poses(storage.absolute(poses)).rotations)
    except RaydrgnError:
        return
    if found != num_latents:
        raise RunDirectoryError(
            f"{root} has latents of {num_latents:,} particles, but {poses}, with which the run "
            f"was trained, has {found:,}, and its configuration names no selection: it is not "
            "known which particles these are. Put back the file that belongs to this run."
        )
