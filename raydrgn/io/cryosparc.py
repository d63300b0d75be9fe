"""cryoSPARC particle files (.cs) to a ParticleTable, and their rows back to a .cs file.

A .cs file is a NumPy structured array, one row per particle.
"""

import io
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import InputError
from raydrgn.geometry.rotations import from_axis_angle, to_axis_angle
from raydrgn.io import storage
from raydrgn.io.imaging import Imaging, compare_boxes, ctf_columns, fill
from raydrgn.io.particles import NoParticlesError, ParticleTable
from raydrgn.io.stacks import check_slices, find_stacks, read_headers
from raydrgn.io.storage import Uri

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
SAME_SIZE = 1e-3  # of two pixel sizes, relative
POSE_FIELDS = ("alignments3D/pose", "alignments3D/shift")


def read_cryosparc(
    uri: Uri,
    *,
    datadir: Uri | None = None,
    imaging: Imaging | None = None,
    need_images: bool = True,
) -> ParticleTable:
    """Read a .cs file; poses and CTF are in the table where the file has them.

    Args:
        uri: The .cs file.
        datadir: Folder of the stacks, usually the cryoSPARC project; see ``raydrgn.io.stacks``.
        imaging: Values that replace the file's.
        need_images: Whether stacks must be there; they must too if nothing else says the box.

    Raises:
        InputError: If a field that is needed is missing, or a stack is missing or does not fit.
    """
    imaging = imaging or Imaging()
    rows = read_rows(uri)
    names = rows.dtype.names or ()
    count = len(rows)
    if not count:
        raise NoParticlesError(uri)
    if "blob/path" not in names or "blob/idx" not in names:
        raise InputError(
            f"{uri} has no blob/path and blob/idx; it does not list particle images. Take the "
            "particles file of an extraction or refinement job, not a passthrough alone."
        )
    paths = np.char.lstrip(rows["blob/path"].astype(str), ">")  # cryoSPARC marks some with >
    stacks, codes = np.unique(paths, return_inverse=True)
    slices = rows["blob/idx"].astype(np.int64)  # uint32, which overflows in products
    box_said = rows["blob/shape"][:, 0] if "blob/shape" in names else None
    if need_images or (imaging.box is None and box_said is None):
        places = find_stacks(stacks.tolist(), source=uri, datadir=datadir)
        boxes = check_slices(read_headers(places), codes, slices, source=uri)
        compare_boxes(boxes, box_said, imaging=imaging, source=uri, field="blob/shape")
    else:
        places = stacks.tolist()
        boxes = fill("box", box_said, imaging=imaging, count=count, source=uri, field="blob/shape")

    pixel_size = fill(
        "pixel_size_angstrom",
        rows["blob/psize_A"] if "blob/psize_A" in names else None,
        imaging=imaging,
        count=count,
        source=uri,
        field="blob/psize_A",
    )
    found = {name: rows[field] for name, field in CTF_FIELDS.items() if field in names}
    for name in ("defocus_angle_deg", "phase_shift_deg"):
        if name in found:
            found[name] = np.rad2deg(found[name].astype(np.float64))
    columns: dict[str, object] = {
        "index": np.arange(count),
        "stack": np.array(places, dtype=object)[codes],
        "slice": slices,
        "box": boxes.astype(np.int32),
        "pixel_size_angstrom": pixel_size,
        **_poses(rows, pixel_size, half_size=imaging.half_size_shifts, source=uri),
        **ctf_columns(found, imaging=imaging, count=count, source=uri, fields=CTF_FIELDS),
    }
    if "uid" in names:
        columns["uid"] = rows["uid"]
    if "ctf/exp_group_id" in names:
        columns["optics_group"] = rows["ctf/exp_group_id"].astype(str)
    return ParticleTable.from_columns(columns, metadata={"source": uri})


def read_rows(uri: Uri) -> np.ndarray:
    """Read a .cs file as it is: one row of named fields per particle.

    Raises:
        InputError: If it is no such file.
    """
    try:
        rows = np.load(
            io.BytesIO(storage.read_bytes(uri)), allow_pickle=False, max_header_size=1_000_000
        )  # many fields: long headers exist
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{uri} is not a .cs file: {error}.") from error
    if rows.ndim != 1 or not rows.dtype.names:
        raise InputError(f"{uri} is not a .cs file: it holds no table of named fields.")
    return rows


def _poses(
    rows: np.ndarray, pixel_size: np.ndarray, *, half_size: bool, source: Uri
) -> dict[str, np.ndarray]:
    names = rows.dtype.names or ()
    if not all(field in names for field in POSE_FIELDS):
        return {}
    rotations = from_axis_angle(rows["alignments3D/pose"])
    # The shift is in pixels of the images that were aligned, which may be larger or smaller.
    aligned = aligned_pixel_size(rows, pixel_size, half_size=half_size, source=source)
    shifts = rows["alignments3D/shift"].astype(np.float64) * aligned[:, None]
    return {"rotation": rotations.reshape(-1, 9), "shift_angstrom": shifts}


def aligned_pixel_size(
    rows: np.ndarray, pixel_size: np.ndarray, *, half_size: bool, source: Uri
) -> np.ndarray:
    """Return the pixel size, in Å, of the images whose pixels the shifts count.

    The file says it in alignments3D/psize_A. Heterogeneous refinement aligns smaller images; where
    its file does not say so, ``half_size`` does, and nothing is guessed.
    """
    field = "alignments3D/psize_A"
    found = rows[field] if field in (rows.dtype.names or ()) else np.zeros(len(rows))
    said = found > 0
    factor = np.where(said, found / pixel_size, 2.0 if half_size else 1.0)
    if half_size and said.any():
        log.warning("%s says the pixel size of its shifts; --half-size-shifts is not used", source)
    if len(factor) and np.abs(factor - 1).max() > SAME_SIZE:
        log.warning(
            "%s: shifts are in pixels %.4g times those of the images (%s)",
            source,
            factor[np.abs(factor - 1).argmax()],
            field if said.any() else "--half-size-shifts",
        )
    return pixel_size * factor


def write_rows(uri: Uri, rows: np.ndarray) -> None:
    """Write rows as a .cs file, and beside it the .csg file with which cryoSPARC takes it in.

    The group lists the fields by their prefix, as the jobs' own groups do.
    """
    with storage.atomic_write(uri) as stream:
        np.save(stream, rows, allow_pickle=False)
    name = PurePosixPath(uri).name
    kinds = dict.fromkeys(n.split("/")[0] for n in rows.dtype.names or () if "/" in n)
    results = "".join(
        f"  {kind}:\n    metafile: '>{name}'\n    num_items: {len(rows)}\n"
        f"    type: particle.{kind}\n"
        for kind in kinds
    )
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    text = (
        f"created: {written}\ngroup:\n  description: ''\n  name: particles\n"
        f"  title: Particles\n  type: particle\nresults:\n{results}version: v4.0.0\n"
    )
    storage.write_bytes(uri.removesuffix(".cs") + ".csg", text.encode())


def with_pose_rows(rows: np.ndarray, table: ParticleTable, *, source: Uri) -> np.ndarray:
    """Return rows with the poses of a table, shifts in the pixels in which the rows have them.

    Raises:
        InputError: If the rows have no fields for poses.
    """
    _require(rows, POSE_FIELDS, source)
    changed = rows.copy()
    pixel_size = table.column("pixel_size_angstrom").astype(np.float64)
    aligned = aligned_pixel_size(rows, pixel_size, half_size=False, source=source)
    changed["alignments3D/pose"] = to_axis_angle(table.rotations)
    changed["alignments3D/shift"] = table.column("shift_angstrom") / aligned[:, None]
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


def _require(rows: np.ndarray, names: Iterable[str], source: Uri) -> None:
    missing = [name for name in names if name not in (rows.dtype.names or ())]
    if missing:
        raise InputError(f"{source} has no field {missing[0]} to write into.")
