"""RELION particle files (3.0, 3.1, 4, 5) to a ParticleTable.

Values of an optics group are joined to its particles. Where both tables have a field, the optics
group's counts, but of the CTF the particle's own, as in RELION: a fit of the spherical aberration
or of the phase shift writes into the particles.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.errors import InputError
from raydrgn.geometry.rotations import from_euler
from raydrgn.io.cells import to_number
from raydrgn.io.half_sets import half_columns
from raydrgn.io.imaging import (
    Imaging,
    calibration,
    compare_boxes,
    ctf_columns,
    fill,
    has_box,
    how_to_give,
    to_metadata,
)
from raydrgn.io.particle_checks import RowError
from raydrgn.io.particles import TILT_COLUMNS, NoParticlesError, ParticleTable
from raydrgn.io.relionwriter import (
    ANGLE_FIELDS,
    CTF_FIELDS,
    HALF_FIELD,
    IMAGE_FIELDS,
    is_of_optics,
)
from raydrgn.io.stacks import check_slices, find_stacks, read_headers, without_format
from raydrgn.io.star import StarBlock, read_star
from raydrgn.io.storage import Uri
from raydrgn.io.unmodelled import Unmodelled, of_relion
from raydrgn.io.unmodelled import to_metadata as unmodelled_metadata
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

PIXEL_SIZE_FIELDS = (
    "rlnImagePixelSize",
    "rlnDetectorPixelSize",
    "rlnMagnification",
    "rlnPixelSize",
)
ORIGIN_FIELDS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY")

RELION_FIELDS = {
    **{name: (field,) for name, field in (CTF_FIELDS | IMAGE_FIELDS).items()},
    "pixel_size_angstrom": PIXEL_SIZE_FIELDS,
}
"""Which fields a column of the particle table is read from."""

ANGSTROM_PER_UM = 1e4

MAX_DIGITS = 12
"""Of the number of an image in its stack."""


@dataclass(frozen=True, slots=True)
class _Fields:
    """Look-up of a field in the optics table and in the particles."""

    particles: StarBlock
    optics: StarBlock | None
    group_row: Int[np.ndarray, " n"] | None
    unmodelled: list[Unmodelled]

    def numbers(self, name: str) -> Float[np.ndarray, " n"] | None:
        """Return one number per particle, or None if neither table has the field."""
        optics = self._optics_of(name)
        if optics is not None:
            return optics.numbers(name)[self.group_row]
        return self.particles.numbers(name) if name in self.particles else None

    def flags(self, name: str) -> Float[np.ndarray, " n"] | None:
        """Return a number per particle as ``numbers`` does, of truth values too."""
        optics = self._optics_of(name)
        if optics is not None:
            return optics.flags(name)[self.group_row]
        return self.particles.flags(name) if name in self.particles else None

    def place(self, row: int, column: str | None) -> str:
        """Return where in the file the value of a particle's column stands.

        Args:
            row: Of the particles.
            column: Of the particle table or of the file; None for the particle's own line.
        """
        names = RELION_FIELDS.get(column, (column,)) if column else ()
        optics = next(filter(None, map(self._optics_of, names)), None)
        if optics is None or self.group_row is None:
            return self.particles.place(row)
        return f"{optics.place(int(self.group_row[row]))} (block data_optics)"

    def _optics_of(self, name: str) -> StarBlock | None:
        """Return the optics table if a field is taken from there."""
        if self.optics is None:
            return None
        is_there = is_of_optics(name, self.particles.columns, self.optics.columns)
        return self.optics if is_there else None


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
        need_images: Whether stacks must be there; they must too if the box is not known.

    Raises:
        NoParticlesError: If the file has no rows.
        InputError: If a column that is needed is missing, or a stack is missing or does not fit.
    """
    fields = _find_fields(uri)
    try:
        return _read_table(uri, fields, datadir, imaging or Imaging(), need_images)
    except RowError as error:
        place = fields.place(error.row, error.column)
        raise InputError(f"{uri}, {place}: {error.problem}") from error


def _read_table(
    uri: Uri, fields: _Fields, datadir: Uri | None, imaging: Imaging, need_images: bool
) -> ParticleTable:
    count = len(fields.particles)
    stacks, codes, slices = image_names(fields.particles)
    expected_box = fields.numbers("rlnImageSize")
    need_images = need_images or not has_box(imaging, expected_box)
    places = find_stacks(stacks, source=uri, datadir=datadir, required=need_images)
    if need_images:
        boxes = check_slices(read_headers(places), codes, slices, source=uri)
        compare_boxes(boxes, expected_box, imaging=imaging, source=uri, field="rlnImageSize")
    else:
        boxes = fill(
            "box", expected_box, imaging=imaging, count=count, source=uri, field="rlnImageSize"
        )

    own_size, field = own_pixel_size(fields.numbers)
    pixel_size = _pixel_size(own_size, field, imaging=imaging, count=count, uri=uri)
    columns: dict[str, object] = {
        "index": np.arange(count),
        "stack": np.array(places, dtype=object)[codes],
        "slice": slices,
        "box": boxes,
        **_poses(fields, pixel_size, own_size, uri),
    }
    found = {name: fields.numbers(field) for name, field in CTF_FIELDS.items()}
    known = {name: values for name, values in found.items() if values is not None}
    known |= _without_astigmatism(known, uri)
    columns |= ctf_columns(known, imaging=imaging, count=count, source=uri, fields=CTF_FIELDS)
    columns |= _image_state(fields, uri)
    columns |= half_columns(fields.numbers(HALF_FIELD), first=1)
    if pixel_size is not None:
        columns["pixel_size_angstrom"] = pixel_size
    elif "defocus_u_angstrom" in columns:
        raise InputError(
            f"{uri} has neither rlnImagePixelSize nor rlnDetectorPixelSize and rlnMagnification to "
            f"derive it from; {how_to_give('pixel_size_angstrom', uri)}."
        )
    if "rlnOpticsGroup" in fields.particles:
        columns["optics_group"] = group_labels(fields.particles.text("rlnOpticsGroup"))
    metadata = {"source": uri, **to_metadata(imaging), **unmodelled_metadata(fields.unmodelled)}
    return ParticleTable.from_columns(columns, metadata=metadata)


def _without_astigmatism(known: Mapping[str, np.ndarray], uri: Uri) -> dict[str, np.ndarray]:
    """Return the columns of the defocus that a file without astigmatism leaves out.

    As RELION reads it: V is U. The angle means nothing then, and is 0.
    """
    u, v = (known.get(name) for name in ("defocus_u_angstrom", "defocus_v_angstrom"))
    if u is None or not (v is None or np.array_equal(u, v)):
        return {}
    added = {"defocus_v_angstrom": u, "defocus_angle_deg": np.zeros(len(u))}
    added = {name: values for name, values in added.items() if name not in known}
    if added:
        missing = " and no ".join(CTF_FIELDS[name] for name in added)
        log.warning("%s has no %s; the defocus is taken to have no astigmatism", uri, missing)
    return added


def _image_state(fields: _Fields, uri: Uri) -> dict[str, np.ndarray]:
    """Return what has been done to the images, and the tilt of the beam, where there is any."""
    columns: dict[str, np.ndarray] = {}
    for name, field in IMAGE_FIELDS.items():
        is_number = name in TILT_COLUMNS
        values = fields.numbers(field) if is_number else fields.flags(field)
        if values is None or not values.any():
            continue
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise RowError(int(bad[0]), f"{field} is not a number.", source=uri, column=name)
        columns[name] = values if is_number else values != 0
    if columns.keys() & set(TILT_COLUMNS):
        zero = np.zeros(len(fields.particles))
        columns |= {name: columns.get(name, zero) for name in TILT_COLUMNS}
    return columns


def _find_fields(uri: Uri) -> _Fields:
    blocks = read_star(uri)
    tables = [block for block in blocks if "rlnImageName" in block]
    if not tables:
        raise _no_particle_file(uri, blocks)
    particles = max(tables, key=len)
    if not len(particles):
        raise NoParticlesError(uri)
    if "rlnTomoName" in particles and not _lists_images(particles):
        raise InputError(
            f"{uri} lists particles of tilt series; single-particle images are needed."
        )
    optics = next((block for block in blocks if block.name == "optics"), None)
    if optics is None or not len(optics):
        return _Fields(particles, None, None, of_relion(particles, None, []))
    if "rlnOpticsGroup" not in particles or "rlnOpticsGroup" not in optics:
        raise InputError(f"{uri} has optics groups, but its particles have no rlnOpticsGroup.")
    labels = group_labels(optics.text("rlnOpticsGroup"))
    rows = {group: row for row, group in enumerate(labels)}
    if len(rows) < len(labels):
        twice = next(group for group in labels if labels.count(group) > 1)
        raise InputError(f"{uri} has two rows for optics group {twice} in block data_optics.")
    groups = group_labels(particles.text("rlnOpticsGroup"))
    check_groups(groups, labels, uri)
    group_row = np.array([rows[group] for group in groups])
    return _Fields(particles, optics, group_row, of_relion(particles, optics, labels))


def _lists_images(particles: StarBlock) -> bool:
    """Return whether rows of a file of tilt series are images, and not stacks of their tilts."""
    return "rlnTomoVisibleFrames" not in particles and "@" in particles.text("rlnImageName")[0]


def _no_particle_file(uri: Uri, blocks: Sequence[StarBlock]) -> InputError:
    columns = {column for block in blocks for column in block.columns}
    if any(column.startswith("cisTEM") for column in columns):
        return InputError(
            f"{uri} is a STAR file of cisTEM, with columns of its own. Export the refinement "
            "package from cisTEM for RELION, and take the STAR file of that."
        )
    names = ", ".join(f"data_{block.name}" for block in blocks) or "nothing"
    return InputError(
        f"{uri} has no column rlnImageName in any block ({names}); it is not a particle file. "
        "Take the particles STAR file of an extraction or refinement job."
    )


def group_labels(groups: Sequence[str]) -> list[str]:
    """Return optics groups as RELION counts them: ``1``, ``01`` and ``1.000000`` are one group."""
    known: dict[str, str] = {}
    for group in groups:
        if group not in known:
            known[group] = _group_label(group)
    return [known[group] for group in groups]


def _group_label(group: str) -> str:
    try:
        number = to_number(group)
    except ValueError:
        return group
    return str(int(number)) if number.is_integer() else group


def check_groups(groups: Sequence[str], listed: Sequence[str], uri: Uri) -> None:
    """Refuse particles of a group that is in no row of the optics table.

    Raises:
        InputError: Naming the group.
    """
    unknown = sorted(set(groups) - set(listed))
    if unknown:
        raise InputError(
            f"{uri} has particles of optics group {unknown[0]}, which block data_optics does not "
            f"list (it has {', '.join(listed)})."
        )


def image_names(
    particles: StarBlock,
) -> tuple[list[str], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the distinct stacks, and the stack and slice (from 0) of each particle."""
    numbers: dict[str, int] = {}
    codes, slices = [], []
    for row, name in enumerate(particles.text("rlnImageName")):
        found = split_image_name(name)
        if found is None:
            raise RowError(
                row,
                f"rlnImageName is {name!r}; expected the form 000001@folder/stack.mrcs.",
                source=particles.uri,
            )
        number, path = found
        codes.append(numbers.setdefault(path, len(numbers)))
        slices.append(number)
    return list(numbers), np.array(codes, dtype=np.int64), np.array(slices, dtype=np.int64)


def split_image_name(name: str) -> tuple[int, str] | None:
    """Return slice (from 0) and stack of ``000001@folder/stack.mrcs``; None of anything else."""
    number, at, path = name.partition("@")
    path = without_format(path.strip())
    if not at or not number.strip().isdecimal() or len(number) > MAX_DIGITS or not path:
        return None
    return int(number) - 1, path


def own_pixel_size(
    numbers: Callable[[str], Float[np.ndarray, " n"] | None],
) -> tuple[Float[np.ndarray, " n"] | None, str]:
    """Return the pixel size that a file has, Å, or None, and where it is from.

    Args:
        numbers: Returns one number per particle of a field, or None if the file lacks it.
    """
    found = numbers("rlnImagePixelSize")
    if found is not None:
        return found, "rlnImagePixelSize"
    detector, magnification = numbers("rlnDetectorPixelSize"), numbers("rlnMagnification")
    if detector is not None and magnification is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = detector * ANGSTROM_PER_UM / magnification
        return found, "rlnDetectorPixelSize over rlnMagnification"
    return numbers("rlnPixelSize"), "rlnPixelSize"


def _pixel_size(
    found: Float[np.ndarray, " n"] | None, field: str, *, imaging: Imaging, count: int, uri: Uri
) -> Float[np.ndarray, " n"] | None:
    if imaging.pixel_size_angstrom is None:
        if found is None:
            return None
        if field != "rlnImagePixelSize":
            log.info("%s: pixel size %.4f Å, from %s", uri, found[0], field)
    return fill("pixel_size_angstrom", found, imaging=imaging, count=count, source=uri, field=field)


def _poses(
    fields: _Fields,
    pixel_size: Float[np.ndarray, " n"] | None,
    own_size: Float[np.ndarray, " n"] | None,
    uri: Uri,
) -> dict[str, np.ndarray]:
    angles = [fields.numbers(name) for name in ANGLE_FIELDS]
    missing = [name for name, a in zip(ANGLE_FIELDS, angles, strict=True) if a is None]
    if set(ANGLE_FIELDS[:2]) <= set(missing):  # psi alone is of a 2D classification
        return {}
    if missing:
        raise InputError(f"{uri} has no {missing[0]}, but the other angles; it is damaged.")
    rotations = from_euler(np.stack([a for a in angles if a is not None], axis=-1))
    return {
        "rotation": rotations.reshape(-1, 9),
        "shift_angstrom": _shifts(fields, pixel_size, own_size, uri),
    }


def _shifts(
    fields: _Fields,
    pixel_size: Float[np.ndarray, " n"] | None,
    own_size: Float[np.ndarray, " n"] | None,
    uri: Uri,
) -> Float[np.ndarray, "n 2"]:
    in_angstrom = [fields.numbers(f"rlnOrigin{axis}Angst") for axis in "XY"]
    if all(values is not None for values in in_angstrom):
        shifts = np.stack([values for values in in_angstrom if values is not None], axis=-1)
        if pixel_size is None or own_size is None:
            return shifts
        return shifts * calibration(pixel_size, own_size)[:, None]
    in_pixels = [fields.numbers(f"rlnOrigin{axis}") for axis in "XY"]
    if any(values is None for values in in_pixels):
        found = [name for name in ORIGIN_FIELDS if fields.numbers(name) is not None]
        if found:
            raise InputError(
                f"{uri} has {found[0]}, but not the shift along the other axis; it is damaged."
            )
        log.warning("%s has no rlnOrigin columns; shifts are taken as 0", uri)
        return np.zeros((len(fields.particles), 2))
    if pixel_size is None:
        raise InputError(
            f"{uri} has shifts in pixels, but no pixel size; "
            f"{how_to_give('pixel_size_angstrom', uri)}."
        )
    return np.stack([p for p in in_pixels if p is not None], axis=-1) * pixel_size[:, None]
