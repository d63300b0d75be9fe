"""RELION particle files given back: the rows of one, in part or with smaller images.

Rows, their order of columns and their optics groups stay as they are in the original; only what a
change makes untrue is written anew.
"""

import re
from collections.abc import Sequence
from functools import partial

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.imaging import SAME_PIXEL_SIZE, Imaging, calibration
from raydrgn.io.particles import ParticleTable
from raydrgn.io.relion import ANGSTROM_PER_UM, check_groups, group_labels, own_pixel_size
from raydrgn.io.relionwriter import (
    CTF_FIELDS,
    decimals,
    defocus_cells,
    estimate_cells,
    is_of_optics,
    pose_cells,
)
from raydrgn.io.starrows import TextBlock, TextStar
from raydrgn.shapes import Float, Int

PIXEL_SHIFTS = tuple(f"rlnOrigin{axis}{kind}" for kind in ("", "Prior") for axis in "XYZ")
"""Of the particles, and where helical refinement looks for them."""

ANGSTROM_SHIFTS = tuple(f"{name}Angst" for name in PIXEL_SHIFTS)
PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize")
"""Sizes of a pixel of the images; the detector's, over the magnification, is one in RELION 3.0."""

GROUP_FIELDS = ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast")
"""Columns that an optics table has one value of per group."""

GIVEN_FIELDS = {
    "box": "rlnImageSize",
    **{name: CTF_FIELDS[name] for name in (*GROUP_FIELDS, "phase_shift_deg")},
}
"""Columns of values that may be given in the place of the file's."""

SAME_OPTICS = 1e-4
SAME_GIVEN = 1e-6  # relative


BODY_TABLE = re.compile(r"images_body_\d+")
"""Blocks in which multi-body refinement keeps the poses of one body, a row for each particle."""


def select_rows(star: TextStar, rows: Int[np.ndarray, " k"]) -> TextStar:
    """Return some rows of a particle file, in the order given, with the optics groups they use."""
    particles = star.particles()
    outside = rows[(rows < 0) | (rows >= len(particles.rows))]
    if outside.size:
        raise InputError(
            f"{star.uri} has {len(particles.rows):,} particles, but particle {outside[0]} (from 0) "
            "was selected; the selection belongs to another file."
        )
    changed = [particles]
    if not np.array_equal(rows, np.arange(len(particles.rows))):
        changed = [block.take(rows) for block in (particles, *_bodies(star))]
        particles = changed[0]
    optics = star.block("optics")
    if optics is not None and "rlnOpticsGroup" in particles.columns:
        optics = optics.as_loop()
        if "rlnOpticsGroup" not in optics.columns:
            raise InputError(f"{star.uri}: block data_optics has no rlnOpticsGroup.")
        groups = group_labels(particles.cells("rlnOpticsGroup"))
        listed = group_labels(optics.cells("rlnOpticsGroup"))
        check_groups(groups, listed, star.uri)
        used = set(groups)
        kept = [i for i, group in enumerate(listed) if group in used]
        changed.append(optics.take(np.array(kept, dtype=np.int64)))
    return star.with_blocks(*changed)


def _bodies(star: TextStar) -> list[TextBlock]:
    """Return the blocks of a multi-body refinement that have a row for each particle.

    Raises:
        InputError: If one has another number of rows.
    """
    bodies = [block for block in star.blocks if BODY_TABLE.fullmatch(block.name)]
    count = len(star.particles().rows)
    for block in bodies:
        if len(block.rows) != count:
            raise InputError(
                f"{star.uri}: block data_{block.name} has {len(block.rows):,} rows, but there are "
                f"{count:,} particles; the file is damaged."
            )
    return bodies


def with_poses(star: TextStar, table: ParticleTable) -> TextStar:
    """Return the file with angles and shifts of a table, in the units in which it has shifts."""
    particles = star.particles()
    cells = pose_cells(table)
    if "rlnOriginX" in particles.columns:  # files that were converted have both
        in_pixels = table.column("shift_angstrom") / table.column("pixel_size_angstrom")[:, None]
        for i, axis in enumerate("XY"):
            if "rlnOriginXAngst" not in particles.columns:
                del cells[f"rlnOrigin{axis}Angst"]
            cells[f"rlnOrigin{axis}"] = decimals(in_pixels[:, i])
    return star.with_blocks(particles.with_columns(cells))


def with_given_values(star: TextStar, imaging: Imaging) -> TextStar:
    """Return the file with the values that were given in the place of its own.

    The pixel size is not among them: see ``with_pixel_size``.
    """
    particles, optics = star.particles(), star.block("optics")
    loop = None if optics is None else optics.as_loop()
    for name, field in GIVEN_FIELDS.items():
        value = getattr(imaging, name)
        if value is None or _has_value(star, field, value):
            continue
        if (
            loop is not None
            and field not in particles.columns
            and (name != "phase_shift_deg" or field in loop.columns)
        ):
            loop = loop.with_columns({field: [_number(value)] * len(loop.rows)})
        else:
            particles = particles.with_columns({field: [_number(value)] * len(particles.rows)})
    return star.with_blocks(particles, *([] if loop is None else [loop]))


def _has_value(star: TextStar, field: str, value: float) -> bool:
    found = _per_particle(star, field)
    return found is not None and bool(np.allclose(found, value, rtol=SAME_GIVEN, atol=0))


def with_pixel_size(star: TextStar, table: ParticleTable) -> TextStar:
    """Return the file with the pixel sizes of a table, where it has others or none.

    Shifts in Å follow, so that those in pixels stay.

    Raises:
        InputError: If those of an optics group, which has one, differ.
    """
    sizes = table.column("pixel_size_angstrom").astype(np.float64)
    particles, optics = star.particles(), star.block("optics")
    own, _ = own_pixel_size(partial(_per_particle, star))
    if own is None:
        if optics is None:
            return star.with_blocks(particles.with_columns(_magnification(particles, sizes)))
        added = {"rlnImagePixelSize": _numbers(_of_groups(star, sizes))}
        return star.with_blocks(optics.as_loop().with_columns(added))
    factors = calibration(sizes, own)
    if np.abs(factors - 1).max(initial=0) < SAME_PIXEL_SIZE and (own > 0).all():
        return star
    shifts = {
        field: _numbers(_floats(particles, field) * factors)
        for field in ANGSTROM_SHIFTS
        if field in particles.columns
    }
    factors = np.where(own > 0, factors, 0)
    changed = [particles.with_columns(shifts | _calibrated(particles, factors, sizes))]
    if optics is not None and set(PIXEL_SIZES) & set((loop := optics.as_loop()).columns):
        of_groups = _of_groups(star, sizes)
        cells = _calibrated(loop, _of_groups(star, factors), of_groups)
        changed.append(loop.with_columns(cells))
    return star.with_blocks(*changed)


def _calibrated(
    block: TextBlock, factors: Float[np.ndarray, " k"], sizes: Float[np.ndarray, " k"]
) -> dict[str, Sequence[str]]:
    """Return pixel sizes times a factor, or as given where that is 0."""
    return {
        field: _numbers(np.where(factors > 0, _floats(block, field) * factors, sizes))
        for field in PIXEL_SIZES
        if field in block.columns
    }


def _magnification(
    particles: TextBlock, sizes: Float[np.ndarray, " n"]
) -> dict[str, Sequence[str]]:
    """Return the pixel size as RELION 3.0 has it, in a file without optics groups."""
    # the detector's pixel size in µm is that of the images in Å then
    magnification = np.full(len(sizes), ANGSTROM_PER_UM)
    if "rlnMagnification" in particles.columns:
        found = _floats(particles, "rlnMagnification")
        magnification = np.where(found > 0, found, magnification)
    return {
        "rlnMagnification": _numbers(magnification),
        "rlnDetectorPixelSize": _numbers(sizes * magnification / ANGSTROM_PER_UM),
    }


def _of_groups(star: TextStar, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " g"]:
    """Return the one value that the particles of each optics group have.

    Raises:
        InputError: If they have several.
    """
    optics = star.block("optics")
    assert optics is not None
    groups = group_labels(star.particles().cells("rlnOpticsGroup"))
    by_group = dict(zip(groups, values.tolist(), strict=True))
    expected = np.array([by_group[group] for group in groups])
    differs = np.flatnonzero(np.abs(values - expected) > SAME_PIXEL_SIZE * np.abs(expected))
    if differs.size:
        row = differs[0]
        raise InputError(
            f"{star.uri}: the particles of optics group {groups[row]} were given several pixel "
            f"sizes, such as {values[row]:.5g} and {expected[row]:.5g} Å; groups hold one value."
        )
    return np.array([by_group[g] for g in group_labels(optics.as_loop().cells("rlnOpticsGroup"))])


def with_estimates(star: TextStar, table: ParticleTable) -> TextStar:
    """Return the file with contrast and null probability of a table, if it has them."""
    cells = estimate_cells(table)
    return star.with_blocks(star.particles().with_columns(cells)) if cells else star


def with_ctf(star: TextStar, table: ParticleTable) -> TextStar:
    """Return the file with the CTF of a table.

    Raises:
        InputError: If voltage, spherical aberration or amplitude contrast, which the file keeps
            for each optics group, are others there.
    """
    particles = star.particles()
    cells = defocus_cells(table)
    optics = star.block("optics")
    for name in GROUP_FIELDS:
        field, values = CTF_FIELDS[name], table.column(name)
        listed = [] if optics is None else optics.as_loop().columns
        if not is_of_optics(field, particles.columns, listed):
            cells[field] = values.astype(np.float32).astype(str).tolist()
            continue
        known = _per_particle(star, field)
        assert known is not None
        limit = SAME_OPTICS * np.abs(known).clip(min=1e-3)
        differs = np.flatnonzero(np.abs(known - values) > limit)
        if differs.size:
            row = differs[0]
            raise InputError(
                f"{star.uri} has {field} {known[row]:g} in the optics group of particle {row} of "
                f"the selection, but the CTF given has {values[row]:g}; groups hold one value."
            )
    return star.with_blocks(particles.with_columns(cells))


def _per_particle(star: TextStar, field: str) -> Float[np.ndarray, " n"] | None:
    """Return the value of each particle, as it is read; None if neither table has it."""
    optics, particles = star.block("optics"), star.particles()
    loop = None if optics is None else optics.as_loop()
    if loop is not None and is_of_optics(field, particles.columns, loop.columns):
        listed = group_labels(loop.cells("rlnOpticsGroup"))
        values = dict(zip(listed, map(float, loop.cells(field)), strict=True))
        return np.array([values[g] for g in group_labels(particles.cells("rlnOpticsGroup"))])
    return _floats(particles, field) if field in particles.columns else None


def _floats(block: TextBlock, field: str) -> Float[np.ndarray, " n"]:
    return np.array(list(map(float, block.cells(field))), dtype=np.float64)


def with_smaller_images(
    star: TextStar,
    *,
    names: Sequence[str],
    taken: Int[np.ndarray, " n"],
    box: int,
    table: ParticleTable,
) -> TextStar:
    """Return the file for images brought from one box to another.

    Image size, pixel size and shifts in pixels follow; shifts in Å, and all that is not about the
    images, stay.

    Args:
        star: The rows of these images.
        names: ``NNNNNN@stack`` of each new image.
        taken: Edge of the middle of each image that the new one shows, in the pixels of the rows.
        box: Box of the new images.
        table: The same particles, with the old pixel size where it is known.
    """
    particles = star.particles()
    factors = taken / box  # one in each optics group, whose pixel size is one
    cells: dict[str, Sequence[str]] = {"rlnImageName": names}
    cells |= _rescaled(particles, factors, box=box) | _shifts_of_smaller(particles, factors)
    changed = [particles.with_columns(cells)]
    changed += [body.with_columns(_shifts_of_smaller(body, factors)) for body in _bodies(star)]
    optics = star.block("optics")
    if optics is not None:
        loop = optics.as_loop()
        of_groups = _by_group(particles, loop, factors)
        added: dict[str, Sequence[str]] = {"rlnImageSize": [str(box)] * len(loop.rows)}
        has_sizes = "pixel_size_angstrom" in table.table.column_names
        if "rlnImagePixelSize" not in loop.columns and has_sizes:
            sizes = _by_group(particles, loop, table.column("pixel_size_angstrom"))
            added["rlnImagePixelSize"] = _numbers(sizes * of_groups)
        changed.append(loop.with_columns(added | _rescaled(loop, of_groups, box=box)))
    return star.with_blocks(*changed)


def _shifts_of_smaller(
    block: TextBlock, factors: Float[np.ndarray, " n"]
) -> dict[str, Sequence[str]]:
    """Return shifts in pixels of images whose pixels are larger by a factor."""
    fields = [field for field in PIXEL_SHIFTS if field in block.columns]
    return {field: decimals(_floats(block, field) / factors) for field in fields}


def _rescaled(
    block: TextBlock, factors: Float[np.ndarray, " n"], *, box: int
) -> dict[str, Sequence[str]]:
    cells: dict[str, Sequence[str]] = {}
    if "rlnImageSize" in block.columns:
        cells["rlnImageSize"] = [str(box)] * len(block.rows)
    for field in PIXEL_SIZES:
        if field in block.columns:
            cells[field] = _numbers(_floats(block, field) * factors)
    return cells


def _by_group(
    particles: TextBlock, optics: TextBlock, values: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " groups"]:
    """Return the value of each optics group, which its particles have in common."""
    groups = group_labels(particles.cells("rlnOpticsGroup"))
    found = dict(zip(groups, values.tolist(), strict=True))
    listed = group_labels(optics.cells("rlnOpticsGroup"))
    return np.array([found.get(group, values[0]) for group in listed])


def _number(value: float) -> str:
    return f"{value:.9g}"


def _numbers(values: Float[np.ndarray, " n"]) -> list[str]:
    return [_number(value) for value in values.tolist()]
