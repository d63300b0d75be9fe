"""Whether maps and model are in one frame: said before anything is scored."""

import itertools
from dataclasses import dataclass

import numpy as np

from raydrgn.shapes import Float

DETAIL_ANGSTROM = 20.0
"""σ of the blur that is taken away first: what is left tells proteins from the envelope they share
with every other placement of the model."""

LOW_CORRELATION = 0.03
"""Of detail. Measured on ten ribosome maps: 0.17 with 26 proteins, 0.075 with six of them, 0.05 to
0.08 with one; 0.01 to 0.02 with six that are mirrored or turned."""

CLEAR_CORRELATION = 0.13
"""From which a placement is hardly chance: a single protein finds up to 0.12 somewhere."""

MARGIN = 1.5
"""Factor by which another placement must correlate better to be called the right one."""

SHIFT_MARGIN = 2.0
"""The same for shifts, of which there are many."""

NEARLY = 0.75
"""Share of the clearest placement's correlation from which the other hand is named instead: it is
what happens."""

OTHER_HAND = "mirrored in z (--flip does that to the volumes of a run)"

OTHER_SIGN = "of the other sign (--invert gives that to the volumes of a run)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """How well the volume that is most like the model fits it."""

    correlation: float
    """Of volume and model as they are."""

    detail: float
    """Of their detail, finer than a blur of 20 Å."""

    best: float
    """Largest correlation of detail with the model at another place."""

    placement: str
    """What to do with the model for that; empty if it is well where it is."""

    def reservation(self) -> str:
        """Return what the correlation does not tell where the model is a small part; or nothing."""
        if self.detail >= CLEAR_CORRELATION:
            return ""
        return (
            f", their detail at {self.detail:.2f}: so small a part of a complex correlates as well "
            "a few pixels off. Look at maps and masks together"
        )

    def complaint(self) -> str | None:
        """Return what is wrong in words, or None."""
        said = f"the detail of the maps correlates with the model's at {self.detail:.2f} only"
        if self.placement:
            said += f", but at {self.best:.2f} with the model {self.placement}"
        if self.placement and self.best >= CLEAR_CORRELATION:
            return (
                f"{said}. They are not in one frame, and occupancies would mean nothing: fit the "
                "model into the map."
            )
        if self.placement or self.detail < LOW_CORRELATION:
            return (
                f"{said}: they are not in one frame, or the model is but a small part of the "
                "complex. Look at both together before you trust occupancies."
            )
        return None


def alignment(
    volumes: Float[np.ndarray, "b d d d"],
    density: Float[np.ndarray, "d d d"],
    *,
    pixel_size_angstrom: float,
) -> Alignment:
    """Compare volumes with a model's density: as it is, turned, mirrored and moved.

    Of several volumes that one counts which is most like the model: the most mature.

    Args:
        volumes: Some of the maps.
        density: The whole model's.
        pixel_size_angstrom: For what is said of shifts; 0 if it is not known.
    """
    sigma_px = DETAIL_ANGSTROM / pixel_size_angstrom if pixel_size_angstrom else 3.0
    model = _detail(density, sigma_px)
    maps = [_detail(volume, sigma_px) for volume in volumes]
    as_given = [float(np.vdot(one, model)) for one in maps]
    detail, plain = max(as_given), _normalised(density)
    correlation = max(float(np.vdot(_normalised(volume), plain)) for volume in volumes)
    others = [
        (max(float(np.vdot(one, turned)) for one in maps), MARGIN, name)
        for name, turned in _turned(model)
    ]
    moved, shift = max(_best_shift(one, model) for one in maps)
    unit = "Å" if pixel_size_angstrom else "px"
    said = ", ".join(f"{-s * (pixel_size_angstrom or 1):.0f}" for s in shift[::-1])
    others.append((-min(as_given), MARGIN, OTHER_SIGN))
    others.append((moved, SHIFT_MARGIN, f"moved by ({said}) {unit} along (x, y, z)"))
    better = [
        (best / margin, best, placement)
        for best, margin, placement in others
        if best > margin * detail
        and best > (LOW_CORRELATION if placement == OTHER_HAND else CLEAR_CORRELATION)
    ]
    clearest = max((best for _, best, _ in better), default=0.0)
    likely = [f for f in better if f[2] == OTHER_HAND and f[1] > NEARLY * clearest]
    _, best, placement = max(likely or better, default=(0.0, detail, ""))
    return Alignment(correlation=correlation, detail=detail, best=best, placement=placement)


def _detail(volume: Float[np.ndarray, "d d d"], sigma_px: float) -> Float[np.ndarray, "d d d"]:
    """Return a volume less its blur, of norm 1; the transform of a Gaussian is exp(−2π²σ²s²)."""
    box = len(volume)
    s = np.fft.fftfreq(box)
    squared = s[:, None, None] ** 2 + s[:, None] ** 2 + np.fft.rfftfreq(box) ** 2
    kept = -np.expm1(-2 * (np.pi * sigma_px) ** 2 * squared)
    return _normalised(np.fft.irfftn(np.fft.rfftn(volume) * kept, s=volume.shape, axes=(0, 1, 2)))


def _normalised(volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, "d d d"]:
    centred = volume - volume.mean(dtype=np.float64)
    return centred / max(float(np.linalg.norm(centred)), 1e-30)


def _turned(model: Float[np.ndarray, "d d d"]) -> list[tuple[str, Float[np.ndarray, "d d d"]]]:
    """Return the model in the 47 other placements on the grid, by right angles and mirrors."""
    found = []
    for order in itertools.permutations(range(3)):
        for axes in itertools.chain.from_iterable(
            itertools.combinations(range(3), count) for count in range(4)
        ):
            if order == (0, 1, 2) and not axes:
                continue
            # voxel i goes to −i about the centre; the first plane stays at its place
            turned = np.roll(np.flip(model.transpose(order), axes), [1] * len(axes), axes)
            parity = len(axes) + (order not in ((0, 1, 2), (1, 2, 0), (2, 0, 1)))
            name = "mirrored" if parity % 2 else "turned by right angles"
            if order == (0, 1, 2) and axes == (0,):
                name = OTHER_HAND
            found.append((name, turned))
    return found


def _best_shift(
    one: Float[np.ndarray, "d d d"], model: Float[np.ndarray, "d d d"]
) -> tuple[float, tuple[int, ...]]:
    """Return the best correlation over shifts of a map (z, y, x), and that shift, in pixels."""
    product = np.fft.rfftn(one).conj() * np.fft.rfftn(model)
    correlations = np.fft.irfftn(product, s=one.shape, axes=(0, 1, 2))
    place = np.unravel_index(int(correlations.argmax()), one.shape)
    box = one.shape[0]
    shift = tuple(int(p) - box if p >= box // 2 else int(p) for p in place)
    return float(correlations.max()), shift
