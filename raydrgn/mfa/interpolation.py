"""Slices out of Fourier grids of several volumes, and their adjoint, on any device.

The same sums as ``raydrgn.mfa.kernels``, which has the layout of grids: compiled loops on a CPU,
gathers and scatters of torch elsewhere.
"""

import itertools
from collections.abc import Iterator

import numba
import torch
from torch import Tensor

from raydrgn.mfa import kernels
from raydrgn.shapes import Bool, Float, Int


def gather(
    grid: Float[Tensor, "z y x f"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    *,
    limit: float,
) -> Float[Tensor, "b n f"]:
    """Return the grid at rotated points, times a factor for each point.

    Args:
        grid: Real parts of all volumes, then the imaginary parts; z from 0.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        limit: Radius in grid points from which on slices are 0.
    """
    if grid.device.type == "cpu":
        out = torch.empty(*factors.shape, grid.shape[3])
        kernels.gather(
            grid.contiguous().numpy(),
            rotations.contiguous().numpy(),
            points.contiguous().numpy(),
            factors.contiguous().numpy(),
            limit,
            out.numpy(),
        )
        return out
    return gather_by_index(grid, rotations, points, factors, limit=limit)


def insert(
    grid: Float[Tensor, "z y x f"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    values: Float[Tensor, "b n f"],
    *,
    limit: float,
) -> None:
    """Add values at rotated points to the grid, times a factor: the adjoint of ``gather``."""
    if grid.device.type == "cpu":
        kernels.insert(
            grid.numpy(),
            rotations.contiguous().numpy(),
            points.contiguous().numpy(),
            factors.contiguous().numpy(),
            limit,
            values.contiguous().numpy(),
            kernels.slab_bounds(len(grid), numba.get_num_threads()),
        )
        return
    insert_by_index(grid, rotations, points, factors, values, limit=limit)


def gather_tangents(
    grid: Float[Tensor, "z y x f"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    moments: Float[Tensor, "b k"],
    *,
    limit: float,
) -> Float[Tensor, "b n 2 3"]:
    """Return the derivatives of slices by a rotation of the frame of the image, per radian.

    Args:
        grid: As in ``gather``.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        moments: Of each volume, for each image; slices are those of the sum.
        limit: Radius in grid points from which on slices are 0.
    """
    if grid.device.type == "cpu":
        out = torch.empty(*factors.shape, 2, 3)
        kernels.gather_tangents(
            grid.contiguous().numpy(),
            rotations.contiguous().numpy(),
            points.contiguous().numpy(),
            factors.contiguous().numpy(),
            moments.contiguous().numpy(),
            limit,
            out.numpy(),
        )
        return out
    return tangents_by_index(grid, rotations, points, factors, moments, limit=limit)


def tangents_by_index(
    grid: Float[Tensor, "z y x f"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    moments: Float[Tensor, "b k"],
    *,
    limit: float,
) -> Float[Tensor, "b n 2 3"]:
    """Return what ``gather_tangents`` does, by operations of torch alone."""
    position, is_friedel_mate, is_outside = _in_half_space(rotations, points, limit)
    flat = grid.flatten(0, 2)
    fraction = position - position.floor()
    gradient = flat.new_zeros(*factors.shape, 2, 3)
    corners = zip(itertools.product((0, 1), repeat=3), _corners(position, grid.shape), strict=True)
    for corner, (index, _) in corners:
        parts = flat[index].unflatten(-1, (2, -1)) @ moments[:, None, :, None]  # (b n 2 1)
        weights = [f if far else 1 - f for f, far in zip(fraction.unbind(-1), corner, strict=True)]
        slopes = [
            (1 if corner[axis] else -1) * weights[axis - 2] * weights[axis - 1] for axis in range(3)
        ]
        gradient += parts * torch.stack(slopes, dim=-1)[..., None, :]
    factor = torch.where(is_outside, 0.0, factors)
    real = torch.where(is_friedel_mate, -factor, factor)
    in_image = gradient @ rotations.mT[:, None]  # by the position in the frame of the image
    in_image = in_image * torch.stack([real, factor], dim=-1)[..., None]
    along_x, along_y, along_z = in_image.unbind(-1)
    kx, ky = (axis[:, None] for axis in points.unbind(-1))
    return torch.stack([-ky * along_z, kx * along_z, ky * along_x - kx * along_y], dim=-1)


def gather_by_index(
    grid: Float[Tensor, "z y x f"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    *,
    limit: float,
) -> Float[Tensor, "b n f"]:
    """Return what ``gather`` does, by operations of torch alone."""
    position, is_friedel_mate, is_outside = _in_half_space(rotations, points, limit)
    flat = grid.flatten(0, 2)
    out = flat.new_zeros(*factors.shape, grid.shape[3])
    for index, weight in _corners(position, grid.shape):
        out += flat[index] * weight[..., None]
    out *= torch.where(is_outside, 0.0, factors)[..., None]
    return torch.where(is_friedel_mate[..., None], _conjugate(out), out)


def insert_by_index(
    grid: Float[Tensor, "z y x f"],
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    values: Float[Tensor, "b n f"],
    *,
    limit: float,
) -> None:
    """Do what ``insert`` does, by operations of torch alone."""
    position, is_friedel_mate, is_outside = _in_half_space(rotations, points, limit)
    added = torch.where(is_friedel_mate[..., None], _conjugate(values), values)
    added = added * torch.where(is_outside, 0.0, factors)[..., None]
    flat = grid.view(-1, grid.shape[3])
    for index, weight in _corners(position, grid.shape):
        flat.index_add_(0, index.flatten(), (added * weight[..., None]).flatten(0, 1))


def _in_half_space(
    rotations: Float[Tensor, "b 3 3"], points: Float[Tensor, "n 2"], limit: float
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Return the points in half of the space; which are Friedel mates, and which outside."""
    position = points @ rotations[:, :2]
    is_outside = position.square().sum(-1) >= limit**2
    is_friedel_mate = position[..., 2] < 0
    position = torch.where(is_friedel_mate[..., None], -position, position)
    return torch.where(is_outside[..., None], 0.0, position), is_friedel_mate, is_outside


def _corners(
    position: Float[Tensor, "b n 3"], shape: torch.Size
) -> Iterator[tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]]:
    """Yield the index of each of the eight grid points around, and its trilinear weight."""
    middle = shape[2] // 2
    first = position.floor()
    fraction = position - first
    ix, iy, iz = first.long().unbind(-1)
    for corner in itertools.product((0, 1), repeat=3):
        dx, dy, dz = corner
        index = ((iz + dz) * shape[1] + iy + dy + middle) * shape[2] + ix + dx + middle
        parts = [f if far else 1 - f for f, far in zip(fraction.unbind(-1), corner, strict=True)]
        yield index, parts[0] * parts[1] * parts[2]


def _conjugate(values: Float[Tensor, "b n f"]) -> Float[Tensor, "b n f"]:
    real, imaginary = values.chunk(2, dim=-1)
    return torch.cat([real, -imaginary], dim=-1)
