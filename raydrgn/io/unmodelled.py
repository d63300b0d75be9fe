"""Properties of images, in a particle file, that the image model does not have.

raydrgn models an image as a central slice times the CTF of ``raydrgn.ctf``, shifted in the plane;
flipped phases, a multiplication by the CTF and a tilted beam are undone by columns of the particle
table. Columns beyond that are found here: some change the images so much that they must
not be used, others matter at high resolution only. Zeros, and other neutral values, are
silent.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.io.relionwriter import is_of_optics
from raydrgn.io.star import StarBlock
from raydrgn.shapes import Bool, Float

log = logging.getLogger(__name__)

METADATA = "unmodelled"
"""Key of a particle table's metadata."""

ALL = ""
"""Group of a column that is not a column of the optics groups."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmodelled:
    """One column with values that the image model does not have, in one optics group."""

    column: str
    group: str
    """Optics group; ``ALL`` where the column is not one of groups."""

    what: str
    """What the values mean for the images."""

    remedy: str = ""
    """What to do, where the images must not be used."""

    is_modelled: bool = False
    """Whether raydrgn takes account of it, by a column of the particle table."""

    @property
    def refused(self) -> bool:
        """Whether the images must not be used as they are."""
        return bool(self.remedy)

    def __str__(self) -> str:
        where = f"optics group {self.group}" if self.group else "the particles"
        return f"{self.column} of {where}: {self.what}"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a column means where its values are not neutral."""

    what: str
    remedy: str = ""
    neutral: tuple[Any, ...] = (0.0,)
    is_modelled: bool = False


_NO_TILT_SERIES = (
    "raydrgn takes single-particle images; tilt series need a program for tomography (tomoDRGN, "
    "cryoDRGN-ET)"
)

RELION_RULES = {
    "rlnCtfDataAreCtfPremultiplied": _Rule(
        "the images are multiplied by their CTF", is_modelled=True
    ),
    "rlnCtfDataArePhaseFlipped": _Rule("the phases of the images are flipped", is_modelled=True),
    "rlnImageDimensionality": _Rule(
        "the particles are subtomograms in three dimensions", _NO_TILT_SERIES, (0.0, 2.0)
    ),
    "rlnBeamTiltX": _Rule("the beam is tilted, which shifts phases", is_modelled=True),
    "rlnBeamTiltY": _Rule("the beam is tilted, which shifts phases", is_modelled=True),
    "rlnOddZernike": _Rule("antisymmetric aberrations (trefoil, coma)"),
    "rlnEvenZernike": _Rule("symmetric aberrations (tetrafoil, spherical aberration)"),
    "rlnMagMat00": _Rule("the magnification is anisotropic", neutral=(0.0, 1.0)),
    "rlnMagMat01": _Rule("the magnification is anisotropic"),
    "rlnMagMat10": _Rule("the magnification is anisotropic"),
    "rlnMagMat11": _Rule("the magnification is anisotropic", neutral=(0.0, 1.0)),
    "rlnCtfBfactor": _Rule("the CTF has a B-factor"),
    "rlnCtfScalefactor": _Rule("the CTF has a scale factor", neutral=(0.0, 1.0)),
}
TILT_SERIES = ("rlnTomoName", "rlnTomoParticleName", "rlnTomoParticleId", "rlnTomoVisibleFrames")
TOLERANCE = 1e-6

CRYOSPARC_RULES = {
    "ctf/tilt_A": _Rule("the beam is tilted, which shifts phases", is_modelled=True),
    "ctf/trefoil_A": _Rule("antisymmetric aberrations (trefoil)"),
    "ctf/tetra_A": _Rule("symmetric aberrations (tetrafoil)"),
    "ctf/shift_A": _Rule("the CTF has a shift"),
    "ctf/bfactor": _Rule("the CTF has a B-factor"),
    "ctf/scale": _Rule("the CTF has a scale factor", neutral=(0.0, 1.0)),
    "ctf/anisomag": _Rule("the magnification is anisotropic", neutral=(0.0, (1, 0, 0, 1))),
}


def of_relion(
    particles: StarBlock, optics: StarBlock | None, labels: Sequence[str]
) -> list[Unmodelled]:
    """Return what the image model lacks of a RELION file.

    Args:
        particles: The block of the particles.
        optics: The block of the optics groups, if there is one.
        labels: Optics group of each row of ``optics``.
    """
    found = []
    for column, rule in RELION_RULES.items():
        if optics is not None and is_of_optics(column, particles.columns, optics.columns):
            for group, cell in zip(labels, optics.text(column), strict=True):
                if not _is_neutral([cell], rule):
                    found.append(_finding(column, group, rule))
        elif column in particles and not _is_neutral(particles.text(column), rule):
            found.append(_finding(column, ALL, rule))
    return found + _tilt_series(particles)


def _tilt_series(particles: StarBlock) -> list[Unmodelled]:
    """Find tilt series: of RELION 4 and 5, and of Warp and M, which have an image per tilt."""
    column = next((name for name in TILT_SERIES if name in particles), None)
    if column is None and {"rlnGroupName", "rlnCtfScalefactor"} <= set(particles.columns):
        scales = particles.text("rlnCtfScalefactor")
        if _repeat_in_groups(particles.text("rlnGroupName"), scales):
            column = "rlnGroupName with rlnCtfScalefactor"
    if column is None:
        return []
    return [
        Unmodelled(
            column=column, group=ALL, what="the images are of tilt series", remedy=_NO_TILT_SERIES
        )
    ]


def _repeat_in_groups(groups: Sequence[str], scales: Sequence[str]) -> bool:
    """Return whether groups, particles of tilt series, have the same scales in the same order.

    The scales are cosines of the tilt there. Those that RELION fits to the B-factors of single
    particles differ from group to group: a third of all changes from one scale to the next in a
    group being in an earlier group too is far more than chance gives.
    """
    before: dict[str, str] = {}
    first: dict[tuple[str, str], str] = {}
    changes = repeated = 0
    for group, scale in zip(groups, scales, strict=True):
        earlier = before.get(group, scale)
        before[group] = scale
        if earlier != scale:
            changes += 1
            repeated += first.setdefault((earlier, scale), group) != group
    return changes > 0 and 3 * repeated >= changes


def of_cryosparc(rows: np.ndarray) -> list[Unmodelled]:
    """Return what the image model lacks of a .cs file."""
    names = rows.dtype.names or ()
    group_field = "ctf/exp_group_id"
    groups = rows[group_field].astype(str) if group_field in names else np.full(len(rows), ALL)
    found = []
    for column, rule in CRYOSPARC_RULES.items():
        if column in names and rows[column].dtype.kind in "iuf":
            values = rows[column].reshape(len(rows), -1)
            differs = ~_is_neutral_row(values.astype(np.float64), rule)
            found += [_finding(column, group, rule) for group in np.unique(groups[differs])]
    if "blob/sign" in names and len(np.unique(rows["blob/sign"])) > 1:
        found.append(
            Unmodelled(
                column="blob/sign",
                group=ALL,
                what="some images are bright on dark, others dark on bright",
                remedy="Bring them to one contrast in cryoSPARC (Restack Particles)",
            )
        )
    return found


def _is_neutral_row(values: Float[np.ndarray, "n k"], rule: _Rule) -> Bool[np.ndarray, " n"]:
    """Return which rows have a neutral value, or neutral values in a row, to rounding."""
    fitting = [value for value in rule.neutral if np.shape(value) in ((), values.shape[1:])]
    return np.any([np.abs(values - value).max(axis=1) < TOLERANCE for value in fitting], axis=0)


def _finding(column: str, group: str, rule: _Rule) -> Unmodelled:
    return Unmodelled(
        column=column,
        group=group,
        what=rule.what,
        remedy=rule.remedy,
        is_modelled=rule.is_modelled,
    )


def _is_neutral(cells: Iterable[str], rule: _Rule) -> bool:
    """Return whether cells, numbers or lists of numbers, are all neutral."""
    for cell in set(cells):
        numbers = cell.strip("[]").replace(",", " ").split()
        try:
            if any(float(number) not in rule.neutral for number in numbers):
                return False
        except ValueError:
            if cell.lower() not in ("none", "null", "n/a", "false"):
                return False
    return True


def to_metadata(found: Sequence[Unmodelled]) -> dict[str, str]:
    """Return findings as an entry of a particle table's metadata; none if there are none."""
    return {METADATA: json.dumps([asdict(item) for item in found])} if found else {}


def unmodelled(table: ParticleTable) -> list[Unmodelled]:
    """Return what the image model lacks of a table, for the optics groups that it still has."""
    return [item for item in unusual_images(table) if not item.is_modelled]


def unusual_images(table: ParticleTable) -> list[Unmodelled]:
    """Return what is not as in raw images, modelled or not, for the optics groups of a table."""
    try:
        found = [Unmodelled(**item) for item in json.loads(table.metadata.get(METADATA, "[]"))]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"The particle table's own record of {METADATA!r} columns is damaged; make it again "
            "with `raydrgn parse`."
        ) from error
    has_groups = "optics_group" in table.table.column_names
    groups = set(table.table.column("optics_group").to_pylist()) if has_groups else set()
    return [item for item in found if not item.group or item.group in groups]


def refuse_unmodelled(table: ParticleTable) -> None:
    """Refuse images that must not be used as they are; warn once of what is left out.

    For what uses images with their CTF: training and back-projection.

    Raises:
        InputError: Naming column, optics group and remedy.
    """
    found = unmodelled(table)
    refused = [item for item in found if item.refused]
    source = table.metadata.get("source", "The particle table")
    if refused:
        listed = "; ".join(map(str, refused))
        raise InputError(f"{source}: {listed}. {refused[0].remedy}.")
    _warn(found, source)


def warn_of_unmodelled(table: ParticleTable) -> None:
    """Warn of all that is not modelled, and of what is but does not go into cryoDRGN's pickles.

    For what reads metadata only.
    """
    source = table.metadata.get("source", "The particle table")
    found = unusual_images(table)
    for item in found:
        if item.refused:
            log.warning("%s: %s. %s.", source, item, item.remedy)
        elif item.is_modelled:
            log.warning(
                "%s: %s. This is undone where images are read by this file, or by the table that "
                "`raydrgn parse --table` makes of it; poses.pkl and ctf.pkl do not hold it.",
                *(source, item),
            )
    _warn([item for item in found if not item.refused and not item.is_modelled], source)


def _warn(found: Sequence[Unmodelled], source: str) -> None:
    if found:
        columns = ", ".join(dict.fromkeys(item.column for item in found))
        what = "; ".join(dict.fromkeys(item.what for item in found))
        log.warning("%s has %s: %s. These are not modelled.", source, columns, what)
