"""Particle files of RELION and cryoSPARC, whichever it is, to a ParticleTable."""

import logging
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from raydrgn.errors import ConfigError
from raydrgn.io import storage
from raydrgn.io.cryosparc import read_cryosparc
from raydrgn.io.imaging import Imaging
from raydrgn.io.particles import ParticleTable
from raydrgn.io.relion import read_relion
from raydrgn.io.stacks import StackNotFoundError
from raydrgn.io.storage import Uri

log = logging.getLogger(__name__)


def read_metadata(
    uri: Uri,
    *,
    datadir: Uri | None = None,
    imaging: Imaging | None = None,
    need_images: bool = True,
    passthrough: Sequence[Uri] = (),
) -> ParticleTable:
    """Read a RELION or cryoSPARC particle file.

    Raises:
        ConfigError: If the file is neither, or passthrough files are given for a STAR file.
        InputError: If it lacks what is needed.
    """
    suffix = PurePosixPath(uri).suffix.lower()
    uri, datadir = storage.absolute(uri), datadir and storage.absolute(datadir)
    if suffix == ".cs":
        return read_cryosparc(
            uri,
            datadir=datadir,
            imaging=imaging,
            need_images=need_images,
            passthrough=[storage.absolute(other) for other in passthrough],
        )
    if suffix != ".star":
        raise ConfigError(f"{uri} is neither a RELION .star nor a cryoSPARC .cs file.")
    if passthrough:
        raise ConfigError(f"--passthrough belongs to cryoSPARC's .cs files; {uri} is none.")
    return read_relion(uri, datadir=datadir, imaging=imaging, need_images=need_images)


def read_for_parsing(
    uri: Uri,
    *,
    datadir: Uri | None = None,
    imaging: Imaging | None = None,
    passthrough: Sequence[Uri] = (),
    need_images: bool,
) -> ParticleTable:
    """Read a particle file for ``raydrgn parse``; images that are elsewhere need not be there.

    Where stacks are needed but missing, the metadata are enough if box and pixel size are given,
    by the user or the file. A warning is then logged that images were not looked at.

    Raises:
        InputError: If images are needed, not there, and not replaced by box and pixel size.
    """
    options: dict[str, Any] = {"datadir": datadir, "imaging": imaging, "passthrough": passthrough}
    if not need_images:
        return read_metadata(uri, need_images=False, **options)
    try:
        return read_metadata(uri, **options)
    except StackNotFoundError as error:
        table = read_metadata(uri, need_images=False, **options)
        if "pixel_size_angstrom" not in table.table.column_names:
            raise
        log.warning(
            "images were not read: %s Box and pixel size are those given; the table names "
            "the stacks as %s does, so that commands need --datadir.",
            *(error, uri),
        )
        return table
