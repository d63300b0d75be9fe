"""A ParticleTable to a RELION 3.1 particle file, and the names of RELION's columns."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from raydrgn.geometry.rotations import to_euler
from raydrgn.io import storage
from raydrgn.io.half_sets import HALF
from raydrgn.io.particles import TILT_COLUMNS, ParticleTable
from raydrgn.io.star import write_star
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

CTF_FIELDS = {
    "defocus_u_angstrom": "rlnDefocusU",
    "defocus_v_angstrom": "rlnDefocusV",
    "defocus_angle_deg": "rlnDefocusAngle",
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "phase_shift_deg": "rlnPhaseShift",
}
FIRST_OF_PARTICLES = {*CTF_FIELDS.values(), "rlnCtfBfactor", "rlnCtfScalefactor"}
"""The CTF, which RELION takes from the particle where both tables have it."""

ANGLE_FIELDS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
IMAGE_FIELDS = {
    "ctf_premultiplied": "rlnCtfDataAreCtfPremultiplied",
    "phase_flipped": "rlnCtfDataArePhaseFlipped",
    "beam_tilt_x_mrad": "rlnBeamTiltX",
    "beam_tilt_y_mrad": "rlnBeamTiltY",
}
"""What has been done to images, and how they were recorded; in RELION's units."""

HALF_FIELD = "rlnRandomSubset"
MAX_GROUP = 2**31 - 1

ESTIMATE_FIELDS = {"contrast": "raydrgnContrast", "null_probability": "raydrgnNullProbability"}
"""What RELION has no column for; it keeps columns that it does not know."""


def is_of_optics(field: str, particles: Collection[str], optics: Collection[str]) -> bool:
    """Return whether a field is taken from the optics groups, by the columns of both tables."""
    return field in optics and not (field in FIRST_OF_PARTICLES and field in particles)


def write_relion(
    uri: Uri,
    table: ParticleTable,
    *,
    more: Mapping[str, Sequence[str]] | None = None,
    check: Callable[[Uri], None] | None = None,
) -> None:
    """Write a RELION 3.1 particle file with its optics groups; stacks relative to its folder.

    Particles that share an optics group must share what RELION keeps per group; groups are split
    where they do not, and keep their numbers otherwise.

    Args:
        uri: STAR file to write.
        table: Particles.
        more: Other columns of the particles, as text by RELION's column.
        check: As in ``storage.atomic_write``.
    """
    count = len(table)
    names = table.table.column_names
    group_columns = {
        "rlnImageSize": [str(box) for box in table.column("box")],
        "rlnImagePixelSize": _formatted(table, "pixel_size_angstrom"),
        "rlnVoltage": _formatted(table, "voltage_kv"),
        "rlnSphericalAberration": _formatted(table, "spherical_aberration_mm"),
        "rlnAmplitudeContrast": _formatted(table, "amplitude_contrast"),
        **_image_state(table),
    }
    group_columns = {name: values for name, values in group_columns.items() if values}
    origin = (
        table.table.column("optics_group").to_pylist() if "optics_group" in names else ["1"] * count
    )
    numbers: dict[tuple[str, ...], int] = {}
    groups = [
        numbers.setdefault(key, len(numbers) + 1)
        for key in zip(origin, *group_columns.values(), strict=True)
    ]
    first = [groups.index(number) for number in numbers.values()]
    labels = [key[0] for key in numbers]
    if len(set(labels)) < len(labels) or not all(map(_is_group_number, labels)):
        labels = [str(number) for number in numbers.values()]
    optics = {
        "rlnOpticsGroup": labels,
        "rlnOpticsGroupName": [f"opticsGroup{label}" for label in labels],
        **{name: [values[row] for row in first] for name, values in group_columns.items()},
        "rlnImageDimensionality": ["2"] * len(first),
    }
    particles: dict[str, Sequence[str]] = {"rlnImageName": names_for(uri, table), **(more or {})}
    particles |= defocus_cells(table)
    if table.has_poses:
        particles |= pose_cells(table)
    particles |= estimate_cells(table)
    if HALF in names:
        particles[HALF_FIELD] = table.column(HALF).astype(str).tolist()
    particles["rlnOpticsGroup"] = [labels[group - 1] for group in groups]
    write_star(uri, {"optics": optics, "particles": particles}, check=check)


def _is_group_number(label: str) -> bool:
    """Return whether RELION takes a label for an optics group, which it counts from 1."""
    return label.isdecimal() and 1 <= int(label) <= MAX_GROUP


def _image_state(table: ParticleTable) -> dict[str, list[str]]:
    """Return what has been done to the images, and the tilt of the beam, by RELION's column."""
    columns: dict[str, list[str]] = {}
    for name, field in IMAGE_FIELDS.items():
        if name in TILT_COLUMNS:
            columns[field] = _formatted(table, name)
        elif name in table.table.column_names:
            columns[field] = table.column(name).astype(int).astype(str).tolist()
    return columns


def defocus_cells(table: ParticleTable) -> dict[str, list[str]]:
    """Return what RELION keeps of the CTF for each particle, as text by RELION's column."""
    names = ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_deg", "phase_shift_deg")
    found = {CTF_FIELDS[name]: _formatted(table, name) for name in names}
    return {field: cells for field, cells in found.items() if cells}


def estimate_cells(table: ParticleTable) -> dict[str, list[str]]:
    """Return contrast and null probability, if they are known, as text by their column."""
    found = {field: _formatted(table, name) for name, field in ESTIMATE_FIELDS.items()}
    return {field: cells for field, cells in found.items() if cells}


def pose_cells(table: ParticleTable) -> dict[str, list[str]]:
    """Return Euler angles and shifts in Å, as text by RELION's column."""
    euler = to_euler(table.rotations)
    shifts = table.column("shift_angstrom").astype(np.float32)
    angles = {field: decimals(euler[:, i]) for i, field in enumerate(ANGLE_FIELDS)}
    return angles | {
        f"rlnOrigin{axis}Angst": _shortest(shifts[:, i]) for i, axis in enumerate("XY")
    }


def decimals(values: Float[np.ndarray, " n"]) -> list[str]:
    """Return numbers as text with six decimals, as RELION writes them."""
    return [f"{value:.6f}" for value in values.tolist()]


def _shortest(values: Float[np.ndarray, " n"]) -> list[str]:
    """Return single-precision numbers as the shortest text that reads as the same number."""
    return values.astype(np.float32).astype(str).tolist()


def _formatted(table: ParticleTable, name: str) -> list[str]:
    return _shortest(table.column(name)) if name in table.table.column_names else []


def names_for(uri: Uri, table: ParticleTable) -> list[str]:
    """Return each particle's ``NNNNNN@stack``; stacks relative to the folder of ``uri``.

    In a store, only those below that folder are.

    Links above the folder are followed first, since ``..`` is the folder above what a link leads
    to. Stacks whose place is not known keep the name that they have.
    """
    folder = storage.parent(storage.absolute(uri))
    if storage.is_local(uri):
        folder = os.path.realpath(folder)
        stacks = [
            os.path.relpath(stack, folder)
            if storage.is_local(stack) and os.path.isabs(stack)
            else stack
            for stack in table.stacks
        ]
    else:
        stacks = [stack.removeprefix(f"{folder}/") for stack in table.stacks]
    return [
        f"{number + 1:06d}@{stacks[code]}"
        for number, code in zip(table.column("slice"), table.stack_codes, strict=True)
    ]
