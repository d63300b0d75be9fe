"""Whether maps and model are in one frame, checked before anything is scored."""

import itertools
import logging
from dataclasses import dataclass

import numpy as np

from raydrgn.fourier.density import solvent_level
from raydrgn.fourier.masks import soft_sphere
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

DETAIL_ANGSTROM = 20.0
"""σ of the blur that is subtracted first: the detail that is left tells proteins from the envelope,
which is much the same for every placement of the model."""

LOW_CORRELATION = 0.03
"""Of detail. Measured on ten ribosome maps: 0.17 with 26 proteins, 0.075 with six of them, 0.05 to
0.08 with one; 0.01 to 0.02 with six that are mirrored or rotated."""

CLEAR_CORRELATION = 0.13
"""Correlation of detail above chance: a single protein reaches up to 0.12 at a wrong position."""

MARGIN = 1.5
"""Factor by which another placement must correlate better to be reported."""

SHIFT_MARGIN = 2.0
"""The same for shifts, of which there are many."""

NEARLY = 0.75
"""Share of the best placement's correlation from which the opposite handedness is reported instead:
it is the most common reason."""

LEAST_INSIDE = 0.5
"""Share of a model in the density of the most like map. Measured: 0.66 and 0.76 of six and 26
proteins of a ribosome, 0.91 of a whole phantom; 0.04 to 0.60 where they are turned or moved, most
below 0.5."""

OPPOSITE_HAND = "mirrored in z"

MIRRORED = "mirrored"

OPPOSITE_SIGN = "with the opposite sign"

FIT = "Fit the model into the map (`raydrgn occupancy masks --fit`)."

MIRROR = (
    "No turn of the model mends a mirror image: mirror maps with `raydrgn flip`, and the volumes "
    "of a run with --flip of `raydrgn occupancy score` (or leave it out if it was given). A "
    "project of `raydrgn protocol` is begun anew with the mirrored map."
)

REMEDIES = {
    OPPOSITE_HAND: MIRROR,
    MIRRORED: f"{MIRROR} {FIT}",
    OPPOSITE_SIGN: (
        "Change the sign of maps with `raydrgn invert`, and that of the volumes of a run with "
        "--invert of `raydrgn occupancy score` (or leave it out if it was given)."
    ),
}
"""What to do about a placement of the model; what is not here is mended by ``FIT``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """How well the volume that is most like the model fits it."""

    correlation: float
    """Of volume and model as they are."""

    detail: float
    """Of their detail, finer than a blur of 20 Å."""

    inside: float
    """Share of the model in density, of a blur by 10 Å."""

    best: float
    """Largest correlation of detail with the model in another placement."""

    placement: str
    """That placement, if it fits better; else empty."""

    @property
    def summary(self) -> str:
        """The correlation, and what it does not show where the model is a small part."""
        found = f"correlation with the model {self.correlation:.2f}"
        if self.detail >= CLEAR_CORRELATION:
            return found
        return (
            f"{found}, of detail finer than {DETAIL_ANGSTROM:.0f} Å {self.detail:.2f}. The model "
            "is a small part of the complex, and a shift by a few pixels would not be noticed: "
            "check the masks on a map in a viewer"
        )

    @property
    def warning(self) -> str | None:
        """What is wrong and what to do, or None."""
        found = (
            f"The correlation of maps and model, of detail finer than {DETAIL_ANGSTROM:.0f} Å, is "
            f"only {self.detail:.2f}"
        )
        if self.placement:
            found += f", but {self.best:.2f} with the model {self.placement}"
        if self.placement and self.best >= CLEAR_CORRELATION:
            return (
                f"{found}. They are not in one frame, so that occupancies are meaningless. "
                f"{REMEDIES.get(self.placement, FIT)}"
            )
        if self.placement or self.detail < LOW_CORRELATION:
            remedy = f" {REMEDIES[self.placement]}" if self.placement in REMEDIES else ""
            return (
                f"{found}. They are not in one frame, or the model is a small part of the complex. "
                f"Check the masks on a map in a viewer before you trust occupancies.{remedy}"
            )
        if self.detail < CLEAR_CORRELATION and self.inside < LEAST_INSIDE:
            return (
                f"Only {100 * self.inside:.0f} % of the model is where a map has density "
                f"(correlation {self.correlation:.2f}), so that occupancies are likely meaningless."
                " Check the masks on a map in a viewer; `raydrgn occupancy masks --fit` moves the "
                "model into the map."
            )
        return None


def check_alignment(
    volumes: Float[np.ndarray, "b d d d"],
    density: Float[np.ndarray, "d d d"] | None,
    *,
    pixel_size_angstrom: float,
) -> Alignment | None:
    """Log how well volumes and a model fit, or that they do not; None if there is no model.

    Volumes that are not finite are left out; they are reported when they are scored.
    """
    finite = volumes[np.isfinite(volumes).all(axis=(1, 2, 3))]
    if density is None or not len(finite):
        return None
    found = alignment(finite, density, pixel_size_angstrom=pixel_size_angstrom)
    if found.warning:
        log.warning(found.warning)
    else:
        log.info(
            "of %d volumes that were compared, the one most like the model: %s",
            len(finite),
            found.summary,
        )
    return found


def alignment(
    volumes: Float[np.ndarray, "b d d d"],
    density: Float[np.ndarray, "d d d"],
    *,
    pixel_size_angstrom: float,
) -> Alignment:
    """Compare volumes with a model's density: as it is, rotated, mirrored and shifted.

    The result is that of the volume that is most like the model.

    Args:
        volumes: Some of the maps.
        density: Density of the whole model.
        pixel_size_angstrom: Shifts are reported in Å; in pixels if it is 0, unknown.
    """
    sigma_px = DETAIL_ANGSTROM / pixel_size_angstrom if pixel_size_angstrom else 3.0
    model = _detail(density, sigma_px)
    maps = [_detail(volume, sigma_px) for volume in volumes]
    as_given = [float(np.vdot(detail_of_map, model)) for detail_of_map in maps]
    detail, plain = max(as_given), _normalised(density)
    correlation = max(float(np.vdot(_normalised(volume), plain)) for volume in volumes)
    others = [
        (max(float(np.vdot(detail_of_map, other)) for detail_of_map in maps), MARGIN, name)
        for name, other in _rotated_and_mirrored(model)
    ]
    shifted, shift = max(_best_shift(detail_of_map, model) for detail_of_map in maps)
    unit = "Å" if pixel_size_angstrom else "px"
    xyz = ", ".join(f"{-s * (pixel_size_angstrom or 1):.0f}" for s in shift[::-1])
    others.append((-min(as_given), MARGIN, OPPOSITE_SIGN))
    others.append((shifted, SHIFT_MARGIN, f"moved by ({xyz}) {unit} along (x, y, z)"))
    better = [
        (best / margin, best, placement)
        for best, margin, placement in others
        if best > margin * detail
        and best > (LOW_CORRELATION if placement == OPPOSITE_HAND else CLEAR_CORRELATION)
    ]
    largest = max((best for _, best, _ in better), default=0.0)
    likely = [
        found for found in better if found[2] == OPPOSITE_HAND and found[1] > NEARLY * largest
    ]
    _, best, placement = max(likely or better, default=(0.0, detail, ""))
    return Alignment(
        correlation=correlation,
        detail=detail,
        inside=max(_share_inside(volume, density, sigma_px / 2) for volume in volumes),
        best=best,
        placement=placement,
    )


def _share_inside(
    volume: Float[np.ndarray, "d d d"], density: Float[np.ndarray, "d d d"], sigma_px: float
) -> float:
    """Return the share of a model's density where a volume, blurred, has density."""
    blurred = _blurred(volume, sigma_px)
    is_dense = blurred > solvent_level(blurred[soft_sphere(len(volume)) > 0.5])
    model = (density - density.min()).astype(np.float64)
    return float(model[is_dense].sum() / max(model.sum(), 1e-30))


def _detail(volume: Float[np.ndarray, "d d d"], sigma_px: float) -> Float[np.ndarray, "d d d"]:
    """Return a volume less its blur, of norm 1."""
    return _normalised(volume - _blurred(volume, sigma_px))


def _blurred(volume: Float[np.ndarray, "d d d"], sigma_px: float) -> Float[np.ndarray, "d d d"]:
    """Return a volume blurred by a Gaussian, whose transform is exp(−2π²σ²s²)."""
    s = np.fft.fftfreq(len(volume))
    squared = s[:, None, None] ** 2 + s[:, None] ** 2 + np.fft.rfftfreq(len(volume)) ** 2
    kept = np.exp(-2 * (np.pi * sigma_px) ** 2 * squared)
    return np.fft.irfftn(np.fft.rfftn(volume) * kept, s=volume.shape, axes=(0, 1, 2))


def _normalised(volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, "d d d"]:
    centred = volume - volume.mean(dtype=np.float64)
    return centred / max(float(np.linalg.norm(centred)), 1e-30)


def _rotated_and_mirrored(
    model: Float[np.ndarray, "d d d"],
) -> list[tuple[str, Float[np.ndarray, "d d d"]]]:
    """Return the model in the 47 other placements on the grid, by right angles and mirrors."""
    found = []
    for order in itertools.permutations(range(3)):
        for axes in itertools.chain.from_iterable(
            itertools.combinations(range(3), count) for count in range(4)
        ):
            if order == (0, 1, 2) and not axes:
                continue
            # voxel i goes to −i about the centre; the first plane stays where it is
            placed = np.roll(np.flip(model.transpose(order), axes), [1] * len(axes), axes)
            parity = len(axes) + (order not in ((0, 1, 2), (1, 2, 0), (2, 0, 1)))
            name = MIRRORED if parity % 2 else "rotated by right angles"
            if order == (0, 1, 2) and axes == (0,):
                name = OPPOSITE_HAND
            found.append((name, placed))
    return found


def _best_shift(
    volume: Float[np.ndarray, "d d d"], model: Float[np.ndarray, "d d d"]
) -> tuple[float, tuple[int, ...]]:
    """Return the best correlation over shifts of a map (z, y, x), and that shift, in pixels."""
    product = np.fft.rfftn(volume).conj() * np.fft.rfftn(model)
    correlations = np.fft.irfftn(product, s=volume.shape, axes=(0, 1, 2))
    peak = np.unravel_index(int(correlations.argmax()), volume.shape)
    box = volume.shape[0]
    shift = tuple(int(i) - box if i >= box // 2 else int(i) for i in peak)
    return float(correlations.max()), shift
