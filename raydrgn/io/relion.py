"""RELION particle files (3.0, 3.1, 4, 5) to a ParticleTable.

Values of an optics group are joined to its particles. A value that stands in both tables is taken
from the optics group, as RELION does.
"""

import logging
import os
from dataclasses import dataclass

import numpy as np

from raydrgn.errors import InputError
from raydrgn.geometry.rotations import from_euler, to_euler
from raydrgn.io import storage
from raydrgn.io.imaging import OPTIONS, Imaging, compare_boxes, ctf_columns, fill
from raydrgn.io.particles import NoParticlesError, ParticleTable
from raydrgn.io.stacks import check_slices, find_stacks, read_headers
from raydrgn.io.star import StarBlock, read_star, write_star
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

CTF_FIELDS = {
    "defocus_u_angstrom": "rlnDefocusU",
    "defocus_v_angstrom": "rlnDefocusV",
    "defocus_angle_deg": "rlnDefocusAngle",
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "phase_shift_deg": "rlnPhaseShift",
}
ANGLE_FIELDS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


@dataclass(frozen=True, slots=True)
class _Fields:
    """Look-up of a field in the optics table first, then in the particles."""

    particles: StarBlock
    optics: StarBlock | None
    group_row: Int[np.ndarray, " n"] | None

    def numbers(self, name: str) -> Float[np.ndarray, " n"] | None:
        """Return one number per particle, or None if neither table has the field."""
        if self.optics is not None and self.group_row is not None and name in self.optics:
            return self.optics.numbers(name)[self.group_row]
        return self.particles.numbers(name) if name in self.particles else None


def read_relion(
    uri: Uri,
    *,
    datadir: Uri | None = None,
    imaging: Imaging | None = None,
    need_images: bool = True,
) -> ParticleTable:
    """Read a RELION particle file; poses and CTF are in the table where the file has them.

    Args:
        uri: STAR file.
        datadir: Folder of the stacks; see ``raydrgn.io.stacks``.
        imaging: Values that replace the file's.
        need_images: Whether stacks must be there; they must too if nothing else says the box.

    Raises:
        InputError: If a column that is needed is missing, or a stack is missing or does not fit.
    """
    imaging = imaging or Imaging()
    fields = _find_fields(uri)
    count = len(fields.particles)
    stacks, codes, slices = _image_names(fields.particles)
    box_said = fields.numbers("rlnImageSize")
    if need_images or (imaging.box is None and box_said is None):
        places = find_stacks(stacks, source=uri, datadir=datadir)
        boxes = check_slices(read_headers(places), codes, slices, source=uri)
        compare_boxes(boxes, box_said, imaging=imaging, source=uri, field="rlnImageSize")
    else:
        places = stacks
        boxes = fill(
            "box", box_said, imaging=imaging, count=count, source=uri, field="rlnImageSize"
        )

    pixel_size = _pixel_size(fields, imaging, uri)
    columns: dict[str, object] = {
        "index": np.arange(count),
        "stack": np.array(places, dtype=object)[codes],
        "slice": slices,
        "box": boxes.astype(np.int32),
        **_poses(fields, pixel_size, uri),
    }
    found = {name: fields.numbers(field) for name, field in CTF_FIELDS.items()}
    known = {name: values for name, values in found.items() if values is not None}
    columns |= ctf_columns(known, imaging=imaging, count=count, source=uri, fields=CTF_FIELDS)
    if pixel_size is not None:
        columns["pixel_size_angstrom"] = pixel_size
    elif "defocus_u_angstrom" in columns:
        raise InputError(
            f"{uri} has neither rlnImagePixelSize nor rlnDetectorPixelSize and rlnMagnification to "
            f"derive it from; give the pixel size with {OPTIONS['pixel_size_angstrom']}."
        )
    if "rlnOpticsGroup" in fields.particles:
        columns["optics_group"] = fields.particles.text("rlnOpticsGroup")
    return ParticleTable.from_columns(columns, metadata={"source": uri})


def _find_fields(uri: Uri) -> _Fields:
    blocks = read_star(uri)
    tables = [block for block in blocks if "rlnImageName" in block]
    if not tables:
        names = ", ".join(f"data_{block.name}" for block in blocks) or "nothing"
        raise InputError(
            f"{uri} has no column rlnImageName in any block ({names}); it is not a particle file. "
            "Take the particles STAR file of an extraction or refinement job."
        )
    particles = max(tables, key=len)
    if not len(particles):
        raise NoParticlesError(uri)
    if "rlnTomoName" in particles and "rlnTomoVisibleFrames" in particles:
        raise InputError(
            f"{uri} lists particles of tilt series; single-particle images are needed."
        )
    optics = next((block for block in blocks if block.name == "optics"), None)
    if optics is None:
        return _Fields(particles, None, None)
    if "rlnOpticsGroup" not in particles or "rlnOpticsGroup" not in optics:
        raise InputError(f"{uri} has optics groups, but its particles have no rlnOpticsGroup.")
    rows = {group: row for row, group in enumerate(optics.text("rlnOpticsGroup"))}
    groups = particles.text("rlnOpticsGroup")
    unknown = sorted(set(groups) - set(rows))
    if unknown:
        raise InputError(
            f"{uri} has particles of optics group {unknown[0]}, which block data_optics does not "
            f"list (it has {', '.join(rows)})."
        )
    return _Fields(particles, optics, np.array([rows[group] for group in groups]))


def _image_names(
    particles: StarBlock,
) -> tuple[list[str], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the distinct stacks, and the stack and slice (from 0) of each particle."""
    numbers: dict[str, int] = {}
    codes, slices = [], []
    for row, name in enumerate(particles.text("rlnImageName")):
        number, at, path = name.partition("@")
        if not at or not number.strip().isdigit() or not path:
            raise InputError(
                f"{particles.uri}, particle {row}: rlnImageName is {name!r}; expected the form "
                "000001@folder/stack.mrcs."
            )
        codes.append(numbers.setdefault(path, len(numbers)))
        slices.append(int(number) - 1)
    return list(numbers), np.array(codes, dtype=np.int64), np.array(slices, dtype=np.int64)


def _pixel_size(fields: _Fields, imaging: Imaging, uri: Uri) -> Float[np.ndarray, " n"] | None:
    found = fields.numbers("rlnImagePixelSize")
    if found is None and imaging.pixel_size_angstrom is None:
        detector = fields.numbers("rlnDetectorPixelSize")
        magnification = fields.numbers("rlnMagnification")
        if detector is None or magnification is None:
            return None
        found = detector * 1e4 / magnification  # µm -> Å
        log.info("%s: pixel size %.4f Å, from detector pixel size and magnification", uri, found[0])
    return fill(
        "pixel_size_angstrom",
        found,
        imaging=imaging,
        count=len(fields.particles),
        source=uri,
        field="rlnImagePixelSize",
    )


def _poses(
    fields: _Fields, pixel_size: Float[np.ndarray, " n"] | None, uri: Uri
) -> dict[str, np.ndarray]:
    angles = [fields.numbers(name) for name in ANGLE_FIELDS]
    missing = [name for name, a in zip(ANGLE_FIELDS, angles, strict=True) if a is None]
    if len(missing) == len(ANGLE_FIELDS):
        return {}
    if missing:
        raise InputError(f"{uri} has no {missing[0]}, but the other angles; it is damaged.")
    rotations = from_euler(np.stack([a for a in angles if a is not None], axis=-1))
    return {
        "rotation": rotations.reshape(-1, 9),
        "shift_angstrom": _shifts(fields, pixel_size, uri),
    }


def _shifts(
    fields: _Fields, pixel_size: Float[np.ndarray, " n"] | None, uri: Uri
) -> Float[np.ndarray, "n 2"]:
    in_angstrom = [fields.numbers(f"rlnOrigin{axis}Angst") for axis in "XY"]
    if all(values is not None for values in in_angstrom):
        return np.stack([values for values in in_angstrom if values is not None], axis=-1)
    in_pixels = [fields.numbers(f"rlnOrigin{axis}") for axis in "XY"]
    if any(values is None for values in in_pixels):
        log.warning("%s has no rlnOrigin columns; shifts are taken as 0", uri)
        return np.zeros((len(fields.particles), 2))
    if pixel_size is None:
        raise InputError(
            f"{uri} has shifts in pixels, but no pixel size; give it with "
            f"{OPTIONS['pixel_size_angstrom']}."
        )
    return np.stack([p for p in in_pixels if p is not None], axis=-1) * pixel_size[:, None]


def write_relion(uri: Uri, table: ParticleTable) -> None:
    """Write a RELION 3.1 particle file with its optics groups; stacks relative to its folder.

    Particles that share an optics group must share what RELION keeps per group; groups are split
    where they do not, and keep their numbers otherwise.
    """
    count = len(table)
    names = table.table.column_names
    group_columns = {
        "rlnImageSize": [str(box) for box in table.column("box")],
        "rlnImagePixelSize": _formatted(table, "pixel_size_angstrom"),
        "rlnVoltage": _formatted(table, "voltage_kv"),
        "rlnSphericalAberration": _formatted(table, "spherical_aberration_mm"),
        "rlnAmplitudeContrast": _formatted(table, "amplitude_contrast"),
    }
    group_columns = {name: values for name, values in group_columns.items() if values}
    said = (
        table.table.column("optics_group").to_pylist() if "optics_group" in names else ["1"] * count
    )
    numbers: dict[tuple[str, ...], int] = {}
    groups = [
        numbers.setdefault(key, len(numbers) + 1)
        for key in zip(said, *group_columns.values(), strict=True)
    ]
    first = [groups.index(number) for number in numbers.values()]
    labels = [key[0] for key in numbers]
    if len(set(labels)) < len(labels) or not all(label.isdigit() for label in labels):
        labels = [str(number) for number in numbers.values()]
    optics = {
        "rlnOpticsGroup": labels,
        "rlnOpticsGroupName": [f"opticsGroup{label}" for label in labels],
        **{name: [values[row] for row in first] for name, values in group_columns.items()},
        "rlnImageDimensionality": ["2"] * len(first),
    }
    particles = {"rlnImageName": names_for(uri, table), **defocus_cells(table)}
    if table.has_poses:
        particles |= pose_cells(table)
    particles["rlnOpticsGroup"] = [labels[group - 1] for group in groups]
    write_star(uri, {"optics": optics, "particles": particles})


def defocus_cells(table: ParticleTable) -> dict[str, list[str]]:
    """Return what RELION keeps of the CTF for each particle, as text by RELION's column."""
    names = ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_deg", "phase_shift_deg")
    found = {CTF_FIELDS[name]: _formatted(table, name) for name in names}
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
    """Return each particle's ``NNNNNN@stack``; local stacks relative to the folder of ``uri``."""
    folder = storage.parent(storage.absolute(uri))
    stacks = [
        os.path.relpath(stack, folder)
        if storage.is_local(stack) and storage.is_local(uri)
        else stack
        for stack in table.stacks
    ]
    return [
        f"{number + 1:06d}@{stacks[code]}"
        for number, code in zip(table.column("slice"), table.stack_codes, strict=True)
    ]
