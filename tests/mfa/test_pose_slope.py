"""Refined poses, which must not take up what the components are for."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import plain_em
from raydrgn.evaluation.truth import read_truth
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.mfa.particles import ParticleEstimates, turns
from raydrgn.mfa.pose_slope import PoseSlope, add_poses, give_slope, pose_slope, remove_slope
from raydrgn.mfa.sums import Sums
from raydrgn.run.reader import open_run
from raydrgn.run.refined_poses import with_poses_from
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

BOX = 32
SHIFT = torch.tensor([[0.1, -0.05], [-0.2, 0.0], [0.05, 0.1]])  # pixels per unit of two latents
TURN = torch.tensor([[0.01, 0.0], [0.0, 0.02], [-0.03, 0.01]])


def blobs(centres) -> torch.Tensor:
    """Return a volume of Gaussian blobs at (x, y, z), pixels from the middle."""
    ticks = torch.arange(BOX, dtype=torch.float64) - BOX // 2
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    squares = [(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 for a, b, c in centres]
    return sum(torch.exp(-square / 8) for square in squares).float()


@pytest.mark.parametrize("component", [0, 1])
def test_components_gain_how_the_mean_changes_when_it_moves(component):
    centres = np.array([[4.0, 1.0, -2.0], [-3.0, 5.0, 0.0], [0.0, -4.0, 6.0]])
    volumes = torch.stack([blobs(centres), *torch.zeros(2, BOX, BOX, BOX)])
    give_slope(volumes, PoseSlope(torch.zeros(2), SHIFT, TURN), torch.ones(BOX, BOX, BOX))
    small = 0.05  # of the latent, so that the rest of the series does not matter
    turn = Rotation.from_rotvec(small * TURN[:, component].numpy()).as_matrix()
    moved = blobs(centres @ turn.T + small * SHIFT[:, component].numpy())
    expected = (moved - volumes[0]) / small
    assert float((volumes[1 + component] - expected).norm() / expected.norm()) < 0.01
    torch.testing.assert_close(volumes[0], blobs(centres))


def test_the_mask_bounds_what_components_gain():
    volumes = torch.stack([blobs([[3.0, 0.0, 0.0]]), torch.zeros(BOX, BOX, BOX)])
    support = (torch.arange(BOX) < 20).float().expand(BOX, BOX, BOX)
    give_slope(volumes, PoseSlope(torch.zeros(1), SHIFT[:, :1], TURN[:, :1]), support)
    assert bool((volumes[1][..., 20:] == 0).all())
    assert bool((volumes[1][..., :20] != 0).any())


def poses(rotations, latents):
    """Return poses that depend on latents of mean 1, and errors beside."""
    generator = torch.Generator().manual_seed(1)
    off = latents - 1
    noise = 0.3 * torch.randn(len(latents), 2, generator=generator)
    shifts = (rotations[:, :2] @ (off @ SHIFT.T)[..., None])[..., 0] + noise
    vectors = (turns(rotations) @ (off @ TURN.T)[..., None])[..., 0]
    count = len(latents)
    return ParticleEstimates(torch.ones(count), torch.zeros(count), shifts, vectors)


def sums_of(rotations, latents, estimates) -> Sums:
    """Return the sums of a pass over particles, all of them likely ones."""
    sums = Sums.zero(torch.zeros(1, 1, 1, 6), num_components=2, num_shells=2, num_groups=1)
    ones = torch.ones(len(latents))
    sums.add(likely=ones)
    sums.latent += latents.double().sum(0)
    sums.square += latents.double().T @ latents.double()
    add_poses(sums, rotations, estimates, latents, ones)
    return sums


def test_what_depends_on_the_latents_is_found_and_removed():
    count, generator = 20_000, torch.Generator().manual_seed(0)
    rotations = torch.from_numpy(Rotation.random(count, rng=0).as_matrix()).float()
    rotations *= torch.linspace(0.8, 1.3, count)[:, None, None]  # of pixels of other sizes
    mix = torch.tensor([[1.0, 0.4], [0.0, 0.8]])
    latents = 1 + torch.randn(count, 2, generator=generator) @ mix
    estimates = poses(rotations, latents)
    slope = pose_slope(sums_of(rotations, latents, estimates))
    torch.testing.assert_close(slope.shift, SHIFT, atol=0.01, rtol=0)
    torch.testing.assert_close(slope.rotation, TURN, atol=1e-4, rtol=0)
    before = estimates.shifts_px.square().sum(1).mean()
    rows = torch.arange(count)
    remove_slope(estimates, slope, rows, rotations=rotations, latents=latents)
    left = pose_slope(sums_of(rotations, latents, estimates))
    assert float(left.shift.abs().max()) < 2e-3
    assert float(left.rotation.abs().max()) < 2e-5
    assert float(before) > 0.2
    assert math.isclose(float(estimates.shifts_px.square().sum(1).mean()), 0.18, abs_tol=0.005)


def test_a_direction_that_no_image_shows_is_left_alone():
    count, generator = 5000, torch.Generator().manual_seed(0)
    about_z = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(count, 1)) * [[0, 0, 1.0]])
    rotations = torch.from_numpy(about_z.as_matrix()).float()
    latents = 1 + torch.randn(count, 2, generator=generator)
    slope = pose_slope(sums_of(rotations, latents, poses(rotations, latents)))
    torch.testing.assert_close(slope.shift[:2], SHIFT[:2], atol=0.015, rtol=0)
    assert float(slope.shift[2].abs().max()) < 1e-5


def test_shifts_have_nothing_of_the_motion(tmp_path, one_thread):
    folder = tmp_path / "set"
    simulate(
        str(folder),
        Simulation(
            num_particles=2500, box=32, snr=0.2, seed=7, phantom="hinge", shift_error_px=0.25
        ),
    )
    values = {**plain_em.SMALL, "mfa__rotations": False}
    run = plain_em.prepare(folder / "particles.star", tmp_path / "run", **values)
    plain_em.fit(run)
    given = open_particles(ParticleSource(particles=str(folder / "particles.star")))
    refined = with_poses_from(given, str(tmp_path / "run"))
    source = ParticleSource(particles=str(folder / "truth" / "particles.parquet"))
    true = open_particles(source, need_images=False)
    off = refined.column("shift_angstrom") - true.column("shift_angstrom")
    off = off / given.column("pixel_size_angstrom")[:, None]
    truth = read_truth(str(folder / "truth"), open_run(str(tmp_path / "run")), num_particles=2500)
    motion = (truth.shown - truth.shown.mean()) / truth.shown.std()
    design = (true.rotations[:, :2] * motion[:, None, None]).reshape(-1, 3)
    per_sd, *_ = np.linalg.lstsq(design, off.reshape(-1), rcond=None)
    assert np.linalg.norm(per_sd) < 0.025  # pixels; 0.10 where nothing is removed
