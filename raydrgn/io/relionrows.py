"""RELION particle files given back: the rows of one, in part or with smaller images.

Rows, their order of columns and their optics groups stay as they are in the original; only what a
change makes untrue is written anew.
"""

from collections.abc import Sequence

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.io.relion import check_groups, group_labels
from raydrgn.io.relionwriter import CTF_FIELDS, decimals, defocus_cells, estimate_cells, pose_cells
from raydrgn.io.starrows import TextBlock, TextStar
from raydrgn.shapes import Int

PIXEL_SHIFTS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize")
"""Sizes of a pixel of the images; the detector's, over the magnification, is one in RELION 3.0."""

GROUP_FIELDS = ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast")
"""Columns that an optics table has one value of per group."""

SAME_OPTICS = 1e-4


def select_rows(star: TextStar, rows: Int[np.ndarray, " k"]) -> TextStar:
    """Return some rows of a particle file, in the order given, with the optics groups they use."""
    particles = star.particles()
    outside = rows[(rows < 0) | (rows >= len(particles.rows))]
    if outside.size:
        raise InputError(
            f"{star.uri} has {len(particles.rows):,} particles, but particle {outside[0]} (from 0) "
            "was selected; the selection belongs to another file."
        )
    if rows.size and not np.array_equal(rows, np.arange(len(particles.rows))):
        particles = particles.take(rows)
    changed = [particles]
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


def with_poses(star: TextStar, table: ParticleTable) -> TextStar:
    """Return the file with angles and shifts of a table, in the units in which it has shifts."""
    particles = star.particles()
    cells = pose_cells(table)
    if "rlnOriginX" in particles.columns and "rlnOriginXAngst" not in particles.columns:
        in_pixels = table.column("shift_angstrom") / table.column("pixel_size_angstrom")[:, None]
        for i, axis in enumerate("XY"):
            del cells[f"rlnOrigin{axis}Angst"]
            cells[f"rlnOrigin{axis}"] = decimals(in_pixels[:, i])
    return star.with_blocks(particles.with_columns(cells))


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
        if optics is None or field not in optics.as_loop().columns:
            cells[field] = values.astype(np.float32).astype(str).tolist()
            continue
        known = _per_particle(star, field)
        limit = SAME_OPTICS * np.abs(known).clip(min=1e-3)
        differs = np.flatnonzero(np.abs(known - values) > limit)
        if differs.size:
            row = differs[0]
            raise InputError(
                f"{star.uri} has {field} {known[row]:g} in the optics group of particle {row} of "
                f"the selection, but the CTF given has {values[row]:g}; groups hold one value."
            )
    return star.with_blocks(particles.with_columns(cells))


def _per_particle(star: TextStar, field: str) -> np.ndarray:
    optics, particles = star.block("optics"), star.particles()
    assert optics is not None
    loop = optics.as_loop()
    listed = group_labels(loop.cells("rlnOpticsGroup"))
    values = dict(zip(listed, map(float, loop.cells(field)), strict=True))
    return np.array([values[g] for g in group_labels(particles.cells("rlnOpticsGroup"))])


def with_smaller_images(
    star: TextStar, *, names: Sequence[str], old_box: int, box: int, table: ParticleTable
) -> TextStar:
    """Return the file for images brought from one box to another.

    Image size, pixel size and shifts in pixels follow; shifts in Å, and all that is not about the
    images, stay.

    Args:
        star: The rows of these images.
        names: ``NNNNNN@stack`` of each new image.
        old_box: Box of the images that the rows speak of, in pixels.
        box: Box of the new images.
        table: The same particles, with the old pixel size where it is known.
    """
    particles = star.particles()
    cells: dict[str, Sequence[str]] = {"rlnImageName": names}
    cells |= _rescaled(particles, old_box=old_box, box=box)
    for field in PIXEL_SHIFTS:
        if field in particles.columns:
            pixels = np.array(list(map(float, particles.cells(field))))
            cells[field] = decimals(pixels * box / old_box)
    changed = [particles.with_columns(cells)]
    optics = star.block("optics")
    if optics is not None:
        loop = optics.as_loop()
        known = _group_pixel_sizes(particles, loop, table)
        added: dict[str, Sequence[str]] = {"rlnImageSize": [str(box)] * len(loop.rows)}
        if "rlnImagePixelSize" not in loop.columns and known:
            added["rlnImagePixelSize"] = [_number(size * old_box / box) for size in known]
        changed.append(loop.with_columns(added | _rescaled(loop, old_box=old_box, box=box)))
    return star.with_blocks(*changed)


def _rescaled(block: TextBlock, *, old_box: int, box: int) -> dict[str, Sequence[str]]:
    cells: dict[str, Sequence[str]] = {}
    if "rlnImageSize" in block.columns:
        cells["rlnImageSize"] = [str(box)] * len(block.rows)
    for field in PIXEL_SIZES:
        if field in block.columns:
            cells[field] = [_number(float(v) * old_box / box) for v in block.cells(field)]
    return cells


def _group_pixel_sizes(
    particles: TextBlock, optics: TextBlock, table: ParticleTable
) -> list[float] | None:
    """Return the pixel size of each optics group where the table knows it."""
    if "pixel_size_angstrom" not in table.table.column_names:
        return None
    groups = group_labels(particles.cells("rlnOpticsGroup"))
    sizes = table.column("pixel_size_angstrom").tolist()
    by_group = dict(zip(groups, sizes, strict=True))
    return [by_group.get(g, sizes[0]) for g in group_labels(optics.cells("rlnOpticsGroup"))]


def _number(value: float) -> str:
    return f"{value:.9g}"
