"""Slices out of Fourier grids of several volumes, and their adjoint, compiled for CPUs.

The features of a grid point are the real parts of all volumes, then the imaginary parts. Grids are
half of the space, z from 0, y and x about their middle: those that slices are taken of have the
points of ``SliceGrid``, those of sums are (z, y, x, features). The coefficient at −k is the
conjugate of that at k, so a point with z < 0 is taken at its Friedel mate. Interpolation is
trilinear. Points at ``limit`` or beyond are outside: slices are 0 there.
"""

from typing import no_type_check

import numba as nb
import numpy as np

from raydrgn.mfa import simd
from raydrgn.mfa.simd import SIMD_WIDTH
from raydrgn.shapes import Float, Int

ONE = np.float32(1.0)

INLINE = "always"
"""Of what is used at every point: as a call it makes slices of 64 px and more a third slower."""

SLOPE_STEP = 0.5
"""Grid points between a point and those ahead and behind, of whose values a slope is made.

The slope of a trilinear interpolation itself jumps where a point goes over from one cell to the
next, so that rotations that differ by rounding would be refined to others.
"""

INSIDE = 1 - 1e-5
"""Of the square of ``limit``: what lies within it after rounding."""


@nb.njit(fastmath=True, cache=True, inline=INLINE)
@no_type_check  # numba has types of its own
def _with_positive_z(x: float, y: float, z: float) -> tuple[float, float, float, float]:
    """Return −1 and the Friedel mate of a point with z < 0, else 1 and the point."""
    if z < 0:
        return -ONE, -x, -y, -z
    return ONE, x, y, z


@nb.njit(fastmath=True, cache=True)
@no_type_check  # numba has types of its own
def _in_half_space(
    rotation: Float[np.ndarray, "3 3"], kx: float, ky: float, limit: float
) -> tuple[bool, float, float, float, float]:
    """Return whether a point is outside, −1 for a Friedel mate, and where it is: (x, y, z)."""
    x = kx * rotation[0, 0] + ky * rotation[1, 0]
    y = kx * rotation[0, 1] + ky * rotation[1, 1]
    z = kx * rotation[0, 2] + ky * rotation[1, 2]
    is_outside = x * x + y * y + z * z >= limit * limit
    sign, x, y, z = _with_positive_z(x, y, z)
    return is_outside, sign, x, y, z


@nb.njit(fastmath=True, cache=True)
@no_type_check  # numba has types of its own
def _edges(
    at_zero: Int[np.ndarray, "z y"], iz: int, iy: int, x: int, features: int
) -> tuple[int, int, int, int]:
    """Return where the four edges of a cell along x begin in the values of a ``SliceGrid``."""
    return (
        (at_zero[iz, iy] + x) * features,
        (at_zero[iz, iy + 1] + x) * features,
        (at_zero[iz + 1, iy] + x) * features,
        (at_zero[iz + 1, iy + 1] + x) * features,
    )


@nb.njit(fastmath=True, cache=True)
@no_type_check  # numba has types of its own
def _flat(grid: Float[np.ndarray, "z y x f"]) -> tuple[Float[np.ndarray, " n"], int, int]:
    """Return a grid as a line, and how far neighbours along y and z lie apart in it."""
    per_y = grid.shape[2] * grid.shape[3]
    return grid.reshape(-1), per_y, grid.shape[1] * per_y


@nb.njit(fastmath=True, cache=True)
@no_type_check  # numba has types of its own
def _mix_corners(
    out: Float[np.ndarray, " f"],
    flat: Float[np.ndarray, " n"],
    starts: tuple[int, int, int, int],
    features: int,
    weights: tuple[float, float, float, float, float, float, float, float],
) -> None:
    """Set ``out`` to the sum over the eight grid points of a cell, each with a weight.

    Args:
        out: Gets the features.
        flat: The grid.
        starts: Where in it the four edges of the cell along x begin.
        features: Of a grid point.
        weights: Of the eight grid points, of which neighbours along x follow each other.
    """
    s00, s01, s10, s11 = starts
    if features < SIMD_WIDTH:
        w000, w001, w010, w011, w100, w101, w110, w111 = weights
        for f in range(features):
            out[f] = (
                w000 * flat[s00 + f]
                + w001 * flat[s00 + features + f]
                + w010 * flat[s01 + f]
                + w011 * flat[s01 + features + f]
                + w100 * flat[s10 + f]
                + w101 * flat[s10 + features + f]
                + w110 * flat[s11 + f]
                + w111 * flat[s11 + features + f]
            )
        return
    for first in range(0, features, SIMD_WIDTH):
        f = min(first, features - SIMD_WIDTH)  # the last eight overlap those before
        corners = (
            *(s00 + f, s00 + features + f, s01 + f, s01 + features + f),
            *(s10 + f, s10 + features + f, s11 + f, s11 + features + f),
        )
        simd.mix(out, f, flat, corners, weights)


@nb.njit(fastmath=True, cache=True, inline=INLINE)
@no_type_check  # numba has types of its own
def _take(
    out: Float[np.ndarray, " f"],
    flat: Float[np.ndarray, " n"],
    at_zero: Int[np.ndarray, "z y"],
    x: float,
    y: float,
    z: float,
    factor: float,
) -> None:
    """Set ``out`` to the features of a ``SliceGrid`` at a point with z >= 0, times a factor."""
    middle = len(at_zero) - 1
    x += np.float32(middle)
    y += np.float32(middle)
    ix, iy, iz = int(x), int(y), int(z)
    fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
    gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
    near, far = factor * gz, factor * fz
    weights = (
        *(near * gy * gx, near * gy * fx, near * fy * gx, near * fy * fx),
        *(far * gy * gx, far * gy * fx, far * fy * gx, far * fy * fx),
    )
    edges = _edges(at_zero, iz, iy, ix - middle, len(out))
    _mix_corners(out, flat, edges, len(out), weights)


@nb.njit(fastmath=True, cache=True, parallel=True)
@no_type_check  # numba has types of its own
def gather(
    values: Float[np.ndarray, "g f"],
    at_zero: Int[np.ndarray, "z y"],
    cells: tuple[int, int],
    rotations: Float[np.ndarray, "b 3 3"],
    points: Float[np.ndarray, "n 2"],
    factors: Float[np.ndarray, "b n"],
    out: Float[np.ndarray, "b n f"],
) -> None:
    """Fill ``out`` with the grid at the rotated points, times a factor for each point.

    Args:
        values: Of a ``SliceGrid``.
        at_zero: Likewise.
        cells: The first plane of its cells, and that after the last; other points are left.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        out: Values at each point.
    """
    num, count, features = len(rotations), len(points), values.shape[1]
    half, flat, limit = features // 2, values.reshape(-1), float(len(at_zero) - 1)
    for b in nb.prange(num):
        r = rotations[b]
        for j in range(count):
            row = out[b, j]
            is_outside, sign, x, y, z = _in_half_space(r, points[j, 0], points[j, 1], limit)
            if is_outside:
                for f in range(features):
                    row[f] = np.float32(0.0)
                continue
            if not cells[0] <= int(z) < cells[1]:
                continue
            _take(row, flat, at_zero, x, y, z, factors[b, j])
            if sign < 0:
                for f in range(half, features):
                    row[f] = -row[f]


@nb.njit(fastmath=True, cache=True, parallel=True)
@no_type_check  # numba has types of its own
def insert(
    grid: Float[np.ndarray, "z y x f"],
    rotations: Float[np.ndarray, "b 3 3"],
    points: Float[np.ndarray, "n 2"],
    factors: Float[np.ndarray, "b n"],
    limit: float,
    values: Float[np.ndarray, "b n f"],
    bounds: Int[np.ndarray, " slabs1"],
) -> None:
    """Add values at rotated points to the grid, times a factor: the adjoint of ``gather``.

    Each thread has the planes between two of the ``bounds``, so that a grid point gets what is
    added to it in one order whatever their number: the sums are equal to the last bit.
    """
    num, count, features = len(rotations), len(points), grid.shape[3]
    half, middle = features // 2, grid.shape[2] // 2
    flat, per_y, per_z = _flat(grid)
    vectors = -(-features // SIMD_WIDTH)
    last = max(features - SIMD_WIDTH, 0)  # where the last eight begin, of which some are 0
    for slab in nb.prange(len(bounds) - 1):
        first, stop = bounds[slab], bounds[slab + 1]
        added = np.zeros(vectors * SIMD_WIDTH, np.float32)
        for b in range(num):
            r = rotations[b]
            for j in range(count):
                is_outside, sign, x, y, z = _in_half_space(r, points[j, 0], points[j, 1], limit)
                if is_outside:
                    continue
                iz = int(z)
                if iz + 1 < first or iz >= stop:
                    continue
                c = factors[b, j]
                x += np.float32(middle)
                y += np.float32(middle)
                ix, iy = int(x), int(y)
                fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
                gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
                row = values[b, j]
                for f in range(features):
                    at = (
                        f
                        if f < (vectors - 1) * SIMD_WIDTH
                        else f - last + (vectors - 1) * SIMD_WIDTH
                    )
                    added[at] = row[f] * (c if f < half else c * sign)
                start = iz * per_z + iy * per_y + ix * features
                if first <= iz < stop:
                    weights = (gz * gy * gx, gz * gy * fx, gz * fy * gx, gz * fy * fx)
                    _add_square(flat, start, per_y, features, added, weights)
                if first <= iz + 1 < stop:
                    weights = (fz * gy * gx, fz * gy * fx, fz * fy * gx, fz * fy * fx)
                    _add_square(flat, start + per_z, per_y, features, added, weights)


@nb.njit(fastmath=True, cache=True)
@no_type_check  # numba has types of its own
def _add_square(
    flat: Float[np.ndarray, " n"],
    start: int,
    per_y: int,
    features: int,
    added: Float[np.ndarray, " width"],
    weights: tuple[float, float, float, float],
) -> None:
    """Add the features of a point to the four grid points around it in a plane."""
    w00, w01, w10, w11 = weights
    if features < SIMD_WIDTH:
        for f in range(features):
            flat[start + f] += w00 * added[f]
            flat[start + features + f] += w01 * added[f]
            flat[start + per_y + f] += w10 * added[f]
            flat[start + per_y + features + f] += w11 * added[f]
        return
    for f in range(0, len(added), SIMD_WIDTH):
        i = start + min(f, features - SIMD_WIDTH)
        simd.add(flat, i, added, f, w00)
        simd.add(flat, i + features, added, f, w01)
        simd.add(flat, i + per_y, added, f, w10)
        simd.add(flat, i + per_y + features, added, f, w11)


def slab_bounds(planes: int, slabs: int) -> Int[np.ndarray, " slabs1"]:
    """Return the planes at which slabs begin, and the end: about as many points in each.

    Points of slices lie the more densely the nearer they are to the plane z = 0.
    """
    share = np.arange(slabs + 1) / slabs
    return np.round(planes * (1 - np.sqrt(1 - share))).astype(np.int64)


@nb.njit(fastmath=True, cache=True)
@no_type_check  # numba has types of its own
def _slope(
    flat: Float[np.ndarray, " n"],
    at_zero: Int[np.ndarray, "z y"],
    place: tuple[float, float, float],
    step: tuple[float, float, float],
    moments: Float[np.ndarray, " k"],
    buffers: Float[np.ndarray, "2 f"],
) -> tuple[float, float]:
    """Return by how much the volumes, added up with their moments, change along a step.

    Half the difference of their real and imaginary parts a step ahead and a step behind, over the
    length of a step.
    """
    (x, y, z), (dx, dy, dz) = place, step
    ahead, behind = buffers[0], buffers[1]
    sign_ahead, ax, ay, az = _with_positive_z(x + dx, y + dy, z + dz)
    sign_behind, bx, by, bz = _with_positive_z(x - dx, y - dy, z - dz)
    _take(ahead, flat, at_zero, ax, ay, az, ONE)
    _take(behind, flat, at_zero, bx, by, bz, ONE)
    half = len(ahead) // 2
    real = imaginary = np.float32(0.0)
    for f in range(half):
        real += moments[f] * (ahead[f] - behind[f])
        change = sign_ahead * ahead[half + f] - sign_behind * behind[half + f]
        imaginary += moments[f] * change
    per_step = np.float32(0.5 / SLOPE_STEP)
    return real * per_step, imaginary * per_step


@nb.njit(fastmath=True, cache=True, parallel=True)
@no_type_check  # numba has types of its own
def gather_tangents(
    values: Float[np.ndarray, "g f"],
    at_zero: Int[np.ndarray, "z y"],
    cells: tuple[int, int],
    rotations: Float[np.ndarray, "b 3 3"],
    points: Float[np.ndarray, "n 2"],
    factors: Float[np.ndarray, "b n"],
    moments: Float[np.ndarray, "b k"],
    out: Float[np.ndarray, "b n 2 3"],
) -> None:
    """Fill ``out`` with the derivatives of slices by a rotation of the frame of the image.

    The volumes are added up with the moments of each image first. A point k moves by k × e in the
    frame of the image, when that turns about the axis e: out of the plane, or along its circle.
    See ``SLOPE_STEP``. The derivative is 0 at points so near to ``limit`` that a step leads there.

    Args:
        values: Of a ``SliceGrid``.
        at_zero: Likewise.
        cells: As in ``gather``.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        moments: Of each volume, for each image.
        out: Real and imaginary part by each component of the rotation vector, per radian.
    """
    num, count, features = len(rotations), len(points), values.shape[1]
    flat, limit, h = values.reshape(-1), float(len(at_zero) - 1), np.float32(SLOPE_STEP)
    for b in nb.prange(num):
        r, m = rotations[b], moments[b]
        buffers = np.empty((2, features), np.float32)
        dx, dy, dz = h * r[2, 0], h * r[2, 1], h * r[2, 2]
        for j in range(count):
            row = out[b, j]
            kx, ky = points[j, 0], points[j, 1]
            x = kx * r[0, 0] + ky * r[1, 0]
            y = kx * r[0, 1] + ky * r[1, 1]
            z = kx * r[0, 2] + ky * r[1, 2]
            radius = np.sqrt(kx * kx + ky * ky)
            reached = x * x + y * y + z * z + dx * dx + dy * dy + dz * dz
            if radius == 0 or reached >= limit * limit * INSIDE:
                for part in range(2):
                    for axis in range(3):
                        row[part, axis] = np.float32(0.0)
                continue
            if not cells[0] <= int(abs(z)) < cells[1]:
                continue
            out_of_plane = _slope(flat, at_zero, (x, y, z), (dx, dy, dz), m, buffers)
            u, v = h * ky / radius, -h * kx / radius
            along = (
                u * r[0, 0] + v * r[1, 0],
                u * r[0, 1] + v * r[1, 1],
                u * r[0, 2] + v * r[1, 2],
            )
            on_circle = _slope(flat, at_zero, (x, y, z), along, m, buffers)
            c = factors[b, j]
            for part in range(2):
                row[part, 0] = -ky * out_of_plane[part] * c
                row[part, 1] = kx * out_of_plane[part] * c
                row[part, 2] = radius * on_circle[part] * c
