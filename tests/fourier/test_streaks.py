"""Streaks are found in volumes that have them, and in no volume of the truth or of noise."""

import numpy as np
import pytest
from scipy import ndimage

from raydrgn.fourier.density import measure_density
from raydrgn.fourier.peaks import peak_density
from raydrgn.fourier.streaks import CLEAR_STREAKS, streaks
from raydrgn.simulation.ensemble import of_phantom
from raydrgn.simulation.phantom import ASSEMBLY


@pytest.fixture(scope="module", params=[32, 80])
def truth(request):
    """The states of the simulation, without noise."""
    generator = np.random.default_rng(0)
    found = of_phantom(ASSEMBLY, num_particles=10, box=request.param, generator=generator)
    return found.volumes[[0, 4]]


def measured(volume):
    return streaks(volume, peak_density(volume))


def with_lines(volume, *, height, seed, parallel):
    """Add twelve lines of density or of holes: from the centre outwards, or side by side."""
    generator = np.random.default_rng(seed)
    box = len(volume)
    points = np.indices(volume.shape) - box // 2
    direction = np.array([1.0, 0.2, 0.1])
    found = volume.astype(np.float64)
    for _ in range(12):
        start = np.zeros(3)
        if parallel:
            start = generator.uniform(-box / 3, box / 3, size=3)
        else:
            direction = generator.normal(size=3)
        direction /= np.linalg.norm(direction)
        away = points - start[:, None, None, None]
        along = np.tensordot(direction, away, axes=1)
        across = np.sqrt(np.maximum((away**2).sum(axis=0) - along**2, 0))
        line = np.exp(-(across**2) / (2 * (box / 25) ** 2)) * (parallel | (along > 0))
        found += generator.choice([-1, 1]) * height * peak_density(volume) * line
    return found.astype(np.float32)


def noise(volume, *, sd, seed, width_px=0.0):
    values = np.random.default_rng(seed).normal(size=volume.shape)
    if width_px:
        values = ndimage.gaussian_filter(values, width_px * len(volume) / 32)
    return (sd * peak_density(volume) * values / values.std()).astype(np.float32)


def test_volumes_of_the_truth_have_none(truth):
    assert [measured(volume) for volume in truth] == [0, 0]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("height", [0.08, 0.2])
def test_lines_from_the_centre_and_parallel_ones_are_found(truth, parallel, height):
    for seed, volume in enumerate(truth):
        found = measured(with_lines(volume, height=height, seed=seed, parallel=parallel))
        assert CLEAR_STREAKS < found <= 1


def test_noise_has_none_whether_fine_or_smooth(truth):
    for seed in range(3):
        for volume in truth:
            assert measured(volume + noise(volume, sd=0.05, seed=seed)) < CLEAR_STREAKS / 2
            smooth = noise(volume, sd=0.05, seed=seed, width_px=1.5)
            assert measured(volume + smooth) < CLEAR_STREAKS


def test_the_units_of_the_density_do_not_matter(truth):
    volume = with_lines(truth[0], height=0.1, seed=0, parallel=False)
    assert measured(300 * volume) == pytest.approx(measured(volume), abs=1e-3)
    assert measure_density(volume).streaks == pytest.approx(measured(volume))


def test_a_particle_that_fills_the_box_leaves_no_room():
    ticks = np.indices((32,) * 3) - 16
    ball = (np.sqrt((ticks**2).sum(axis=0)) < 15).astype(np.float32)
    assert np.isnan(measured(ball))
