"""Central slices: the projection theorem, exact sums, turns that a grid can do."""

import numpy as np
import pytest
import torch

from phantoms import random_matrices
from raydrgn.errors import ConfigError
from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import disc_coefficients, fft_centred
from raydrgn.geometry.lattice import half_ball, half_disc, plane_coordinates

BOX = 24
ATOMS = np.array([[2.3, -1.1, 0.4], [-3.0, 2.2, -2.7], [0.6, 3.1, 1.9]])
SIGMA = 1.5  # pixels: 1.5e-5 of its transform is left at Nyquist, 1e-6 of it beyond the box

ERROR = 3e-3  # of the largest coefficient: aliasing of a kernel four samples wide


@pytest.fixture(scope="module")
def volume():
    """Three Gaussian atoms at (x, y, z) of ``ATOMS``, in pixels from the centre."""
    ticks = np.arange(-(BOX // 2), BOX // 2)
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1)[..., ::-1]  # x y z
    distance2 = ((grid[..., None, :] - ATOMS) ** 2).sum(-1)
    return torch.from_numpy(np.exp(-distance2 / (2 * SIGMA**2)).sum(-1).astype(np.float32))


def of_atoms(points, atoms=ATOMS):
    """The transform of the atoms at any points, in closed form."""
    k = np.asarray(points, dtype=np.float64) / BOX
    envelope = (2 * np.pi * SIGMA**2) ** 1.5 * np.exp(-2 * (np.pi * SIGMA) ** 2 * (k**2).sum(-1))
    return envelope * np.exp(-2j * np.pi * k @ atoms.T).sum(-1)


def sampled(volume, points):
    return torch.view_as_complex(SliceSampler(volume).at(points))


def test_at_lattice_points_it_is_the_transform(volume):
    points = half_ball(BOX)
    points = points[points.abs().amax(-1) < BOX // 2]
    x, y, z = (points + BOX // 2).unbind(1)
    expected = fft_centred(volume, ndim=3)[z, y, x]
    error = (sampled(volume, points.float()) - expected).abs().max()
    assert error < ERROR * expected.abs().max()


def test_between_lattice_points_it_is_the_sum_over_voxels(generator):
    # Any volume, also one that does not vanish at the edges.
    noise = torch.randn(BOX, BOX, BOX, generator=generator)
    points = (torch.rand(40, 3, generator=generator) - 0.5) * 8
    ticks = torch.arange(-(BOX // 2), BOX // 2)
    waves = [torch.exp(-2j * np.pi * points[:, i, None] * ticks / BOX) for i in range(3)]
    expected = torch.einsum("zyx,nx,ny,nz->n", noise.to(torch.complex64), *waves)
    error = (sampled(noise, points) - expected).abs().max()
    assert error < ERROR * fft_centred(noise, ndim=3).abs().max()


def test_between_lattice_points_it_is_the_closed_form(volume):
    rotations = torch.from_numpy(random_matrices(4, np.random.default_rng(0))).float()
    points = plane_coordinates(half_disc(BOX), BOX) @ rotations * BOX
    expected = of_atoms(points.numpy())
    error = np.abs(sampled(volume, points).numpy() - expected).max()
    assert error < ERROR * np.abs(expected).max()


def test_the_unturned_slice_is_the_transform_of_the_projection_along_z(volume):
    points = half_disc(BOX)
    expected = torch.view_as_complex(disc_coefficients(volume.sum(0)[None], points)[0])
    found = sampled(volume, plane_coordinates(points, BOX) * BOX)
    assert (found - expected).abs().max() < ERROR * expected.abs().max()


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["x", "y", "z"])
def test_a_quarter_turn_is_one_of_the_grid(volume, axis):
    # Row vectors times R: where R takes a coordinate axis to another, so do the voxels' indices.
    quarter = np.roll(np.roll([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], axis - 2, 0), axis - 2, 1)
    rotation = torch.from_numpy(quarter).float()
    points = plane_coordinates(half_disc(BOX), BOX) @ rotation * BOX
    moved = ATOMS @ quarter.T  # p = q @ R, so the image frame's atom is a @ Rᵀ
    k = plane_coordinates(half_disc(BOX), BOX).double().numpy()
    expected = of_atoms(k * BOX, moved)
    error = np.abs(sampled(volume, points).numpy() - expected).max()
    assert error < ERROR * np.abs(expected).max()


def test_opposite_points_are_conjugate(volume, generator):
    points = (torch.rand(50, 3, generator=generator) - 0.5) * 8
    here, there = sampled(volume, points), sampled(volume, -points)
    torch.testing.assert_close(there, here.conj().resolve_conj(), rtol=0, atol=1e-3)


def test_beyond_nyquist_it_is_zero(volume):
    points = torch.tensor([[12.0, 0, 0], [12.01, 0, 0], [7, 7, 7], [-13, 3, 0]])
    assert (SliceSampler(volume).at(points).abs().sum(-1) == 0).tolist() == [False] + [True] * 3


def test_any_batch_of_points_is_its_points(volume, generator):
    points = (torch.rand(2, 3, 5, 3, generator=generator) - 0.5) * 8
    sampler = SliceSampler(volume)
    torch.testing.assert_close(sampler.at(points)[1, 2], sampler.at(points[1, 2]))


def test_odd_boxes_are_refused():
    with pytest.raises(ConfigError, match="even number of pixels"):
        SliceSampler(torch.zeros(7, 7, 7))
