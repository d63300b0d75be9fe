"""Optics, box and pixel size that a particle file lacks or has wrong, given by the user instead.

One rule for every format: the user's value, else the file's, else, for the phase shift only, zero,
which is logged. Anything else that is missing is an error that names the command to give it with.
"""

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.particle_checks import RowError
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

LEAST_DEFOCUS = 100.0
"""Å; the largest defocus of a data set in focus is more, and in µm it is less."""

SAME_PIXEL_SIZE = 1e-6
"""Relative difference of two pixel sizes of which one was rounded to single precision."""

OPTIONS = {
    "box": "--box",
    "pixel_size_angstrom": "--pixel-size",
    "voltage_kv": "--kv",
    "spherical_aberration_mm": "--cs",
    "amplitude_contrast": "--amplitude-contrast",
    "phase_shift_deg": "--phase-shift",
}
"""Option of `raydrgn parse` for each field."""


GIVEN_VALUES = "imaging"
"""Of the metadata of a table: the values that were given in the place of its file's, as JSON."""

HALF_SIZE_SHIFTS = "half_size_shifts"
"""Of the metadata of a table: whether its shifts were read as those of a half-size box."""

ORIGINAL_BOX = "original_box"
"""Of the metadata of a table whose images were made smaller: edge of the original ones, pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Imaging:
    """Values that replace those of a file; None leaves the file's."""

    box: int | None = None
    """Edge of the images in pixels."""

    pixel_size_angstrom: float | None = None
    """Pixel size of the images as stored: a calibration, which leaves shifts in pixels alone."""

    voltage_kv: float | None = None
    """Acceleration voltage."""

    spherical_aberration_mm: float | None = None
    """Spherical aberration, Cs."""

    amplitude_contrast: float | None = None
    """Amplitude contrast, a fraction."""

    phase_shift_deg: float | None = None
    """Phase shift of a phase plate."""

    default_box: int | None = None
    """Edge of the images, of a file that does not give it and whose images are not read."""

    half_size_shifts: bool = False
    """Whether cryoSPARC shifts without a pixel size of their own are those of a half-size box."""


def to_metadata(imaging: Imaging) -> dict[str, str]:
    """Return given values as metadata of the table that was read with them."""
    given = {name: value for name in OPTIONS if (value := getattr(imaging, name)) is not None}
    return {GIVEN_VALUES: json.dumps(given)} if given else {}


def imaging_of(table: ParticleTable) -> Imaging:
    """Return the values with which a table was read from its file."""
    found = json.loads(table.metadata.get(GIVEN_VALUES, "{}"))
    given = {name: value for name, value in found.items() if name in OPTIONS}
    return Imaging(**given, half_size_shifts=HALF_SIZE_SHIFTS in table.metadata)


def fill(
    name: str, found: np.ndarray | None, *, imaging: Imaging, count: int, source: Uri, field: str
) -> np.ndarray:
    """Return one column: the user's value, or the one found.

    Args:
        name: Column of the particle table, a field of ``Imaging``.
        found: The file's values, if it has them.
        imaging: The user's values.
        count: Number of particles.
        source: The file, for messages.
        field: What the file calls the column, for messages.

    Raises:
        InputError: If neither has it, or the file's values are not finite.
    """
    given = getattr(imaging, name)
    if name == "box" and given is None and found is None:
        given = imaging.default_box
    if given is not None:
        return np.full(count, given)
    if found is None and name == "phase_shift_deg":
        log.warning(
            "%s has no %s; the phase shift is taken as 0 (`raydrgn parse --phase-shift` sets it)",
            *(source, field),
        )
        return np.zeros(count)
    if found is None:
        raise InputError(f"{source} has no {field}; {how_to_give(name, source)}.")
    bad = np.flatnonzero(~np.isfinite(found))
    if bad.size:
        raise RowError(
            int(bad[0]),
            f"{field} is not a number ({bad.size:,} such rows). Repair it, or give one value for "
            f"all rows: {how_to_give(name, source)}.",
            source=source,
            column=name,
        )
    return found


def calibration(
    given: Float[np.ndarray, " n"], own: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the factor of shifts in Å where a pixel size replaces that of the file.

    Images were shifted by pixels, so that a calibration leaves shifts in pixels as they are.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = given / np.asarray(own, dtype=np.float64)
    return np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)


def how_to_give(name: str, source: Uri) -> str:
    """Return how a value that a file lacks is given: by ``raydrgn parse``, for every command."""
    command = f"raydrgn parse {shlex.quote(source)} {OPTIONS[name]} VALUE --table particles.parquet"
    return f"give it with `{command}`, and go on with particles.parquet"


def ctf_columns(
    found: Mapping[str, np.ndarray],
    *,
    imaging: Imaging,
    count: int,
    source: Uri,
    fields: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Return the seven CTF columns, or none if the file has no defocus.

    Raises:
        InputError: If the file has defocus, but neither it nor the user has the rest.
    """
    if "defocus_u_angstrom" not in found:
        return {}
    columns = {}
    for name in CTF_COLUMNS:
        if name in OPTIONS:
            columns[name] = fill(
                name,
                found.get(name),
                imaging=imaging,
                count=count,
                source=source,
                field=fields[name],
            )
        elif name in found:
            columns[name] = found[name]
        else:
            raise InputError(f"{source} has {fields['defocus_u_angstrom']}, but no {fields[name]}.")
    warn_of_micrometres(columns["defocus_u_angstrom"], source)
    return columns


def warn_of_micrometres(defocus: np.ndarray, source: Uri) -> None:
    """Warn of defocus values that are small for Å, as those of some programs are, in µm."""
    largest = float(np.abs(defocus).max(initial=0))
    if 0 < largest < LEAST_DEFOCUS:
        log.warning(
            "%s: the largest defocus is %.3g Å, which is less than any microscopist takes. If it "
            "is in µm, multiply the defocus by 10,000 in the file.",
            *(source, largest),
        )


def has_box(imaging: Imaging, found: np.ndarray | None) -> bool:
    """Return whether the box is known without the images, from the file or otherwise."""
    return found is not None or imaging.box is not None or imaging.default_box is not None


def compare_boxes(
    boxes: Int[np.ndarray, " n"],
    expected_boxes: np.ndarray | None,
    *,
    imaging: Imaging,
    source: Uri,
    field: str,
) -> None:
    """Check that images have the box that the user or the file gives.

    Raises:
        InputError: If they are not, naming the first particle.
    """
    expected = expected_boxes if imaging.box is None else np.full(len(boxes), imaging.box)
    if expected is None:
        return
    differs = np.flatnonzero(boxes != expected)
    if differs.size:
        row = differs[0]
        raise RowError(
            int(row),
            f"{field if imaging.box is None else OPTIONS['box']} is {expected[row]:g}, but the "
            f"image has {boxes[row]} px ({differs.size:,} such particles).",
            source=source,
        )
