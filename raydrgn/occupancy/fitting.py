"""The rigid motion that takes an atomic model into a map: a search, then a refinement.

The search is over rotations spread evenly over all of SO(3), with all shifts at once for each of
them: correlation with the map is a product of Fourier transforms. Both are filtered to a resolution
at which the next rotation still overlaps, and without what varies slowly, which fits everywhere.
The best placements, and the one given, are refined: the correlation of a sum of Gaussians with a
map is the sum of the map, blurred by one of them, at the atoms.

Only rotations and shifts are tried: a mirrored model is another molecule.

References:
    Chacón & Wriggers (2002), J. Mol. Biol. 317:375 (FFT search with a filter against the envelope).
    Alexa (2022), CVPR (super-Fibonacci spirals: rotations spread evenly).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import fft
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from raydrgn.fourier.density import CLEAR_SKEWNESS, skewness
from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.resample import resample
from raydrgn.shapes import Float, Int

ROTATIONS = 2304
"""Rotations searched: neighbours are 19° apart."""

REACH = 0.35
"""Resolution of the search over the radius of the model: that of half the distance of rotations."""

VOXELS = 3.0
"""Voxels per resolution."""

CANDIDATES = 12
"""Placements of the search that are refined."""

STANDS_OUT = 0.9
"""Share of the best score from which another placement counts as as good."""

MIRRORED_BETTER = 1.05
"""Ratio of scores from which the map is taken to be of opposite handedness."""

DISTINCT_DEG, DISTINCT_RADII = 15.0, 0.25
"""Angle, and distance in radii of the model, from which two placements are different ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A rotation about the centre of a model, and a shift; x → R (x − centre) + centre + shift."""

    rotation: Float[np.ndarray, "3 3"]
    shift_angstrom: Float[np.ndarray, "3"]
    centre_angstrom: Float[np.ndarray, "3"]
    score: float
    """Correlation with the filtered map, in the units of the map."""

    @property
    def angle_deg(self) -> float:
        """Angle of the rotation."""
        return math.degrees(float(np.linalg.norm(self._vector)))

    @property
    def axis(self) -> Float[np.ndarray, "3"]:
        """Axis of the rotation (x, y, z), of length 1."""
        return self._vector / max(float(np.linalg.norm(self._vector)), 1e-12)

    @property
    def _vector(self) -> Float[np.ndarray, "3"]:
        return Rotation.from_matrix(self.rotation).as_rotvec()

    @property
    def is_none(self) -> bool:
        """Whether nothing is moved."""
        return not self._vector.any() and not self.shift_angstrom.any()

    def none(self) -> "Placement":
        """Return the placement of the model as it was given."""
        return replace(self, rotation=np.eye(3), shift_angstrom=np.zeros(3))

    def moved(self, positions_angstrom: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Return positions after the motion."""
        turned = (positions_angstrom - self.centre_angstrom) @ self.rotation.T
        return turned + self.centre_angstrom + self.shift_angstrom

    def describe(self) -> str:
        """Return the motion in words: shift of the centre, rotation about it."""
        shift = ", ".join(f"{value:.1f}" for value in self.shift_angstrom)
        axis = ", ".join(f"{value:.2f}" for value in self.axis)
        turn = f"rotated by {self.angle_deg:.1f}° about its centre (axis {axis})"
        return f"{turn} and moved by ({shift}) Å along (x, y, z)"


@dataclass(frozen=True, kw_only=True, slots=True)
class RigidFit:
    """Where a model fits best, and how well it does elsewhere."""

    best: Placement
    other: Placement | None
    """The best of those that are clearly different."""

    def warning(self) -> str | None:
        """Return what makes the fit doubtful, or None."""
        if self.other is None or self.other.score < STANDS_OUT * self.best.score:
            return None
        share = 100 * self.other.score / self.best.score
        return (
            f"No fit stands out: another one reaches {share:.0f} % of its score "
            f"({self.other.describe()}). The model may be symmetric, a small part of the complex, "
            "or none of it: check the fitted model on the map in a viewer."
        )


def opposite_sign(volume: Float[np.ndarray, "d d d"]) -> str | None:
    """Return a warning if the density of a map is clearly negative, or None."""
    found = skewness(volume[soft_sphere(len(volume)) > 0.5])
    if found > -CLEAR_SKEWNESS:
        return None
    return (
        f"The density of the map is negative (skewness {found:.1f}), where that of a model is "
        "positive: the map has the opposite sign, and the model cannot fit. `raydrgn invert` "
        "changes it."
    )


def opposite_hand(fit: RigidFit, mirrored: RigidFit) -> str | None:
    """Return a warning if a model fits the mirrored map better than the map, or None."""
    share = mirrored.best.score / max(fit.best.score, 1e-30)
    if share < MIRRORED_BETTER:
        return None
    return (
        f"The model fits the mirror image of the map better (its score is {share:.2f} times that "
        "of the map): the map may be of opposite handedness. `raydrgn flip` turns it over."
    )


def fit_model(
    positions_angstrom: Float[np.ndarray, "n 3"],
    atomic_numbers: Int[np.ndarray, " n"],
    volume: Float[np.ndarray, "d d d"],
    *,
    pixel_size_angstrom: float,
    resolution_angstrom: float,
    progress: Callable[..., None] = lambda *_, **__: None,
) -> RigidFit:
    """Find the rigid motion of a model at which it correlates best with a map.

    Args:
        positions_angstrom: x, y, z of the atoms from the first voxel of the map.
        atomic_numbers: Weight of each atom.
        volume: The map.
        pixel_size_angstrom: Of the map.
        resolution_angstrom: Of the last refinement.
        progress: Called with the rotations that are searched, their number and unit.
    """
    centre = np.average(positions_angstrom, axis=0, weights=atomic_numbers)
    offsets = positions_angstrom - centre
    radius = math.sqrt(float(np.average((offsets**2).sum(1), weights=atomic_numbers)))
    field = len(volume) * pixel_size_angstrom
    finest = max(resolution_angstrom, VOXELS * pixel_size_angstrom)
    coarse = max(REACH * radius, finest)
    points, weights = _merged(offsets, atomic_numbers, spacing=coarse / 4)
    searched = _FilteredMap.of(volume, field=field, resolution=coarse)
    found = _search(points, weights, searched, centre, progress)
    given = Placement(
        rotation=np.eye(3), shift_angstrom=np.zeros(3), centre_angstrom=centre, score=0.0
    )
    refined = [_refine(place, points, weights, searched, radius) for place in (given, *found)]
    refined.sort(key=lambda place: -place.score)
    kept = _distinct(refined, radius)[: CANDIDATES // 2]
    points, weights = _merged(offsets, atomic_numbers, spacing=finest / 4)
    sharp = _FilteredMap.of(volume, field=field, resolution=finest)
    final = [_refine(place, points, weights, sharp, radius) for place in kept]
    final.sort(key=lambda place: -place.score)
    best, *others = _distinct(final, radius)
    return RigidFit(best=best, other=others[0] if others else None)


def spread_rotations(count: int) -> Float[np.ndarray, "k 3 3"]:
    """Return rotations spread evenly over SO(3): a super-Fibonacci spiral of quaternions."""
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    quaternions = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)],
        axis=1,
    )
    return Rotation.from_quat(quaternions).as_matrix()


@dataclass(frozen=True, kw_only=True, slots=True)
class _FilteredMap:
    """A map without what varies slowly, blurred once by the Gaussian of an atom."""

    values: Float[np.ndarray, "d d d"]
    spacing: float
    """Å between voxels."""

    resolution: float

    @classmethod
    def of(
        cls, volume: Float[np.ndarray, "d d d"], *, field: float, resolution: float
    ) -> "_FilteredMap":
        """Filter a map of some field of view, Å; its box becomes smaller where it can."""
        box = min(2 * math.ceil(field * VOXELS / resolution / 2), len(volume))
        small = resample(torch.from_numpy(volume.astype(np.float32)), box=box, ndim=3).numpy()
        spacing = field / box
        s = np.fft.fftfreq(box, spacing)
        squared = s[:, None, None] ** 2 + s[:, None] ** 2 + np.fft.rfftfreq(box, spacing) ** 2
        sigma = resolution / (math.pi * math.sqrt(2))  # as in molmap
        kept = np.exp(-2 * (np.pi * sigma) ** 2 * squared)
        kept *= -np.expm1(-2 * (np.pi * resolution) ** 2 * squared)
        values = np.fft.irfftn(np.fft.rfftn(small) * kept, s=small.shape, axes=(0, 1, 2))
        values /= max(float(np.linalg.norm(values)), 1e-30)
        return cls(values=values.astype(np.float32), spacing=spacing, resolution=resolution)

    def score(self, positions: Float[np.ndarray, "n 3"], weights: Float[np.ndarray, " n"]) -> float:
        """Return the sum of the map at some positions (x, y, z), Å; it is 0 outside."""
        voxels = positions.T[::-1] / self.spacing
        found = map_coordinates(self.values, voxels, order=1, mode="constant", prefilter=False)
        return float(found @ weights)


def _merged(
    offsets: Float[np.ndarray, "n 3"], numbers: Int[np.ndarray, " n"], *, spacing: float
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, " m"]]:
    """Return the atoms of each cube of some edge as one at their centre, with weights of sum 1."""
    _, cell = np.unique(np.floor(offsets / spacing).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.ravel()
    total = np.bincount(cell, numbers)
    sums = [np.bincount(cell, offsets[:, axis] * numbers) for axis in range(3)]
    return np.stack(sums, axis=1) / total[:, None], total / total.sum()


def _search(
    points: Float[np.ndarray, "m 3"],
    weights: Float[np.ndarray, " m"],
    searched: _FilteredMap,
    centre: Float[np.ndarray, "3"],
    progress: Callable[..., None],
) -> list[Placement]:
    """Return the best placements of all rotations and shifts, best first."""
    box, spacing = len(searched.values), searched.spacing
    spectrum = fft.rfftn(searched.values)
    scores, shifts, rotations = [], [], spread_rotations(ROTATIONS)
    for number, rotation in enumerate(rotations, start=1):
        model = _on_grid(points @ rotation.T / spacing, weights, box)
        correlation = fft.irfftn(fft.rfftn(model).conj() * spectrum, s=model.shape)
        peak = int(correlation.argmax())
        scores.append(float(correlation.flat[peak]))
        zyx = np.unravel_index(peak, correlation.shape)
        shifts.append(np.array(zyx[::-1]) * spacing - centre)
        if number % 64 == 0 or number == ROTATIONS:
            progress(number, ROTATIONS, unit="rotations")
    radius = math.sqrt(float(np.average((points**2).sum(1), weights=weights)))
    every = [
        Placement(
            rotation=rotations[k],
            shift_angstrom=shifts[k],
            centre_angstrom=centre,
            score=scores[k],
        )
        for k in np.argsort(scores)[::-1][: 20 * CANDIDATES]
    ]
    return _distinct(every, radius)[:CANDIDATES]


def _on_grid(
    voxels: Float[np.ndarray, "m 3"], weights: Float[np.ndarray, " m"], box: int
) -> Float[np.ndarray, "d d d"]:
    """Return points (x, y, z) about voxel 0 on a periodic grid, each shared by eight voxels."""
    first = np.floor(voxels).astype(np.int64)
    part = voxels - first
    total = np.zeros(box**3)
    for corner in np.ndindex(2, 2, 2):
        share = np.where(corner, part, 1 - part).prod(axis=1)
        x, y, z = ((first + corner) % box).T
        total += np.bincount((z * box + y) * box + x, share * weights, minlength=box**3)
    return total.reshape(box, box, box).astype(np.float32)


def _refine(
    place: Placement,
    points: Float[np.ndarray, "m 3"],
    weights: Float[np.ndarray, " m"],
    searched: _FilteredMap,
    radius: float,
) -> Placement:
    """Return the placement of the highest score near one; rotations count as motion at the rim."""

    def at(values: Float[np.ndarray, "6"]) -> tuple[np.ndarray, np.ndarray]:
        turn = Rotation.from_rotvec(values[:3] / radius).as_matrix()
        return turn @ place.rotation, place.shift_angstrom + values[3:]

    def loss(values: Float[np.ndarray, "6"]) -> float:
        rotation, shift = at(values)
        return -searched.score(points @ rotation.T + place.centre_angstrom + shift, weights)

    step = searched.resolution / 4
    simplex = np.vstack([np.zeros(6), step * np.eye(6)])
    options = {"initial_simplex": simplex, "xatol": step / 50, "fatol": 1e-9, "maxiter": 600}
    found = minimize(loss, np.zeros(6), method="Nelder-Mead", options=options)
    rotation, shift = at(found.x)
    return Placement(
        rotation=rotation,
        shift_angstrom=shift,
        centre_angstrom=place.centre_angstrom,
        score=-float(found.fun),
    )


def _distinct(places: list[Placement], radius: float) -> list[Placement]:
    """Return placements, best first, without those that are nearly one before them."""
    kept: list[Placement] = []
    for place in places:
        if not any(_is_near(place, other, radius) for other in kept):
            kept.append(place)
    return kept


def _is_near(one: Placement, other: Placement, radius: float) -> bool:
    cosine = (float((one.rotation * other.rotation).sum()) - 1) / 2  # of the angle between them
    apart = float(np.linalg.norm(one.shift_angstrom - other.shift_angstrom))
    return cosine > math.cos(math.radians(DISTINCT_DEG)) and apart < DISTINCT_RADII * radius
