"""Slices out of Fourier grids of several volumes, and their adjoint, compiled for CPUs.

A grid is (z, y, x, features) in half of the space: z from 0, y and x about the middle of their
axes. The features are the real parts of all volumes, then the imaginary parts. The coefficient at
−k is the conjugate of that at k, so a point with z < 0 is taken at its Friedel mate. Interpolation
is trilinear. Points at ``limit`` or beyond are outside: slices are 0 there.
"""

from typing import no_type_check

import numba as nb
import numpy as np

from raydrgn.shapes import Float, Int

ONE = np.float32(1.0)


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
    if z < 0:
        return is_outside, -ONE, -x, -y, -z
    return is_outside, ONE, x, y, z


@nb.njit(fastmath=True, cache=True, parallel=True)
@no_type_check  # numba has types of its own
def gather(
    grid: Float[np.ndarray, "z y x f"],
    rotations: Float[np.ndarray, "b 3 3"],
    points: Float[np.ndarray, "n 2"],
    factors: Float[np.ndarray, "b n"],
    limit: float,
    out: Float[np.ndarray, "b n f"],
) -> None:
    """Fill ``out`` with the grid at the rotated points, times a factor for each point.

    Args:
        grid: Of one or more volumes.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        limit: Radius in grid points from which on there is nothing.
        out: Values at each point.
    """
    num, count, features = len(rotations), len(points), grid.shape[3]
    half, middle = features // 2, grid.shape[2] // 2
    for b in nb.prange(num):
        r = rotations[b]
        for j in range(count):
            row = out[b, j]
            is_outside, sign, x, y, z = _in_half_space(r, points[j, 0], points[j, 1], limit)
            if is_outside:
                for f in range(features):
                    row[f] = np.float32(0.0)
                continue
            c = factors[b, j]
            x += np.float32(middle)
            y += np.float32(middle)
            ix, iy, iz = int(x), int(y), int(z)
            fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
            gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
            w000 = c * gz * gy * gx
            w001 = c * gz * gy * fx
            w010 = c * gz * fy * gx
            w011 = c * gz * fy * fx
            w100 = c * fz * gy * gx
            w101 = c * fz * gy * fx
            w110 = c * fz * fy * gx
            w111 = c * fz * fy * fx
            g000, g001 = grid[iz, iy, ix], grid[iz, iy, ix + 1]
            g010, g011 = grid[iz, iy + 1, ix], grid[iz, iy + 1, ix + 1]
            g100, g101 = grid[iz + 1, iy, ix], grid[iz + 1, iy, ix + 1]
            g110, g111 = grid[iz + 1, iy + 1, ix], grid[iz + 1, iy + 1, ix + 1]
            for f in range(features):
                row[f] = (
                    w000 * g000[f]
                    + w001 * g001[f]
                    + w010 * g010[f]
                    + w011 * g011[f]
                    + w100 * g100[f]
                    + w101 * g101[f]
                    + w110 * g110[f]
                    + w111 * g111[f]
                )
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
    for slab in nb.prange(len(bounds) - 1):
        first, stop = bounds[slab], bounds[slab + 1]
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
                for corner in range(8):
                    dz, dy, dx = corner >> 2, (corner >> 1) & 1, corner & 1
                    if iz + dz < first or iz + dz >= stop:
                        continue
                    w = c * (fz if dz else gz) * (fy if dy else gy) * (fx if dx else gx)
                    target = grid[iz + dz, iy + dy, ix + dx]
                    for f in range(half):
                        target[f] += w * row[f]
                    v = w * sign
                    for f in range(half, features):
                        target[f] += v * row[f]


def slab_bounds(planes: int, slabs: int) -> Int[np.ndarray, " slabs1"]:
    """Return the planes at which slabs begin, and the end: about as many points in each.

    Points of slices lie the more densely the nearer they are to the plane z = 0.
    """
    share = np.arange(slabs + 1) / slabs
    return np.round(planes * (1 - np.sqrt(1 - share))).astype(np.int64)


@nb.njit(fastmath=True, cache=True, parallel=True)
@no_type_check  # numba has types of its own
def gather_tangents(
    grid: Float[np.ndarray, "z y x f"],
    rotations: Float[np.ndarray, "b 3 3"],
    points: Float[np.ndarray, "n 2"],
    factors: Float[np.ndarray, "b n"],
    moments: Float[np.ndarray, "b k"],
    limit: float,
    out: Float[np.ndarray, "b n 2 3"],
) -> None:
    """Fill ``out`` with the derivatives of slices by a rotation of the frame of the image.

    The volumes are added up with the moments of each image first. A point k moves by k × e in the
    frame of the image, when that turns about the axis e.

    Args:
        grid: Of one or more volumes.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        moments: Of each volume, for each image.
        limit: Radius in grid points from which on there is nothing.
        out: Real and imaginary part by each component of the rotation vector, per radian.
    """
    num, count, half = len(rotations), len(points), grid.shape[3] // 2
    middle = grid.shape[2] // 2
    for b in nb.prange(num):
        r, m = rotations[b], moments[b]
        for j in range(count):
            row = out[b, j]
            kx, ky = points[j, 0], points[j, 1]
            is_outside, sign, x, y, z = _in_half_space(r, kx, ky, limit)
            if is_outside:
                for part in range(2):
                    for axis in range(3):
                        row[part, axis] = np.float32(0.0)
                continue
            x += np.float32(middle)
            y += np.float32(middle)
            ix, iy, iz = int(x), int(y), int(z)
            fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
            gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
            rx = ry = rz = jx = jy = jz = np.float32(0.0)  # gradients of both parts
            for corner in range(8):
                dz, dy, dx = corner >> 2, (corner >> 1) & 1, corner & 1
                values = grid[iz + dz, iy + dy, ix + dx]
                real = imaginary = np.float32(0.0)
                for f in range(half):
                    real += m[f] * values[f]
                    imaginary += m[f] * values[half + f]
                wx, wy, wz = (fx if dx else gx), (fy if dy else gy), (fz if dz else gz)
                tx = wy * wz * (ONE if dx else -ONE)
                ty = wx * wz * (ONE if dy else -ONE)
                tz = wx * wy * (ONE if dz else -ONE)
                rx += tx * real
                ry += ty * real
                rz += tz * real
                jx += tx * imaginary
                jy += ty * imaginary
                jz += tz * imaginary
            # At a Friedel mate the value is the conjugate, and the gradient has the other sign.
            c = factors[b, j]
            cr, cj = c * sign, c
            gr0 = rx * r[0, 0] + ry * r[0, 1] + rz * r[0, 2]
            gr1 = rx * r[1, 0] + ry * r[1, 1] + rz * r[1, 2]
            gr2 = rx * r[2, 0] + ry * r[2, 1] + rz * r[2, 2]
            gj0 = jx * r[0, 0] + jy * r[0, 1] + jz * r[0, 2]
            gj1 = jx * r[1, 0] + jy * r[1, 1] + jz * r[1, 2]
            gj2 = jx * r[2, 0] + jy * r[2, 1] + jz * r[2, 2]
            row[0, 0], row[1, 0] = -ky * gr2 * cr, -ky * gj2 * cj
            row[0, 1], row[1, 1] = kx * gr2 * cr, kx * gj2 * cj
            row[0, 2] = (ky * gr0 - kx * gr1) * cr
            row[1, 2] = (ky * gj0 - kx * gj1) * cj
