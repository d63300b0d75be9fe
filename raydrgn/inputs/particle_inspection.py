"""What a particle file contains: counts, optics, poses and CTF, and what looks wrong in them."""

from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import InputError, RaydrgnError
from raydrgn.inputs.inspection import Inspection
from raydrgn.inputs.stack_inspection import describe_stacks
from raydrgn.io.half_sets import repeated_images
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, POSES_FROM, NoParticlesError, ParticleTable
from raydrgn.io.pixel_sizes import several_pixel_sizes
from raydrgn.io.sources import open_particles
from raydrgn.io.storage import Uri
from raydrgn.io.unmodelled import unusual_images
from raydrgn.shapes import Float

USUAL: dict[str, tuple[float, float]] = {
    "defocus_u_angstrom": (1_000, 60_000),
    "defocus_v_angstrom": (1_000, 60_000),
    "voltage_kv": (80, 1_000),
    "spherical_aberration_mm": (0, 5),
    "amplitude_contrast": (0.01, 0.3),
    "phase_shift_deg": (-180, 180),
}
"""Outside these a value is possible, but is more often in another unit or a placeholder."""

LABELS = {
    "defocus_u_angstrom": "defocus U (Å)",
    "defocus_v_angstrom": "defocus V (Å)",
    "defocus_angle_deg": "defocus angle (°)",
    "voltage_kv": "voltage (kV)",
    "spherical_aberration_mm": "Cs (mm)",
    "amplitude_contrast": "amplitude contrast",
    "phase_shift_deg": "phase shift (°)",
}
FAR_SHIFT = 0.25  # of the box


def inspect_particles(
    uri: Uri, datadir: Uri | None = None, *, passthrough: tuple[Uri, ...] = ()
) -> Inspection:
    """Describe a particle file or a list of stacks."""
    names = {".star": "RELION particles", ".cs": "cryoSPARC particles", ".txt": "list of stacks"}
    found = Inspection(uri, names.get(PurePosixPath(uri).suffix.lower(), "particle table"))
    source = ParticleSource(particles=uri, datadir=datadir, passthrough=passthrough)
    try:
        table = open_particles(source)
    except NoParticlesError as error:
        found.add("particles", 0)
        found.concerns.append(str(error))
    except RaydrgnError as error:
        found.concerns.append(str(error))
        _describe_without_images(source, found)
    else:
        describe_table(table, found)
        describe_stacks(table, found)
    return found


def _describe_without_images(source: ParticleSource, found: Inspection) -> None:
    """Describe what can be read of particles whose images cannot."""
    try:
        describe_table(open_particles(source, need_images=False), found)
    except RaydrgnError as error:
        if str(error) not in found.concerns:
            found.concerns.append(str(error))


def describe_table(table: ParticleTable, found: Inspection) -> None:
    """Describe the columns of a particle table."""
    names = table.table.column_names
    found.add("particles", f"{len(table):,}")
    found.add("stacks", f"{len(table.stacks):,}")
    _describe_boxes(table, found)
    _describe_pixel_sizes(table, found)
    if "optics_group" in names:
        groups = Counter(table.table.column("optics_group").to_pylist())
        found.add("optics groups", ", ".join(f"{g}: {n:,}" for g, n in sorted(groups.items())))
    found.concerns += [f"{item}." for item in unusual_images(table)]
    if repeated := repeated_images(table):
        found.concerns.append(f"{repeated} images are listed more than once.")
    if "uid" in names and len(np.unique(table.column("uid"))) < len(table):
        found.concerns.append("Some uids are listed more than once.")
    _describe_table_poses(table, found)
    found.add("CTF", "yes" if table.has_ctf else "no")
    if table.has_ctf:
        for name in CTF_COLUMNS:
            describe_ctf_column(name, table.column(name), found)


def _describe_boxes(table: ParticleTable, found: Inspection) -> None:
    boxes = Counter(table.column("box").tolist())
    found.add(
        "box (px)",
        ", ".join(f"{box}: {n:,}" for box, n in boxes.items())
        if len(boxes) > 1
        else next(iter(boxes), "–"),
    )
    if len(boxes) > 1:
        found.concerns.append("Images differ in size; `raydrgn downsample` brings them to one box.")
    elif any(box % 2 for box in boxes):
        found.concerns.append("The box is odd; `raydrgn downsample` makes it even.")


def _describe_pixel_sizes(table: ParticleTable, found: Inspection) -> None:
    if "pixel_size_angstrom" not in table.table.column_names:
        found.concerns.append("The pixel size is not known.")
        return
    found.add_range("pixel size (Å)", table.column("pixel_size_angstrom"))
    try:
        several = several_pixel_sizes(table)
    except InputError as error:
        several = str(error)
    if several:
        found.concerns.append(several)


def _describe_table_poses(table: ParticleTable, found: Inspection) -> None:
    refined_by = table.metadata.get(POSES_FROM)
    of_run = f"refined by {refined_by}" if refined_by else "yes"
    found.add("poses", of_run if table.has_poses else "no")
    if not table.has_poses:
        return
    describe_poses(table.rotations, table.column("shift_angstrom"), "Å", found)
    if "pixel_size_angstrom" in table.table.column_names:
        field_angstrom = table.column("box") * table.column("pixel_size_angstrom")
        check_shifts(table.column("shift_angstrom") / field_angstrom[:, None], found)


def describe_poses(
    rotations: Float[np.ndarray, "n 3 3"],
    shifts: Float[np.ndarray, "n 2"],
    unit: str,
    found: Inspection,
) -> None:
    """Describe rotations and shifts.

    Args:
        rotations: Rotation matrices.
        shifts: Shifts.
        unit: Unit of the shifts.
        found: Where to add what is found.
    """
    for i, axis in enumerate("xy"):
        found.add_range(f"shift {axis} ({unit})", shifts[:, i])
    if len(rotations) > 1 and np.ptp(rotations, axis=0).max() < 1e-6:
        found.concerns.append("All rotations are the same: a refinement gives different ones.")
    views = rotations[:, 2]
    if len(views) > 100 and (views[:, 2] >= 0).all():
        found.concerns.append(
            "All views are of one hemisphere: the refinement may have been limited to it."
        )


def check_shifts(fractions: Float[np.ndarray, "n 2"], found: Inspection) -> None:
    """Name shifts that are large for their box, given as fractions of it."""
    far = int((np.abs(fractions).max(axis=1, initial=0) > FAR_SHIFT).sum())
    if far:
        found.concerns.append(
            f"{far} shifts are larger than a quarter of the box; check the pixel size of the "
            "shifts."
        )


def describe_ctf_column(name: str, values: Float[np.ndarray, " n"], found: Inspection) -> None:
    """Describe one parameter of the CTF, and name unusual values."""
    finite = values[np.isfinite(values)]
    if len(finite) < len(values):
        found.concerns.append(
            f"{LABELS[name]} is not a number for {len(values) - len(finite)} rows."
        )
    if not len(finite):
        return
    found.add_range(LABELS[name], finite)
    low, high = USUAL.get(name, (-np.inf, np.inf))
    odd = int(((finite < low) | (finite > high)).sum())
    if odd:
        found.concerns.append(
            f"{LABELS[name]} is outside {low:g} … {high:g} for {odd} rows; check its unit."
        )
