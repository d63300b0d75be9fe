"""Slices of Fourier grids: the projection theorem, the adjoint, and one result on any device."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from raydrgn.geometry.lattice import half_disc
from raydrgn.mfa import kernels
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.interpolation import (
    gather,
    gather_by_index,
    gather_tangents,
    insert,
    insert_by_index,
    tangents_by_index,
)
from raydrgn.mfa.particles import rotation_matrices
from raydrgn.mfa.slice_grid import PADDING, GridPoints, SliceGrid

CPU = torch.device("cpu")
BOX = 16


@pytest.fixture
def geometry():
    torch.manual_seed(0)
    rotations = torch.from_numpy(Rotation.random(12, random_state=1).as_matrix()).float()
    points = half_disc(BOX).float()
    points = points[points.norm(dim=1) < BOX / 2 - 0.01]  # rounding decides nothing at the edge
    factors = torch.randn(len(rotations), len(points))
    return rotations, points, factors


def blobs() -> torch.Tensor:
    ticks = torch.arange(-(BOX // 2), BOX // 2).float()
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    first = torch.exp(-((x - 2) ** 2 + (y + 1) ** 2 + z**2) / 6)
    second = 0.5 * torch.exp(-((x + 3) ** 2 + y**2 + (z - 2) ** 2) / 5)
    return torch.stack([first, second])


def transforms(volumes, rotations, points):
    """Return the exact transforms of volumes at rotated points, (b n k)."""
    ticks = torch.arange(-(BOX // 2), BOX // 2).double()
    z, y, x = (axis.flatten() for axis in torch.meshgrid(ticks, ticks, ticks, indexing="ij"))
    plane = torch.nn.functional.pad(points, (0, 1)).double()
    phases = torch.exp(-2j * torch.pi / BOX * ((plane @ rotations) @ torch.stack([x, y, z])))
    return phases @ volumes.flatten(1).T.to(torch.complex128)


def random_grid(volumes: int) -> SliceGrid:
    grid = SliceGrid.empty(GridPoints.within(BOX // 2), num_volumes=volumes, device=CPU)
    grid.values.normal_()
    return grid


def test_slices_are_the_transforms_of_projections(geometry):
    rotations, points, _ = geometry
    volumes = blobs()
    grid = VolumeGrids(BOX, device=CPU).for_slices(volumes, radius=BOX / 2)
    ones = torch.ones(len(rotations), len(points))
    found = gather(grid, rotations, points * PADDING, ones)
    for exact, values in zip(transforms(volumes, rotations.double(), points), found, strict=True):
        real, imaginary = values.chunk(2, dim=1)
        error = (torch.complex(real, imaginary) - exact).abs().max(0).values
        assert (error < 0.06 * exact.abs().max(0).values).all()


@pytest.mark.parametrize("scale", [1.0, 1.2])  # 1.2 is of the smallest pixels that are allowed
def test_slices_of_low_frequency_need_a_part_of_the_grid(geometry, scale):
    rotations, points, factors = geometry
    inner = points.norm(dim=1) < BOX / 4
    radius = float(points[inner].norm(dim=1).max())
    grids = VolumeGrids(BOX, device=CPU)
    found = []
    for reach in (BOX / 2, radius):
        grid = grids.for_slices(blobs(), radius=reach)
        place = (scale * rotations, PADDING * points[inner], factors[:, inner])
        found.append(gather(grid, *place))
    assert grid.reach < 0.7 * BOX
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("volumes", [3, 4, 7, 11])  # fewer and more than compiled code takes
def test_both_ways_to_compute_give_the_same(geometry, volumes):
    rotations, points, factors = geometry
    grid = random_grid(volumes)
    one = gather(grid, rotations, points, factors)
    other = gather_by_index(grid, rotations, points, factors)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    values = torch.randn_like(one)
    first, second = VolumeGrids(BOX, device=one.device).empty_sums(volumes).repeat(2, 1, 1, 1, 1)
    insert(first, rotations, points, factors, values, limit=BOX / 2)
    insert_by_index(second, rotations, points, factors, values, limit=BOX / 2)
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-5)
    moments = torch.randn(len(rotations), volumes)
    place = (rotations, points, factors, moments)
    tangents = gather_tangents(grid, *place)
    expected = tangents_by_index(grid, *place)
    torch.testing.assert_close(tangents, expected, atol=1e-3, rtol=1e-4)


def test_a_pose_that_is_not_a_number_is_outside_of_the_grid(geometry):
    """On a GPU the index of such a point would end the process with a failed assertion."""
    rotations, points, factors = geometry
    rotations[1] = torch.nan
    grid, moments = random_grid(3), torch.randn(len(rotations), 3)
    taken = gather_by_index(grid, rotations, points, factors)
    tangents = tangents_by_index(grid, rotations, points, factors, moments)
    for found in (taken, tangents):
        assert not found[1].any()
        assert found[0].any()
    sums, without = torch.zeros(2, BOX // 2 + 1, BOX + 1, BOX + 1, 6)
    insert_by_index(sums, rotations, points, factors, taken, limit=BOX / 2)
    kept = torch.arange(len(rotations)) != 1
    others = (rotations[kept], points, factors[kept], taken[kept])
    insert_by_index(without, *others, limit=BOX / 2)
    torch.testing.assert_close(sums, without)


def test_tangents_are_derivatives_of_transforms(geometry):
    rotations, points, factors = geometry
    volumes = blobs()
    grid = VolumeGrids(BOX, device=CPU).for_slices(volumes, radius=BOX / 2)
    moments = torch.randn(len(rotations), 2)
    place = (rotations, PADDING * points, factors, moments)
    found = gather_tangents(grid, *place)
    other = tangents_by_index(grid, *place)
    torch.testing.assert_close(found, other, atol=1e-3, rtol=1e-4)
    step = 1e-4
    for axis in range(3):
        vector = step * torch.eye(3, dtype=torch.float64)[axis].expand(len(rotations), 3)
        ahead, behind = (
            transforms(volumes, rotation_matrices(sign * vector) @ rotations.double(), points)
            for sign in (1, -1)
        )
        exact = ((ahead - behind) @ moments[..., None].to(torch.complex128))[..., 0] / (2 * step)
        exact = torch.view_as_real(exact * factors)
        inner = points.norm(dim=1) < BOX / 2 - 1  # beyond, a step may leave the ball
        error = (found[..., axis] - exact)[:, inner]
        assert error.square().mean() < 0.02 * exact[:, inner].square().mean()


def test_tangents_do_not_jump_from_cell_to_cell(geometry):
    """Else rotations that differ by rounding, as of sums of more workers, are refined apart."""
    rotations, points, factors = geometry
    grid = VolumeGrids(BOX, device=CPU).for_slices(blobs(), radius=BOX / 2)
    place = (PADDING * points, factors, torch.ones(len(rotations), 2))
    found = gather_tangents(grid, rotations, *place)
    for size in (1e-5, 1e-4):
        turned = rotation_matrices(size * torch.randn(len(rotations), 3)) @ rotations
        change = (gather_tangents(grid, turned, *place) - found).abs().max()
        assert change < 100 * size * found.abs().max()


def test_insertion_is_the_adjoint_of_taking_slices(geometry):
    rotations, points, factors = geometry
    grid = random_grid(2)
    slices = gather(grid, rotations, points, factors)
    values = torch.randn_like(slices)
    sums = torch.zeros(BOX // 2 + 1, BOX + 1, BOX + 1, 4)
    insert(sums, rotations, points, factors, values, limit=BOX / 2)
    product = 0.0
    planes = GridPoints.within(BOX // 2).planes(device=CPU)
    for of_plane, plane in zip(sums, planes, strict=True):
        square = slice(BOX // 2 - plane.reach, BOX // 2 + plane.reach + 1)
        product += float((of_plane[square, square][plane.inside] * grid.values[plane.rows]).sum())
        of_plane[square, square][plane.inside] = 0
    assert product == pytest.approx(float((slices * values).sum()), rel=1e-4)
    assert not sums.any()  # the grid has all points that slices reach


@pytest.mark.parametrize("reach", [1, 2, 5, 16, 33])
def test_a_grid_is_the_points_around_slices(reach):
    """Of 2/3·π·reach³ points in half a ball, and those of cells at its surface."""
    points = GridPoints.within(reach)
    grid = SliceGrid.empty(points, num_volumes=1, device=CPU)
    count = sum(int(plane.inside.sum()) for plane in points.planes(device=CPU))
    assert count == len(points) == len(grid.values)
    if reach > 10:
        assert 1 < count / (2 / 3 * torch.pi * reach**3) < 1 + 6 / reach


@pytest.mark.parametrize("slabs", [2, 3, 5, 7])
def test_sums_are_equal_to_the_last_bit_for_any_number_of_threads(geometry, slabs):
    rotations, points, factors = geometry
    values = torch.randn(len(rotations), len(points), 4)
    grids = []
    for count in (1, slabs):
        grid = torch.zeros(BOX // 2 + 1, BOX + 1, BOX + 1, 4)
        arrays = (x.numpy() for x in (grid, rotations, points, factors))
        bounds = kernels.slab_bounds(len(grid), count)
        kernels.insert(*arrays, BOX / 2, values.numpy(), bounds)
        grids.append(grid)
    assert torch.equal(*grids)


def test_nothing_is_taken_from_beyond_the_limit(geometry):
    rotations, points, factors = geometry
    grid = random_grid(1)
    grid.values.fill_(1)
    found = gather(grid, 2 * rotations, points, factors)
    radius = 2 * points.norm(dim=1)
    assert not found[:, radius > BOX / 2 + 0.01].any()
    assert (found[:, radius < BOX / 2 - 0.01] != 0).all()


def test_volumes_come_back_from_their_spectrum():
    grids = VolumeGrids(BOX, device=CPU)
    volumes = blobs()
    spectrum = grids.spectrum(volumes)
    back = grids.volumes(spectrum, radius=None)
    inside = grids.spectrum(back * grids._coarse) * (grids.radius < BOX / 2)
    torch.testing.assert_close(inside, spectrum * (grids.radius < BOX / 2), atol=1e-3, rtol=1e-4)
    parts = grids.power(volumes)
    assert parts.shape == (2, BOX // 2 + 1)
    assert float(parts[0, 0]) == pytest.approx(float(volumes[0].sum() ** 2), rel=1e-4)
