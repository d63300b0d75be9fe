"""Whether maps and model are in one frame: said before anything is scored."""

import itertools
from dataclasses import dataclass

import numpy as np

from raydrgn.shapes import Float

LOW_CORRELATION = 0.05
MARGIN = 1.5
"""Factor by which another placement must correlate better to be the right one.

Six proteins of a ribosome lie among much other density: some of the 47 wrong placements reach
1.06 times the correlation of the right one; a model of the other hand is at 0.45 times.
"""

SHIFT_MARGIN = 2.0
"""The same for shifts, of which there are many: the best wrong one reaches 1.54 times there."""

OTHER_HAND = "mirrored in z (--flip does that to the volumes of a run)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Correlation of the volume that is most like the model with the model's whole density."""

    correlation: float
    best: float
    """The largest with the model at another place."""

    placement: str
    """What to do with the model for that; empty if it is well where it is."""

    def complaint(self) -> str | None:
        """Return what is wrong in words, or None."""
        if self.placement:
            return (
                f"the maps correlate with the model at {self.correlation:.2f} only, but at "
                f"{self.best:.2f} with the model {self.placement}. They are not in one frame, and "
                "occupancies would mean nothing: fit the model into the map."
            )
        if self.correlation < LOW_CORRELATION:
            return (
                f"the maps correlate with the model at {self.correlation:.2f} only: they are not "
                "in one frame, or the model is but a small part of the complex. Look at both "
                "together, and fit the model into the map."
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
    model = _normalised(density)
    maps = [_normalised(volume) for volume in volumes]
    as_given = [float(np.vdot(one, model)) for one in maps]
    number = int(np.argmax(as_given))
    correlation, one = as_given[number], maps[number]
    others = [(float(np.vdot(one, turned)), MARGIN, name) for name, turned in _turned(model)]
    shift, moved = _best_shift(one, model)
    unit = "Å" if pixel_size_angstrom else "px"
    said = ", ".join(f"{-s * (pixel_size_angstrom or 1):.0f}" for s in shift[::-1])
    others.append((moved, SHIFT_MARGIN, f"moved by ({said}) {unit} along (x, y, z)"))
    better = [
        (best / margin, best, placement)
        for best, margin, placement in others
        if best > max(margin * correlation, LOW_CORRELATION)
    ]
    if better:
        likely = [found for found in better if found[2] == OTHER_HAND]
        _, best, placement = max(likely or better)
        return Alignment(correlation=correlation, best=best, placement=placement)
    return Alignment(correlation=correlation, best=correlation, placement="")


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
) -> tuple[tuple[int, ...], float]:
    """Return the shift (z, y, x) of a map that brings it best onto the model, in pixels."""
    product = np.fft.rfftn(one).conj() * np.fft.rfftn(model)
    correlations = np.fft.irfftn(product, s=one.shape, axes=(0, 1, 2))
    place = np.unravel_index(int(correlations.argmax()), one.shape)
    box = one.shape[0]
    shift = tuple(int(p) - box if p >= box // 2 else int(p) for p in place)
    return shift, float(correlations.max())
