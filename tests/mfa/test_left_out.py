"""What the mean of half of the particles explains of the images of the other half."""

import numpy as np
import pytest

import plain_em
from raydrgn.io.metadata import read_metadata
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


def begun(star, root, **values):
    run = plain_em.prepare(star, root, **{**plain_em.SMALL, **values})
    fit = plain_em.assemble(run)[0]._fit
    fit.begin()
    return fit


def shuffled(folder, *, seed):
    """Write the particles with the orientations of others, and return the file."""
    table = read_metadata(str(folder / "particles.star"))
    order = np.random.default_rng(seed).permutation(len(table.rotations))
    rotations = table.rotations.reshape(-1, 9)[order]
    table.with_columns({"rotation": rotations}).write(str(folder / "shuffled.parquet"))
    return folder / "shuffled.parquet"


@pytest.mark.parametrize("number", [40, 400])
def test_a_mean_of_noise_explains_nothing(tmp_path, number):
    """Of the images that it is made from it seems to explain nats, the more the fewer they are."""
    simulate(str(tmp_path), Simulation(num_particles=number, box=24, snr=1e-6, seed=81))
    fit = begun(tmp_path / "particles.star", tmp_path / "run")
    assert -2 < fit.model.evidence < 0.5
    assert abs(fit.gain_of_orientations.gain) < 0.5
    assert fit.model.priors.null_share == 0


def test_random_orientations_gain_nothing_of_few_images(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=200, box=24, snr=0.1, seed=82))
    values = {"mfa__rotations": False, "mfa__shifts": False}
    right = begun(tmp_path / "particles.star", tmp_path / "right", **values).gain_of_orientations
    wrong = begun(shuffled(tmp_path, seed=82), tmp_path / "wrong", **values).gain_of_orientations
    assert right.gain > 0.8 * right.explained
    assert abs(wrong.gain) < 0.1 * wrong.explained


def test_junk_is_found_by_the_mean_of_others(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=1200, box=24, snr=0.3, seed=83, junk=0.2))
    labels = np.load(tmp_path / "truth" / "labels.npy")
    is_junk = labels >= labels.max() - 1  # ice, and edges of the carbon film
    fit = begun(tmp_path / "particles.star", tmp_path / "run")
    found = fit.estimates.null_probability.numpy() > 0.5
    assert found[is_junk].mean() > 0.8
    assert is_junk[found].mean() > 0.9
