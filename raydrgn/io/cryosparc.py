"""cryoSPARC particle files (.cs) to a ParticleTable.

A .cs file is a NumPy structured array, one row per particle.
"""

import json
import logging
import re
from collections.abc import Sequence

import numpy as np

from raydrgn.errors import InputError
from raydrgn.geometry.rotations import from_axis_angle
from raydrgn.io.half_sets import half_columns
from raydrgn.io.imaging import (
    HALF_SIZE_SHIFTS,
    Imaging,
    calibration,
    compare_boxes,
    ctf_columns,
    fill,
    has_box,
    to_metadata,
)
from raydrgn.io.particle_checks import RowError
from raydrgn.io.particles import TILT_COLUMNS, NoParticlesError, ParticleTable
from raydrgn.io.passthrough import read_joined
from raydrgn.io.stacks import check_slices, find_stacks, read_headers
from raydrgn.io.storage import Uri
from raydrgn.io.unmodelled import of_cryosparc
from raydrgn.io.unmodelled import to_metadata as unmodelled_metadata

log = logging.getLogger(__name__)

CTF_FIELDS = {
    "defocus_u_angstrom": "ctf/df1_A",
    "defocus_v_angstrom": "ctf/df2_A",
    "defocus_angle_deg": "ctf/df_angle_rad",
    "voltage_kv": "ctf/accel_kv",
    "spherical_aberration_mm": "ctf/cs_mm",
    "amplitude_contrast": "ctf/amp_contrast",
    "phase_shift_deg": "ctf/phase_shift_rad",
}
NOT_PARTICLES = {
    "map": "volumes",
    "map_sharp": "volumes",
    "mask": "masks",
    "micrograph_blob": "micrographs",
    "movie_blob": "movies",
}
"""What a .cs file lists that has no images of particles, but one of these parts."""

ANGSTROM_PER_MM = 1e7
SEVERAL_CLASSES = re.compile(r"^alignments(?:3D_multi|_class_\d+)/pose$")
"""Poses in each of the classes of an ab-initio reconstruction or heterogeneous refinement."""

SAME_SIZE = 1e-3  # of two pixel sizes, relative
SPLIT_FIELD = "alignments3D/split"
PIXEL_SIZE_FIELD = "blob/psize_A"
IMAGE_FIELDS = ("blob/path", "blob/idx")
REFINED, MULTI = "alignments3D", "alignments3D_multi"
"""Prefixes of the poses of a refinement, and of those in each class of several."""


def read_cryosparc(
    uri: Uri,
    *,
    datadir: Uri | None = None,
    imaging: Imaging | None = None,
    need_images: bool = True,
    passthrough: Sequence[Uri] = (),
) -> ParticleTable:
    """Read a .cs file; poses and CTF are in the table where the file has them.

    Args:
        uri: The .cs file.
        datadir: Folder of the stacks, usually the cryoSPARC project; see ``raydrgn.io.stacks``.
        imaging: Values that replace the file's.
        need_images: Whether stacks must be there; they must too if the box is not known.
        passthrough: Passthrough files of the same job; see ``raydrgn.io.passthrough``.

    Raises:
        NoParticlesError: If the file has no rows.
        InputError: If a field that is needed is missing, or a stack is missing or does not fit.
    """
    imaging = imaging or Imaging()
    rows, used = read_joined(uri, passthrough)
    names = rows.dtype.names or ()
    if not len(rows):
        raise NoParticlesError(uri)
    images = _images(rows, uri, datadir=datadir, imaging=imaging, need_images=need_images)
    pixel_size = _pixel_size(rows, uri, imaging)
    columns: dict[str, object] = {
        "index": np.arange(len(rows)),
        **images,
        "pixel_size_angstrom": pixel_size,
        **_poses(rows, pixel_size, half_size=imaging.half_size_shifts, source=uri),
        **_ctf(rows, uri, imaging),
        **_beam_tilt(rows, uri),
    }
    if SPLIT_FIELD in names:
        columns |= half_columns(field_values(rows, SPLIT_FIELD, uri), first=0)
    if "uid" in names:
        columns["uid"] = field_values(rows, "uid", uri, kinds="iu")
    if "ctf/exp_group_id" in names:
        columns["optics_group"] = field_values(rows, "ctf/exp_group_id", uri).astype(str)
    metadata = {"source": uri, **to_metadata(imaging), **unmodelled_metadata(of_cryosparc(rows))}
    several = [name for name in names if SEVERAL_CLASSES.match(name)]
    if several and "rotation" not in columns:
        metadata["several_classes"] = several[0]
    if used:
        metadata["passthrough"] = json.dumps(used)
    if imaging.half_size_shifts:
        metadata[HALF_SIZE_SHIFTS] = "true"
    return ParticleTable.from_columns(columns, metadata=metadata)


def _images(
    rows: np.ndarray, uri: Uri, *, datadir: Uri | None, imaging: Imaging, need_images: bool
) -> dict[str, np.ndarray]:
    """Return where the image of each particle is, and its box in pixels.

    Without images in the file, the stack has no name, and slices are counted through.

    Raises:
        InputError: If images are needed and the file has none, or a stack does not fit.
    """
    names = rows.dtype.names or ()
    if not all(field in names for field in IMAGE_FIELDS):
        if need_images or imaging.box is None:
            raise _no_images(uri, names)
        unnamed = np.full(len(rows), "", dtype=object)
        boxes = _boxes(rows, uri, imaging)
        return {"stack": unnamed, "slice": np.arange(len(rows)), "box": boxes}
    stacks, codes = _stack_names(rows, uri)
    # uint32 in the file, which overflows in products.
    slices = field_values(rows, "blob/idx", uri, kinds="iu").astype(np.int64)
    expected = _expected_boxes(rows, uri)
    need_images = need_images or not has_box(imaging, expected)
    places = find_stacks(stacks, source=uri, datadir=datadir, required=need_images)
    if need_images:
        boxes = check_slices(read_headers(places), codes, slices, source=uri)
        compare_boxes(boxes, expected, imaging=imaging, source=uri, field="blob/shape")
    else:
        boxes = _boxes(rows, uri, imaging)
    return {"stack": np.array(places, dtype=object)[codes], "slice": slices, "box": boxes}


def _expected_boxes(rows: np.ndarray, uri: Uri) -> np.ndarray | None:
    """Return the box that the file has for each image, pixels; None if it has none."""
    if "blob/shape" not in (rows.dtype.names or ()):
        return None
    return field_values(rows, "blob/shape", uri, width=2)[:, 0]


def _boxes(rows: np.ndarray, uri: Uri, imaging: Imaging) -> np.ndarray:
    """Return the box of each image, pixels, where no stack is opened for it."""
    expected = _expected_boxes(rows, uri)
    return fill("box", expected, imaging=imaging, count=len(rows), source=uri, field="blob/shape")


def _pixel_size(rows: np.ndarray, uri: Uri, imaging: Imaging) -> np.ndarray:
    """Return the pixel size of each image, Å."""
    field = PIXEL_SIZE_FIELD
    found = field_values(rows, field, uri) if field in (rows.dtype.names or ()) else None
    return fill(
        "pixel_size_angstrom", found, imaging=imaging, count=len(rows), source=uri, field=field
    )


def _ctf(rows: np.ndarray, uri: Uri, imaging: Imaging) -> dict[str, np.ndarray]:
    """Return the seven columns of the CTF, angles in degrees; none if the file has no defocus."""
    names = rows.dtype.names or ()
    found = {
        name: field_values(rows, field, uri) for name, field in CTF_FIELDS.items() if field in names
    }
    for name in ("defocus_angle_deg", "phase_shift_deg"):
        if name in found:
            found[name] = np.rad2deg(found[name].astype(np.float64))
    return ctf_columns(found, imaging=imaging, count=len(rows), source=uri, fields=CTF_FIELDS)


def _beam_tilt(rows: np.ndarray, uri: Uri) -> dict[str, np.ndarray]:
    """Return the tilt of the beam where there is any.

    cryoSPARC has Cs times the sine of the tilt, in Å.
    """
    if not {"ctf/tilt_A", "ctf/cs_mm"} <= set(rows.dtype.names or ()):
        return {}
    tilt = field_values(rows, "ctf/tilt_A", uri, width=2).astype(np.float64)
    if not tilt.any():
        return {}
    with np.errstate(divide="ignore", invalid="ignore"):
        sine = tilt / (field_values(rows, "ctf/cs_mm", uri)[:, None] * ANGSTROM_PER_MM)
        angles = np.where(tilt == 0, 0.0, 1e3 * np.arcsin(sine))  # 0/0 where Cs is 0
    return {name: angles[:, i] for i, name in enumerate(TILT_COLUMNS)}


def _no_images(uri: Uri, names: Sequence[str]) -> InputError:
    parts = sorted({name.split("/")[0] for name in names if "/" in name})
    other = next((what for part, what in NOT_PARTICLES.items() if part in parts), None)
    if other:
        return InputError(
            f"{uri} lists {other}, and no particles (it has {', '.join(parts)}). Take the "
            "particles file of a refinement: J…_particles.cs."
        )
    return InputError(
        f"{uri} has no blob/path and blob/idx: it holds what its job has computed, and not where "
        "the images are. Give the passthrough file of the same job (J…_passthrough_particles.cs) "
        "with --passthrough; or export the particles in cryoSPARC (Export in the job's Outputs "
        "tab, or Restack Particles), which writes one file with both."
    )


def _stack_names(rows: np.ndarray, uri: Uri) -> tuple[list[str], np.ndarray]:
    """Return the distinct stacks, and which of them each row names."""
    paths = field_values(rows, "blob/path", uri, kinds="SU")
    distinct, codes = np.unique(paths, return_inverse=True)
    names = []
    for code, path in enumerate(distinct.tolist()):
        try:
            text = path.decode() if isinstance(path, bytes) else path
        except UnicodeDecodeError as error:
            row = int(np.flatnonzero(codes == code)[0])
            raise RowError(
                row,
                f"blob/path is {path!r}, which is not UTF-8. Rename the stack, and import it again "
                "into cryoSPARC.",
                source=uri,
            ) from error
        if not text.strip(">"):
            row = int(np.flatnonzero(codes == code)[0])
            raise RowError(row, "blob/path is empty.", source=uri)
        names.append(text.lstrip(">"))  # cryoSPARC marks some with >
    return names, codes


def field_values(
    rows: np.ndarray, name: str, uri: Uri, *, width: int | None = None, kinds: str = "iuf"
) -> np.ndarray:
    """Return a field of the type and shape that cryoSPARC gives it.

    Raises:
        InputError: If it is of another one.
    """
    values = rows[name]
    shape = (len(rows),) if width is None else (len(rows), width)
    if values.dtype.kind not in kinds or values.shape != shape:
        raise InputError(
            f"{uri}: field {name} holds {values.dtype} in shape {values.shape[1:]} per row, which "
            "no cryoSPARC writes; the file is damaged, or another program has changed it."
        )
    return values


def pose_prefix(rows: np.ndarray) -> str | None:
    """Return the prefix of the fields with poses; None if there are none, or of several classes.

    They are those of a refinement, or of an ab-initio reconstruction of one class.
    """
    names = rows.dtype.names or ()
    several = [name.removesuffix("/pose") for name in names if SEVERAL_CLASSES.match(name)]
    for prefix in [REFINED, *(several if len(several) == 1 and several[0] != MULTI else [])]:
        if {f"{prefix}/pose", f"{prefix}/shift"} <= set(names):
            return prefix
    return None


def _poses(
    rows: np.ndarray, pixel_size: np.ndarray, *, half_size: bool, source: Uri
) -> dict[str, np.ndarray]:
    prefix = pose_prefix(rows)
    if prefix is None:
        return {}
    rotations = from_axis_angle(field_values(rows, f"{prefix}/pose", source, width=3))
    # The shift is in pixels of the images that were aligned, which may be larger or smaller.
    aligned = aligned_pixel_size(rows, pixel_size, half_size=half_size, source=source)
    shifts = field_values(rows, f"{prefix}/shift", source, width=2).astype(np.float64)
    shifts = shifts * aligned[:, None]
    return {"rotation": rotations.reshape(-1, 9), "shift_angstrom": shifts}


def aligned_pixel_size(
    rows: np.ndarray, pixel_size: np.ndarray, *, half_size: bool, source: Uri
) -> np.ndarray:
    """Return the pixel size, in Å, of the images whose pixels the shifts count.

    This is their field psize_A, times what ``pixel_size`` is of blob/psize_A where the user gives
    another. Heterogeneous refinement aligns smaller images; where its file lacks the
    field, ``half_size`` decides, and nothing is guessed.
    """
    field = f"{pose_prefix(rows) or REFINED}/psize_A"
    names = rows.dtype.names or ()
    found = field_values(rows, field, source) if field in names else np.zeros(len(rows))
    own = pixel_size
    if PIXEL_SIZE_FIELD in names:
        own = pixel_size / calibration(pixel_size, field_values(rows, PIXEL_SIZE_FIELD, source))
    known = found > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(known, found / own, 2.0 if half_size else 1.0)
    if half_size and known.any():
        log.warning("%s has the pixel size of its shifts; --half-size-shifts is not used", source)
    if len(factor) and np.abs(factor - 1).max() > SAME_SIZE:
        log.warning(
            "%s: shifts are in pixels %.4g times those of the images (%s)",
            source,
            factor[np.abs(factor - 1).argmax()],
            field if known.any() else "--half-size-shifts",
        )
    return pixel_size * factor
