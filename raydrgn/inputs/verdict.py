"""What a back-projected map shows about the inputs it was made from, in words.

Three questions that cost a training run when they are answered too late: do the poses fit the
images, has the contrast the right sign, and is the handedness that of the reference.
"""

from dataclasses import dataclass

import numpy as np
import torch

from raydrgn.fourier.density import CLEAR_SKEWNESS, skewness
from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.resample import low_pass
from raydrgn.inputs.comparison import MATCH, Comparison
from raydrgn.inputs.diagnosis import LARGEST_FACTOR, Diagnosis
from raydrgn.inputs.resolution import Resolution
from raydrgn.shapes import Float

NO_STRUCTURE_SHELLS = 4
"""Half maps that part before this shell share no structure."""

NO_STRUCTURE = (
    "The half maps do not agree: there is no structure beyond low frequencies. Check that poses "
    "and images are of the same particles in the same order, and the convention and the pixel size "
    "of the shifts."
)

MOVED_PX = 1.5
"""Offsets from the reference up to this are put down to the mirror, which moves by one pixel."""

SHIFT_REMEDIES = {
    2.0: "The images agree better with the reference if their shifts are twice as large: the "
    "pixels of the shifts are larger than was assumed. Use --half-size-shifts for the .cs file of "
    "a heterogeneous refinement; correct the pixel size of the shifts of other files.",
    0.5: "The images agree better with the reference if their shifts are half as large: check the "
    "pixel size of the shifts, and leave out --half-size-shifts if it was given.",
    0.0: "The images agree better with the reference without the shifts: they seem to be centred "
    "already. Take poses that belong to these images.",
    -1.0: "The images agree better with the reference if their shifts have the opposite sign: "
    "check their convention.",
}
"""What to do where another multiple of the shifts fits better (``find_shift_factor``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Findings, each a sentence; problems are those that need a change of the inputs."""

    findings: list[str]
    problems: list[str]
    skewness: float
    comparison: Comparison | None
    misfits: list[str]
    """Problems that another contrast, hand or offset does not mend: images, poses and reference are
    not of one refinement, or are read wrongly."""

    def text(self) -> str:
        """Return one sentence per line."""
        return "\n".join(self.findings + self.problems) + "\n"


def judge(
    volume: Float[np.ndarray, "d d d"],
    resolution: Resolution,
    *,
    inverted_images: bool,
    flipped: bool,
    corrected_ctf: bool,
    comparison: Comparison | None = None,
    diagnosis: Diagnosis | None = None,
) -> Verdict:
    """Judge the inputs by a map and its half maps.

    Args:
        volume: Map of all particles.
        resolution: Correlation of the half maps.
        inverted_images: Whether images were multiplied by −1 (no ``--uninvert-data``).
        flipped: Whether the handedness was changed (``--flip``).
        corrected_ctf: Whether the CTF was known.
        comparison: Relation to a reference, where there is one.
        diagnosis: Measured causes of a poor agreement with it.
    """
    findings: list[str] = []
    problems: list[str] = []
    misfits: list[str] = []
    box, pixel_size = volume.shape[-1], resolution.pixel_size_angstrom
    reached = resolution.at(0.143)
    has_structure = reached < box * pixel_size / NO_STRUCTURE_SHELLS
    if has_structure:
        findings.append(_resolution_in_words(resolution))
    else:
        misfits.append(NO_STRUCTURE)
    if not corrected_ctf:
        findings.append("No CTF was given: nothing is corrected for it.")
    third_moment = density_skewness(volume, resolution)
    _judge_contrast(third_moment, inverted_images, has_structure, findings, problems)
    if comparison is not None:
        remedy = "Leave out --flip" if flipped else "Use --flip"
        _judge_match(comparison, pixel_size, findings, problems, remedy=remedy)
        diagnosis = diagnosis or Diagnosis()
        if diagnosis.shift_factor is not None:
            misfits.append(SHIFT_REMEDIES[diagnosis.shift_factor])
        elif diagnosis.pixel_size_factor is not None or _is_doubtful(comparison, resolution):
            _judge_agreement(comparison, reached, diagnosis, findings, misfits)
    return Verdict(
        findings=findings,
        problems=[*problems, *misfits],
        skewness=third_moment,
        comparison=comparison,
        misfits=misfits,
    )


def _resolution_in_words(resolution: Resolution) -> str:
    limit = ", the limit of the pixels" if resolution.reaches_nyquist else ""
    return (
        f"Resolution: {resolution.at(0.143):.2f} Å at FSC 0.143{limit}; {resolution.at(0.5):.2f} Å "
        "at 0.5 (half maps, masked, corrected for the mask)."
    )


def _is_doubtful(comparison: Comparison, resolution: Resolution) -> bool:
    """Return whether a map agrees with its reference less than its half maps with each other."""
    reached, pixel_size = resolution.at(0.143), resolution.pixel_size_angstrom
    follows = comparison.resolution_angstrom <= max(2 * reached, 6 * pixel_size)
    return comparison.score < MATCH or not follows


def _judge_contrast(
    third_moment: float,
    inverted: bool,
    has_structure: bool,
    findings: list[str],
    problems: list[str],
) -> None:
    if third_moment < -CLEAR_SKEWNESS and has_structure:
        remedy = (
            "the images' particles seem dark: use --uninvert-data"
            if inverted
            else "the images' particles seem bright: leave out --uninvert-data"
        )
        problems.append(
            f"Contrast looks inverted, the density is negative; {remedy}, here and in training."
        )
    elif third_moment > CLEAR_SKEWNESS:
        findings.append("Contrast looks right: the density is positive.")
    else:
        findings.append("The sign of the contrast is not clear from the map; see backproject.png.")


def _judge_match(
    found: Comparison,
    pixel_size: float,
    findings: list[str],
    problems: list[str],
    *,
    remedy: str,
) -> None:
    """Judge orientation, sign and offset of a map that matches its reference."""
    if found.score < MATCH:
        return
    if found.name == "as is":
        findings.append(f"The map matches the reference as is ({_agreement(found)}).")
    else:
        problems.append(
            f"The map matches the reference as {found.name} ({_agreement(found)}): opposite "
            f"handedness. {remedy}, here and for volumes."
        )
    if found.is_negative:
        problems.append("It matches the reference's negative: contrast is inverted in one of them.")
    offset = np.array(found.offset_px)
    if np.abs(offset).max() > MOVED_PX:
        x, y, z = offset * pixel_size
        problems.append(
            f"The map lies ({x:.1f}, {y:.1f}, {z:.1f}) Å (x, y, z) from the reference; if they are "
            "of one refinement, check the pixel size and the origin of the shifts."
        )


def _judge_agreement(
    found: Comparison,
    reached: float,
    diagnosis: Diagnosis,
    findings: list[str],
    misfits: list[str],
) -> None:
    """Name the cause of a poor agreement, as far as it was measured."""
    if found.score < MATCH:
        what = (
            "The map does not match the reference in this orientation, nor does its mirror image "
            f"(best {_agreement(found)})."
        )
    elif diagnosis.pixel_size_factor is not None:
        what = f"It agrees with the reference in part ({_agreement(found)})."
    else:
        what = (
            f"It agrees with the reference to {found.resolution_angstrom:.1f} Å only, while its "
            f"half maps agree to {reached:.1f} Å."
        )
    if diagnosis.pixel_size_factor is not None:
        misfits.append(
            f"{what} With a pixel size of the reference {diagnosis.pixel_size_factor:g} times as "
            "large it agrees clearly better: check the pixel size of the reference and of the "
            "particles."
        )
    elif found.score < MATCH:
        misfits.append(
            f"{what} No other pixel size fits better, up to {LARGEST_FACTOR} times as large or "
            "small. Check the pixel size of the shifts (--half-size-shifts for heterogeneous "
            "refinements), the pose convention, that poses and images are in one order, and that "
            "the reference is of this refinement."
        )
    else:
        findings.append(
            f"{what} No other pixel size of the reference and no other scale of the shifts fits "
            "better: the particles differ from the reference in composition or conformation, or "
            "the reference has less detail."
        )


def _agreement(found: Comparison) -> str:
    return f"correlation {found.score:.2f}, FSC 0.5 at {found.resolution_angstrom:.2f} Å"


def density_skewness(volume: Float[np.ndarray, "d d d"], resolution: Resolution) -> float:
    """Return the skewness of a map smoothed to what its half maps agree on; positive is right."""
    box = volume.shape[-1]
    pixel_size = resolution.pixel_size_angstrom
    smooth = low_pass(
        torch.from_numpy(volume),
        resolution_angstrom=max(resolution.at(0.5), 3 * pixel_size),
        pixel_size_angstrom=pixel_size,
    ).numpy()
    return skewness(smooth[soft_sphere(box) > 0.5])


def what_refinement_gave(refined: Resolution, given: Resolution) -> str:
    """Return a sentence on half maps with poses refined in each half apart, and with given ones."""
    means = [float(found.corrected[2:].mean()) for found in (refined, given)]
    return (
        f"With poses that each half has refined apart, the half maps agree to "
        f"{refined.at(0.143):.2f} Å (FSC 0.143; mean FSC of all shells {means[0]:.3f}), with the "
        f"given poses to {given.at(0.143):.2f} Å ({means[1]:.3f})."
    )
