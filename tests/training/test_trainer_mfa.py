"""Ray Train gives of a mixture of factor analysers what one process gives, whatever is killed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import plain_em
from faults.training import kill_process
from plain import assert_same_run
from raydrgn.remote.allocation import Allocation
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

pytestmark = pytest.mark.ray

EPOCHS = 12


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    """Particles whose epochs take long enough to be disturbed."""
    folder = tmp_path_factory.mktemp("particles")
    simulate(str(folder), Simulation(num_particles=1200, box=20, snr=1.0, seed=6))
    return folder / "particles.star"


def assert_same_fit(first, second, epoch):
    """Compare weights, latents and estimates of an epoch, bit by bit."""
    assert_same_run(first, second, epoch)
    one, other = (open_run(str(root)).estimates(epoch) for root in (first, second))
    for name, column in one.items():
        np.testing.assert_array_equal(other[name], column, err_msg=name)


@pytest.mark.clusters
def test_a_killed_writer_controller_and_worker_change_nothing(star, ray_session, tmp_path):
    from raydrgn.training import trainer

    values = {**plain_em.SMALL, "train__epochs": EPOCHS, "resources__num_workers": 2}
    calm, root = tmp_path / "calm", tmp_path / "run"
    assert trainer.train(plain_em.prepare(star, calm, **values)).finished
    faults = [(2.3, "RunWriter"), (3.4, "RayTrainWorker"), (5.4, "TrainController")]

    def disturb(what, done, total, **_):
        if faults and what == "training" and done / total * EPOCHS > faults[0][0]:
            kill_process(faults.pop(0)[1])

    assert trainer.train(plain_em.prepare(star, root, **values), progress=disturb).finished
    assert not faults
    log = (root / "run.log").read_text()
    assert "lost (process killed); starting the workers again" in log
    assert_same_fit(calm, root, EPOCHS)


@pytest.mark.clusters
def test_a_killed_command_goes_on_bit_by_bit(star, tmp_path):
    calm, root = tmp_path / "calm", tmp_path / "run"
    assert plain_em.fit(plain_em.prepare(star, calm, **plain_em.SMALL))
    words = f"train {star} -o {root} --method mfa --components 4 --states 12 --passes 6"
    command = [sys.executable, "-m", "raydrgn", *words.split(), "--workers", "1"]
    with subprocess.Popen([*command, "--cpus-per-worker", "1"], stderr=subprocess.DEVNULL) as first:
        end = time.monotonic() + 300
        while not (root / "z.3.pkl").exists():
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    assert not (root / f"z.{plain_em.SMALL['train__epochs']}.pkl").exists()
    again = [sys.executable, "-m", "raydrgn", "train", "-o", str(root), "--resume"]
    subprocess.run(again, check=True, capture_output=True, env={**os.environ, "COLUMNS": "200"})
    assert_same_fit(calm, root, 6)


@pytest.mark.clusters
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
