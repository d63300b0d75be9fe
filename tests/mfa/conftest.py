"""Simulated sets, and fits to them, that several tests look at."""

import numba
import pytest
import torch

import plain_em
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Leave the other cores to other tests."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    """A set with exact poses, and the run directory of a fit to it."""
    folder = tmp_path_factory.mktemp("clean")
    simulate(str(folder), Simulation(num_particles=1500, box=24, snr=0.4, seed=11))
    run = plain_em.prepare(folder / "particles.star", folder / "run", **plain_em.SMALL)
    assert plain_em.fit(run)
    return folder


@pytest.fixture(scope="session")
def disturbed(tmp_path_factory):
    """A set with junk and errors as of real data, and the run directory of a fit to it."""
    folder = tmp_path_factory.mktemp("disturbed")
    simulation = Simulation(
        num_particles=1500,
        box=24,
        snr=0.4,
        seed=12,
        junk=0.2,
        contrast_sd=0.15,
        angle_error_deg=4.0,
        shift_error_px=0.4,
    )
    simulate(str(folder), simulation)
    run = plain_em.prepare(folder / "particles.star", folder / "run", **plain_em.SMALL)
    assert plain_em.fit(run)
    return folder
