"""What a back-projected map says about the inputs it was made from, in words.

Three questions that cost a training run when they are answered too late: do the poses fit the
images, is the contrast the right way round, and is the hand that of the reference.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.resample import low_pass, resample
from raydrgn.fourier.shells import resolution_at, shell_correlation, shell_index
from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.inputs.resolution import Resolution
from raydrgn.shapes import Float

LARGEST_BOX = 96
"""Maps are compared at this box or smaller: it is enough to tell hands apart."""

MATCH = 0.5
"""Weighted mean correlation with the reference from which a map matches it."""

CLEAR_SKEWNESS = 0.3
NO_STRUCTURE_SHELLS = 4
"""Half maps that part before this shell share no structure."""

MOVED_PX = 1.5
"""Offsets from the reference up to this are put down to the mirror, which moves by one pixel."""

MIRRORS: dict[str, tuple[int, ...]] = {
    "its mirror image": (-3,),
    "its mirror image, turned by 180° about x": (-2,),
    "its mirror image, turned by 180° about y": (-1,),
    "its mirror image, turned by 180° about the diagonal of all axes": (-3, -2, -1),
}
"""Axes (z, y, x) that are reversed; ``--flip`` reverses z."""


class Comparison(NamedTuple):
    """How a map relates to a reference."""

    name: str
    """``as is``, or one of ``MIRRORS``."""

    score: float
    """Mean Fourier shell correlation up to the map's resolution, weighted by its half maps'."""

    offset_px: tuple[float, float, float]
    """Where the map lies from the reference, (x, y, z), in pixels of the map."""

    is_negative: bool
    """Whether the match is with the reference's negative."""

    resolution_angstrom: float
    """Where the correlation with the reference, as it matches, falls below 0.5."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Findings, each a sentence; problems are those that say what to change."""

    findings: list[str]
    problems: list[str]
    skewness: float
    comparison: Comparison | None

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
) -> Verdict:
    """Say what a map and its half maps tell about the inputs.

    Args:
        volume: Map of all particles.
        resolution: Correlation of the half maps.
        inverted_images: Whether images were multiplied by −1 (no ``--uninvert-data``).
        flipped: Whether the hand was changed (``--flip``).
        corrected_ctf: Whether the contrast transfer was known.
        comparison: Relation to a reference, where there is one.
    """
    findings, problems = [], []
    box, pixel_size = volume.shape[-1], resolution.pixel_size_angstrom
    reached, half = resolution.at(0.143), resolution.at(0.5)
    has_structure = reached < box * pixel_size / NO_STRUCTURE_SHELLS
    if not has_structure:
        problems.append(
            "The half maps do not agree: there is no structure beyond a blob. Check that poses and "
            "images are of the same particles in the same order, and the convention and the pixel "
            "size of the shifts."
        )
    else:
        limit = ", the limit of the pixels" if resolution.reaches_nyquist else ""
        findings.append(
            f"Resolution: {reached:.2f} Å at FSC 0.143{limit}; {half:.2f} Å at 0.5 (half maps, "
            "masked, corrected for the mask)."
        )
    if not corrected_ctf:
        findings.append("No CTF was given: nothing is corrected for it.")
    skewness = density_skewness(volume, resolution)
    _judge_contrast(skewness, inverted_images, has_structure, findings, problems)
    if comparison is not None:
        remedy = "Leave out --flip" if flipped else "Use --flip"
        _judge_match(comparison, reached, pixel_size, findings, problems, remedy=remedy)
    return Verdict(findings=findings, problems=problems, skewness=skewness, comparison=comparison)


def _judge_contrast(
    skewness: float, inverted: bool, has_structure: bool, findings: list[str], problems: list[str]
) -> None:
    if skewness < -CLEAR_SKEWNESS and has_structure:
        remedy = (
            "the images' particles seem dark: use --uninvert-data"
            if inverted
            else "the images' particles seem bright: leave out --uninvert-data"
        )
        problems.append(
            f"Contrast looks inverted, the density is negative; {remedy}, here and in training."
        )
    elif skewness > CLEAR_SKEWNESS:
        findings.append("Contrast looks right: the density is positive.")
    else:
        findings.append("Contrast: not clear from the map; look at backproject.png.")


def _judge_match(
    found: Comparison,
    reached: float,
    pixel_size: float,
    findings: list[str],
    problems: list[str],
    *,
    remedy: str,
) -> None:
    said = f"correlation {found.score:.2f}, FSC 0.5 at {found.resolution_angstrom:.2f} Å"
    if found.score < MATCH:
        problems.append(
            f"The map does not match the reference in this orientation, nor does its mirror image "
            f"(best {said}). Check the pixel size of the shifts (--half-size-shifts for "
            "heterogeneous refinements), the pose convention, that poses and images are in one "
            "order, and that the reference is of this refinement and has the right pixel size."
        )
        return
    if found.name == "as is":
        findings.append(f"The map matches the reference as is ({said}).")
    else:
        problems.append(
            f"The map matches the reference as {found.name} ({said}): the hand is the other one. "
            f"{remedy}, here and for volumes."
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
    if found.resolution_angstrom > max(2 * reached, 6 * pixel_size):
        problems.append(
            f"It follows the reference to {found.resolution_angstrom:.1f} Å only, while its half "
            f"maps agree to {reached:.1f} Å; check the pixel size of the reference and of the "
            "shifts."
        )


def density_skewness(volume: Float[np.ndarray, "d d d"], resolution: Resolution) -> float:
    """Return the skewness of a map smoothed to what its half maps agree on; positive is right.

    Molecules are compact and dense in a wide, flat solvent, so the sign of the third moment about
    the solvent's level is that of the density.
    """
    box = volume.shape[-1]
    pixel_size = resolution.pixel_size_angstrom
    smooth = low_pass(
        torch.from_numpy(volume),
        resolution_angstrom=max(resolution.at(0.5), 3 * pixel_size),
        pixel_size_angstrom=pixel_size,
    ).numpy()
    inside = smooth[soft_sphere(box) > 0.5].astype(np.float64)
    inside = inside - np.median(inside)
    deviation = np.sqrt(np.mean(inside**2))
    return float(np.mean(inside**3) / deviation**3) if deviation > 0 else 0.0


def compare(
    volume: Float[np.ndarray, "d d d"],
    reference: Float[np.ndarray, "r r r"],
    resolution: Resolution,
    *,
    reference_pixel_size_angstrom: float,
) -> Comparison:
    """Find out whether a map is its reference, or a mirror image of it.

    Both are brought to one lattice. A small offset between them is found and reported, a rotation
    is not searched for.

    Args:
        volume: Map.
        reference: Map from elsewhere; its box and pixel size may be others.
        resolution: Of the map.
        reference_pixel_size_angstrom: Pixel size of the reference.
    """
    box, pixel_size = volume.shape[-1], resolution.pixel_size_angstrom
    small = min(box, LARGEST_BOX)
    own = resample(torch.from_numpy(volume), box=small, ndim=3)
    sphere = torch.from_numpy(soft_sphere(small))
    given = on_lattice(
        torch.from_numpy(reference),
        scale=box * pixel_size / (reference.shape[-1] * reference_pixel_size_angstrom),
        box=small,
    )
    weights = _shell_weights(resolution, small)
    tried = {"as is": (), **MIRRORS}
    scored = {
        name: _correlate(own * sphere, (given.flip(axes) if axes else given) * sphere, weights)
        for name, axes in tried.items()
    }
    name = max(scored, key=lambda name: abs(scored[name][0]))
    if abs(scored["as is"][0]) > 0.95 * abs(scored[name][0]):
        name = "as is"  # a map that is its own mirror image needs no flip
    score, offset = scored[name]
    matched = given.flip(tried[name]) if tried[name] else given
    moved = torch.roll(matched, tuple(offset.tolist()), (0, 1, 2)) * (1.0 if score > 0 else -1.0)
    curve = shell_correlation(own * sphere, moved * sphere)
    curve[:2] = 1
    return Comparison(
        name=name,
        score=abs(score),
        offset_px=tuple(float(v) * box / small for v in reversed(offset.tolist())),
        is_negative=score < 0,
        resolution_angstrom=resolution_at(
            curve, threshold=0.5, pixel_size_angstrom=pixel_size * box / small
        ),
    )


def on_lattice(volume: Float[Tensor, "r r r"], *, scale: float, box: int) -> Float[Tensor, "d d d"]:
    """Return a volume on a lattice of another box whose field is ``scale`` times as wide.

    Its transform is evaluated where the new lattice has its points; about the same centre.
    """
    old = volume.shape[-1]
    if abs(scale - 1) * old < 0.05:  # of a pixel, over the whole field
        return resample(volume, box=box, ndim=3)
    ticks = torch.arange(-(box // 2), box // 2).float() / scale
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    values = torch.view_as_complex(SliceSampler(volume).at(points)).reshape(box, box, box)
    return ifft_centred(values, ndim=3)


def _shell_weights(resolution: Resolution, box: int) -> Float[Tensor, " shells"]:
    """Return the weight of each shell: what its half maps share, to where they part."""
    full = 2 * len(resolution.masked)
    field = full * resolution.pixel_size_angstrom
    weights = resolution.masked[: box // 2].clamp(min=0)
    limit = int(field / resolution.at(0.143)) + 1
    weights = torch.where(torch.arange(len(weights)) <= limit, weights, 0.0)
    weights[:2] = 0  # the zero frequency tells nothing of place or hand
    return weights


def _correlate(
    first: Float[Tensor, "d d d"],
    second: Float[Tensor, "d d d"],
    weights: Float[Tensor, " shells"],
) -> tuple[float, Tensor]:
    """Return the largest weighted correlation over all offsets, with its sign and offset (z, y, x).

    Each shell counts by its weight and its number of points, whatever its power.
    """
    box = first.shape[-1]
    index = shell_index(box)
    a, b = fft_centred(first, ndim=3), fft_centred(second, ndim=3)
    counts = torch.bincount(index.flatten(), minlength=box // 2).double()

    def power(values: Tensor) -> Tensor:
        sums = torch.bincount(index.flatten(), values.abs().square().flatten().double())
        return (sums / counts).clamp(min=1e-30)

    factor = weights.double() / (power(a) * power(b)).sqrt()
    cross = a * b.conj() * factor[index]
    total = float((weights.double() * counts).sum())
    surface = ifft_centred(cross, ndim=3) * (box**3 / max(total, 1e-30))
    best = surface.abs().argmax()
    place = torch.stack(torch.unravel_index(best, surface.shape)) - box // 2
    return float(surface.flatten()[best]), place
