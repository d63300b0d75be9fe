"""Ray Train gives of a mixture of factor analysers what one process gives."""

import numpy as np
import pytest

import plain_em
from raydrgn.remote.allocation import Allocation
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

pytestmark = pytest.mark.ray


def test_two_workers_fit_the_same_and_a_finished_run_goes_on(ray_session, tmp_path):
    from raydrgn.run.status import find_run
    from raydrgn.training import trainer
    from raydrgn.training.in_process import train_here
    from raydrgn.training.prepare_run import RunRequest, resume

    simulate(str(tmp_path), Simulation(num_particles=400, box=16, snr=1.0, seed=4))
    star = tmp_path / "particles.star"
    values = {**plain_em.SMALL, "train__epochs": 3}
    assert plain_em.fit(plain_em.prepare(star, tmp_path / "plain", **values))
    shorter = {**values, "train__epochs": 2, "resources__num_workers": 2}
    assert trainer.train(plain_em.prepare(star, tmp_path / "ray", **shorter)).finished
    root = str(tmp_path / "ray")
    request = RunRequest(root=root, source=None, values={"train.epochs": 3})
    status = find_run(root)
    assert train_here(resume(request, status), Allocation(1, cpus=1, gpus=0)).finished
    plain, ray = open_run(str(tmp_path / "plain")), open_run(root)
    rows = [[row["total"] for row in run.losses()] for run in (plain, ray)]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-5)
    for name, column in plain.estimates(3).items():
        np.testing.assert_allclose(ray.estimates(3)[name], column, atol=1e-3)
