"""Noise that differs between optics groups."""

import mrcfile
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import plain_em
from raydrgn.evaluation.evaluation import evaluate
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

BOX = 24


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A folder with particles of two optics groups, one with strong noise of low frequency more.

    The same images are there as of one group.
    """
    folder = tmp_path_factory.mktemp("groups")
    table = simulate(str(folder), Simulation(num_particles=1500, box=BOX, snr=0.4, seed=21))
    generator = np.random.default_rng(0)
    is_noisy = np.arange(1500) % 2 == 1
    with mrcfile.open(folder / "particles.mrcs", mode="r+") as stack:
        white = generator.standard_normal((is_noisy.sum(), BOX, BOX))
        coloured = gaussian_filter(white, (0, 1, 1), mode="wrap")
        stack.data[is_noisy] += (3 * stack.data.std() * coloured / coloured.std()).astype("f4")
    groups = np.where(is_noisy, "noisy", "clean").astype(object)
    table.with_columns({"optics_group": groups}).write(str(folder / "two.parquet"))
    table.write(str(folder / "one.parquet"))
    return folder


def fitted(folder, name):
    run = plain_em.prepare(folder / f"{name}.parquet", folder / name, **plain_em.SMALL)
    assert plain_em.fit(run)
    return plain_em.tensors(folder / name, plain_em.SMALL["train__epochs"])["mfa.noise"]


def test_each_optics_group_has_its_noise_and_volumes_are_better_for_it(noisy):
    one, two = fitted(noisy, "one"), fitted(noisy, "two")
    assert one.shape == (1, BOX // 2 + 1)
    clean, rough = two
    assert (rough[2:5] / clean[2:5]).min() > 4
    assert (rough[-3:] / clean[-3:]).max() < 1.5
    fsc = [
        evaluate(open_run(str(noisy / name)), str(noisy / "truth")).fsc for name in ("one", "two")
    ]
    assert fsc[1] > fsc[0] + 0.01


def test_a_fit_with_one_row_of_noise_serves_all_groups():
    row, volumes = torch.arange(3.0)[None], torch.zeros(2, 4, 4, 4)
    mixture = Mixture.standard_normal(1, device=torch.device("cpu"))
    model = FactorModel(volumes, volumes[0], row, 2 * row, row[0], row, mixture, ParticlePriors())
    wider = model.of_groups(2)
    assert torch.equal(wider.noise, torch.cat([row, row]))
    assert torch.equal(wider.null_noise, 2 * wider.noise)
    assert wider.of_groups(2) is wider
