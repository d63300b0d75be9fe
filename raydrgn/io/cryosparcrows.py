"""cryoSPARC's rows given back as a .cs file: some of one, with what a change makes untrue anew."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
from numpy.lib import recfunctions

from raydrgn.errors import ConfigError, InputError
from raydrgn.geometry.rotations import to_axis_angle
from raydrgn.io import storage
from raydrgn.io.cryosparc import CTF_FIELDS, PIXEL_SIZE_FIELD, aligned_pixel_size, pose_prefix
from raydrgn.io.imaging import HALF_SIZE_SHIFTS, SAME_PIXEL_SIZE, Imaging, calibration
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri

CONTRAST_FIELD = "alignments3D/alpha"
SLOT_TYPES = (
    (re.compile(r"components_mode_\d+"), "components"),
    (re.compile(r"alignments_class(?:3D)?_\d+"), "alignments3D"),
)
"""Prefixes of fields that are numbered, and their type in cryoSPARC; others are types themselves.

(cryosparc-tools writes slots of a type ``components`` with the prefix ``components_mode_0``.)
"""

ALIGNED_SIZE = re.compile(r"^alignments\w*/psize_A$")
"""Pixel sizes of images that were aligned, which those of the images are a multiple of."""


def write_rows(uri: Uri, rows: np.ndarray, *, check: Callable[[Uri], None] | None = None) -> None:
    """Write rows as a .cs file, and beside it the .csg file with which cryoSPARC takes it in.

    The group lists the fields by their prefix, as the jobs' own groups do. ``check`` is as in
    ``storage.atomic_write``.
    """
    name = PurePosixPath(uri).name
    group, listed = uri.removesuffix(".cs") + ".csg", ">" + name.replace("'", "''")
    _refuse_other_group(group, listed, uri)
    with storage.atomic_write(uri, check=check) as stream:
        np.save(stream, rows, allow_pickle=False)
    prefixes = dict.fromkeys(n.split("/")[0] for n in rows.dtype.names or () if "/" in n)
    results = "".join(
        f"  {prefix}:\n    metafile: '{listed}'\n    num_items: {len(rows)}\n"
        f"    type: particle.{_slot_type(prefix)}\n"
        for prefix in prefixes
    )
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    text = (
        f"created: {written}\ngroup:\n  description: ''\n  name: particles\n"
        f"  title: Particles\n  type: particle\nresults:\n{results}version: v4.0.0\n"
    )
    storage.write_bytes(group, text.encode())


def _slot_type(prefix: str) -> str:
    """Return cryoSPARC's type of the fields with a prefix."""
    return next((kind for name, kind in SLOT_TYPES if name.fullmatch(prefix)), prefix)


def _refuse_other_group(group: Uri, listed: str, uri: Uri) -> None:
    """Refuse to replace a group file that is of other particles than those written.

    Raises:
        ConfigError: Naming the group file.
    """
    if not storage.exists(storage.plain_output(group)):
        return
    if f"'{listed}'".encode() not in storage.read_bytes(group):
        raise ConfigError(
            f"{uri} is written with its group file {group}, but that is there already and of other "
            "particles. Choose another name."
        )


def with_given_rows(rows: np.ndarray, imaging: Imaging) -> np.ndarray:
    """Return rows with the values of the CTF that were given in the place of the file's."""
    if CTF_FIELDS["defocus_u_angstrom"] not in (rows.dtype.names or ()):
        return rows
    for name, field in CTF_FIELDS.items():
        value = getattr(imaging, name, None)
        if value is not None:
            value = np.deg2rad(value) if field.endswith("_rad") else value
            rows = with_field(rows, field, np.full(len(rows), value))
    return rows


def with_pixel_size_rows(rows: np.ndarray, table: ParticleTable) -> np.ndarray:
    """Return rows with the pixel sizes of a table, where they have others or none.

    Shifts are in pixels, and stay.
    """
    sizes = table.column("pixel_size_angstrom").astype(np.float64)
    names = rows.dtype.names or ()
    if PIXEL_SIZE_FIELD not in names:
        return with_field(rows, PIXEL_SIZE_FIELD, sizes)
    factor = calibration(sizes, rows[PIXEL_SIZE_FIELD])
    if np.abs(factor - 1).max(initial=0) < SAME_PIXEL_SIZE and (rows[PIXEL_SIZE_FIELD] > 0).all():
        return rows
    changed = rows.copy()
    changed[PIXEL_SIZE_FIELD] = sizes
    for name in filter(ALIGNED_SIZE.match, names):
        changed[name] = rows[name] * factor
    return changed


def with_field(rows: np.ndarray, name: str, values: np.ndarray) -> np.ndarray:
    """Return rows with a field of single-precision numbers set, or added."""
    if name not in (rows.dtype.names or ()):
        return recfunctions.append_fields(rows, name, values.astype(np.float32), usemask=False)
    changed = rows.copy()
    changed[name] = values
    return changed


def with_pose_rows(
    rows: np.ndarray, table: ParticleTable, *, before: ParticleTable, source: Uri
) -> np.ndarray:
    """Return rows with the poses of a table, shifts in the pixels in which the rows have them.

    Args:
        rows: Of the original file.
        table: The particles, whose images may have another box and pixel size.
        before: The rows as they were read.
        source: The file, for messages.

    Raises:
        InputError: If the rows have no fields for poses.
    """
    prefix = pose_prefix(rows)
    if prefix is None:
        raise InputError(f"{source} has no fields of poses to write into.")
    changed = rows.copy()
    pixel_size = before.column("pixel_size_angstrom").astype(np.float64)
    half_size = HALF_SIZE_SHIFTS in before.metadata
    aligned = aligned_pixel_size(rows, pixel_size, half_size=half_size, source=source)
    changed[f"{prefix}/pose"] = to_axis_angle(table.rotations)
    changed[f"{prefix}/shift"] = table.column("shift_angstrom") / aligned[:, None]
    return changed


def with_ctf_rows(rows: np.ndarray, table: ParticleTable, *, source: Uri) -> np.ndarray:
    """Return rows with the CTF of a table.

    Raises:
        InputError: If the rows have no fields for a CTF.
    """
    _require(rows, CTF_FIELDS.values(), source)
    changed = rows.copy()
    for name, field in CTF_FIELDS.items():
        values = table.column(name).astype(np.float64)
        changed[field] = np.deg2rad(values) if field.endswith("_rad") else values
    return changed


def with_contrast(rows: np.ndarray, table: ParticleTable) -> np.ndarray:
    """Return rows with the contrast of a table as the scale of each particle, if it has one."""
    if "contrast" not in table.table.column_names:
        return rows
    return with_field(rows, CONTRAST_FIELD, table.column("contrast"))


def _require(rows: np.ndarray, names: Iterable[str], source: Uri) -> None:
    missing = [name for name in names if name not in (rows.dtype.names or ())]
    if missing:
        raise InputError(f"{source} has no field {missing[0]} to write into.")
