"""More workers change the speed of a fit, and nothing else."""

import mrcfile
import numpy as np
import pytest

import plain_em
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


@pytest.mark.parametrize(("name", "world"), [("clean", 3), ("disturbed", 2)])
def test_any_number_of_workers_fits_the_same(request, tmp_path, name, world):
    folder = request.getfixturevalue(name)
    values = {**plain_em.SMALL, "train__epochs": 5}
    run = plain_em.prepare(folder / "particles.star", tmp_path / "run", **values)
    plain_em.fit_group(run, world)
    one, several = open_run(str(folder / "run")), open_run(str(tmp_path / "run"))
    latents = one.latents(5)
    volumes = []
    for opened in (one, several):
        with DecoderPool(opened.decoder(5), VolumeOptions()) as pool:
            volumes.append(pool.volumes(latents[::300]))
    assert difference(volumes[1], volumes[0]) < 1e-5
    assert difference(several.latents(5), latents) < 2e-5  # 2e-6 to 1.4e-5 in several sets
    losses = [[row["total"] for row in opened.losses()[:5]] for opened in (one, several)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for column, values in one.estimates(5).items():
        difference_of = several.estimates(5)[column] - values
        assert np.sqrt(np.square(difference_of).mean()) < 1e-5
        if column.startswith("rotation"):
            assert np.abs(difference_of).max() < 1e-4  # of each image; 3e-5 of one in a thousand


def difference(found, expected):
    """Return the RMS difference over the SD."""
    return np.sqrt(np.square(found - expected).mean()) / expected.std()


def test_a_worker_may_have_nothing_but_junk(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=400, box=24, snr=0.4, seed=3))
    with mrcfile.open(tmp_path / "particles.mrcs", mode="r+") as stack:
        sd = stack.data.std()
        stack.data[200:] = np.random.default_rng(0).normal(0, sd, stack.data[200:].shape)
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **plain_em.SMALL)
    plain_em.fit_group(run, 2)
    null = open_run(str(tmp_path / "run")).estimates(6)["null_probability"]
    assert null[:200].mean() < 0.05
    assert null[200:].min() == 1.0
