"""Density of atoms at a resolution, as ChimeraX's molmap defines it.

Each atom is a Gaussian of its atomic number with σ = resolution / (π√2), cut at 5σ. The sum is
sampled on a grid of its own, spaced by a third of the resolution, and brought to the map's grid by
linear interpolation: so the voxels of coarse maps hold what ChimeraX's do.

References:
    The documentation of ChimeraX's commands ``molmap`` and ``volume resample``.
"""

import math

import numpy as np

from raydrgn.shapes import Float, Int

CUTOFF_SIGMAS = 5.0
PADDING = 3.0  # of the grid around the atoms, in resolutions
ATOMS_AT_A_TIME = 4096


def density_of_atoms(
    positions_angstrom: Float[np.ndarray, "n 3"],
    atomic_numbers: Int[np.ndarray, " n"],
    *,
    resolution_angstrom: float,
    box: int,
    pixel_size_angstrom: float,
) -> Float[np.ndarray, "d d d"]:
    """Return the density on a map's grid; its sum × voxel volume is about that of the numbers.

    Atoms too far from the map to change it are left out, whatever their number and distance.

    Args:
        positions_angstrom: x, y, z from the first voxel of the map.
        atomic_numbers: Weight of each atom.
        resolution_angstrom: Of the density.
        box: Of the map.
        pixel_size_angstrom: Of the map.
    """
    spacing = resolution_angstrom / 3
    sigma_angstrom = resolution_angstrom / (math.pi * math.sqrt(2))
    reach = CUTOFF_SIGMAS * sigma_angstrom + spacing  # interpolation adds a point
    last = (box - 1) * pixel_size_angstrom
    is_near = ((positions_angstrom >= -reach) & (positions_angstrom <= last + reach)).all(axis=1)
    positions_angstrom, atomic_numbers = positions_angstrom[is_near], atomic_numbers[is_near]
    if not len(positions_angstrom):
        return np.zeros((box, box, box), dtype=np.float32)
    first = positions_angstrom.min(axis=0) - PADDING * resolution_angstrom
    extent = positions_angstrom.max(axis=0) + PADDING * resolution_angstrom - first
    shape = np.ceil(extent / spacing).astype(int) + 1  # x, y, z
    own = _on_own_grid(
        (positions_angstrom - first) / spacing,
        atomic_numbers,
        sigma=sigma_angstrom / spacing,
        shape=shape,
    )
    x, y, z = (
        _interpolation(
            (np.arange(box) * pixel_size_angstrom - first[axis]) / spacing, int(shape[axis])
        )
        for axis in range(3)
    )
    density = np.einsum("zk,yj,xi,kji->zyx", z, y, x, own, optimize=True)
    return (density / spacing**3).astype(np.float32)


def _on_own_grid(
    positions: Float[np.ndarray, "n 3"],
    weights: Int[np.ndarray, " n"],
    *,
    sigma: float,
    shape: Int[np.ndarray, "3"],
) -> Float[np.ndarray, "k j i"]:
    """Return the sum of Gaussians on a grid of unit spacing, positions in units of it."""
    reach = CUTOFF_SIGMAS * sigma
    ticks = np.arange(math.floor(2 * reach) + 1)
    nx, ny, nz = (int(size) for size in shape)
    total = np.zeros(nx * ny * nz)
    for start in range(0, len(positions), ATOMS_AT_A_TIME):
        part = positions[start : start + ATOMS_AT_A_TIME]
        points = np.ceil(part - reach).astype(int)[:, :, None] + ticks  # (n 3 t)
        away = points - part[:, :, None]
        values = np.exp(-(away**2) / (2 * sigma**2)) * (np.abs(away) <= reach)
        values *= (points >= 0) & (points < shape[:, None])
        points = np.clip(points, 0, shape[:, None] - 1)
        flat = (points[:, 2, :, None, None] * ny + points[:, 1, None, :, None]) * nx + points[
            :, 0, None, None, :
        ]
        product = (
            values[:, 2, :, None, None] * values[:, 1, None, :, None] * values[:, 0, None, None, :]
        )
        product *= weights[start : start + ATOMS_AT_A_TIME, None, None, None]
        total += np.bincount(flat.ravel(), product.ravel(), minlength=len(total))
    return total.reshape(nz, ny, nx) / ((2 * math.pi) ** 1.5 * sigma**3)


def _interpolation(at: Float[np.ndarray, " d"], count: int) -> Float[np.ndarray, "d count"]:
    """Return the matrix that interpolates values at 0 … count − 1 linearly; 0 outside of these."""
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(count)), 0, None)
    weights[(at < 0) | (at > count - 1)] = 0
    return weights
