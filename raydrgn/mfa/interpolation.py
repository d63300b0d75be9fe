"""Slices out of Fourier grids of several volumes, and their adjoint, on any device.

Slices are taken of a ``SliceGrid``; what is inserted is added up on a grid with all points of half
a cube. The same sums as ``raydrgn.mfa.kernels``, which has the layout of grids: compiled loops on a
CPU, gathers and scatters of torch elsewhere.
"""

import itertools
from collections.abc import Iterator

import numba
import torch
from torch import Tensor

from raydrgn.mfa import kernels
from raydrgn.mfa.kernels import INSIDE, SLOPE_STEP
from raydrgn.mfa.slice_grid import SliceGrid
from raydrgn.shapes import Bool, Float, Int


def gather(
    grid: SliceGrid,
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    out: Float[Tensor, "b n f"] | None = None,
) -> Float[Tensor, "b n f"]:
    """Return the grid at rotated points, times a factor for each point.

    Args:
        grid: Of all volumes; a slab of it gives the points in its cells, and leaves the others.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        out: From the slabs before, which is filled.
    """
    if factors.device.type == "cpu":
        if out is None:
            out = torch.empty(*factors.shape, grid.values.shape[1])
        kernels.gather(
            grid.values.numpy(),
            grid.at_zero.numpy(),
            (grid.cells.start, grid.cells.stop),
            rotations.contiguous().numpy(),
            points.contiguous().numpy(),
            factors.contiguous().numpy(),
            out.numpy(),
        )
        return out
    assert grid.is_whole
    return gather_by_index(grid, rotations, points, factors)


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
    grid: SliceGrid,
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    moments: Float[Tensor, "b k"],
    out: Float[Tensor, "b n 2 3"] | None = None,
) -> Float[Tensor, "b n 2 3"]:
    """Return the derivatives of slices by a rotation of the frame of the image, per radian.

    Args:
        grid: As in ``gather``.
        rotations: Volume frame to image frame; may include a scale.
        points: (kx, ky) in grid points.
        factors: Such as the contrast transfer function.
        moments: Of each volume, for each image; slices are those of the sum.
        out: As in ``gather``.
    """
    if factors.device.type == "cpu":
        if out is None:
            out = torch.empty(*factors.shape, 2, 3)
        kernels.gather_tangents(
            grid.values.numpy(),
            grid.at_zero.numpy(),
            (grid.cells.start, grid.cells.stop),
            rotations.contiguous().numpy(),
            points.contiguous().numpy(),
            factors.contiguous().numpy(),
            moments.contiguous().numpy(),
            out.numpy(),
        )
        return out
    assert grid.is_whole
    return tangents_by_index(grid, rotations, points, factors, moments)


def tangents_by_index(
    grid: SliceGrid,
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
    moments: Float[Tensor, "b k"],
) -> Float[Tensor, "b n 2 3"]:
    """Return what ``gather_tangents`` does, by operations of torch alone."""
    position = points @ rotations[:, :2]
    outward = SLOPE_STEP * rotations[:, None, 2]
    reached = position.square().sum(-1) + outward.square().sum(-1)
    radius = points.norm(dim=1, keepdim=True)
    is_left_out = (reached >= INSIDE * grid.reach**2) | (radius[:, 0] == 0)
    turned = torch.stack([points[:, 1], -points[:, 0]], dim=1) / radius.clamp(min=1e-6)
    circle = SLOPE_STEP * turned @ rotations[:, :2]
    out_of_plane, on_circle = (
        (
            _mixed_values(grid, position + step, moments)
            - _mixed_values(grid, position - step, moments)
        )
        * (torch.where(is_left_out, 0.0, factors) / (2 * SLOPE_STEP))[..., None]
        for step in (outward, circle)
    )
    kx, ky = (axis[:, None] for axis in points.unbind(-1))
    return torch.stack([-ky * out_of_plane, kx * out_of_plane, radius * on_circle], dim=-1)


def _mixed_values(
    grid: SliceGrid, position: Float[Tensor, "b n 3"], moments: Float[Tensor, "b k"]
) -> Float[Tensor, "b n 2"]:
    """Return real and imaginary parts at points of the volumes, added up with their moments."""
    position, is_friedel_mate, _ = _to_half_space(position, grid.reach)
    out = position.new_zeros(*position.shape[:2], 2)
    for (x, y, z), weight in _corners(position):
        of_volumes = grid.values[grid.at_zero[z, y + grid.reach] + x].unflatten(-1, (2, -1))
        # One product for each image: a GPU takes long for one of each of its points.
        mixed = of_volumes.flatten(1, 2) @ moments[..., None]  # (b 2n 1)
        out += mixed.view_as(out) * weight[..., None]
    return torch.where(is_friedel_mate[..., None], _conjugate(out), out)


def gather_by_index(
    grid: SliceGrid,
    rotations: Float[Tensor, "b 3 3"],
    points: Float[Tensor, "n 2"],
    factors: Float[Tensor, "b n"],
) -> Float[Tensor, "b n f"]:
    """Return what ``gather`` does, by operations of torch alone."""
    position, is_friedel_mate, is_outside = _in_half_space(rotations, points, grid.reach)
    out = factors.new_zeros(*factors.shape, grid.values.shape[1])
    for (x, y, z), weight in _corners(position):
        out += grid.values[grid.at_zero[z, y + grid.reach] + x] * weight[..., None]
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
    flat, middle = grid.view(-1, grid.shape[3]), grid.shape[2] // 2
    for (x, y, z), weight in _corners(position):
        index = (z * grid.shape[1] + y + middle) * grid.shape[2] + x + middle
        flat.index_add_(0, index.flatten(), (added * weight[..., None]).flatten(0, 1))


def _in_half_space(
    rotations: Float[Tensor, "b 3 3"], points: Float[Tensor, "n 2"], limit: float
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Return the points in half of the space; which are Friedel mates, and which outside."""
    return _to_half_space(points @ rotations[:, :2], limit)


def _to_half_space(
    position: Float[Tensor, "b n 3"], limit: float
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Return points in half of the space; which are Friedel mates, and which outside.

    A point that is not a number is outside. It would have the index of no grid point, and a GPU
    that is asked for such an index ends the process with a failed assertion.
    """
    is_outside = ~(position.square().sum(-1) < limit**2)
    is_friedel_mate = position[..., 2] < 0
    position = torch.where(is_friedel_mate[..., None], -position, position)
    return torch.where(is_outside[..., None], 0.0, position), is_friedel_mate, is_outside


def _corners(
    position: Float[Tensor, "b n 3"],
) -> Iterator[tuple[list[Int[Tensor, "b n"]], Float[Tensor, "b n"]]]:
    """Yield each of the eight grid points around, (x, y, z), and its trilinear weight."""
    first = position.floor()
    fraction = position - first
    origin = first.long().unbind(-1)
    for corner in itertools.product((0, 1), repeat=3):
        parts = [f if far else 1 - f for f, far in zip(fraction.unbind(-1), corner, strict=True)]
        point = [axis + far for axis, far in zip(origin, corner, strict=True)]
        yield point, parts[0] * parts[1] * parts[2]


def _conjugate(values: Float[Tensor, "b n f"]) -> Float[Tensor, "b n f"]:
    real, imaginary = values.chunk(2, dim=-1)
    return torch.cat([real, -imaginary], dim=-1)
