"""What poses are worth that each half of the particles has refined apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import plain_em
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.evaluation.truth import read_truth
from raydrgn.fourier.shells import shell_correlation
from raydrgn.halves.splitting import HALVES, prepare_half
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.run.reader import open_run
from raydrgn.run.refined_poses import refined_particles, shared_poses, with_poses_of_halves
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training.prepare_run import RunRequest, begin
from raydrgn.workflows import backproject, info
from raydrgn.workflows.backproject import BackprojectSettings

COUNT = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Particles with wrong shifts, a fit of them, and its halves."""
    found = tmp_path_factory.mktemp("shifted")
    given = {"num_particles": COUNT, "box": 16, "snr": 0.5, "shift_error_px": 0.7}
    simulate(str(found), Simulation(seed=1, **given))
    values = {**plain_em.SMALL, "train__epochs": 3, "mfa__shifts": True}
    assert plain_em.fit(plain_em.prepare(found / "particles.star", found / "run", **values))
    return found


@pytest.fixture(scope="module")
def halved(folder):
    run = open_run(str(folder / "run"))
    for half in HALVES:  # as `halves` does
        root = f"{run.results('halves', 3)}/half{half}"
        assert plain_em.fit(prepare_half(run, half, root, epochs=3))
    return run.root


def settings(folder, run, **more):
    source = ParticleSource(particles=str(folder / "particles.star"))
    return BackprojectSettings(source=source, out=str(folder / "map"), poses_from=run, **more)


def test_without_halves_it_is_refused_and_the_command_is_named(folder):
    run = str(folder / "run")
    with pytest.raises(RunDirectoryError, match=f"apart first: raydrgn halves {run}$"):
        backproject.run(settings(folder, run))
    assert not (folder / "map").exists()


def test_each_half_has_the_poses_that_it_has_refined(folder, halved):
    table = open_particles(ParticleSource(particles=str(folder / "particles.star")))
    chosen = table.select(np.array([5, 2, 9, 9, 30]))
    found, half, concern = with_poses_of_halves(chosen, halved)
    assert concern is None
    assert half.tolist() == [1, 0, 1, 1, 0]
    own = [refined_particles(open_run(f"{halved}/halves.3/half{k}")) for k in (1, 2)]
    shifts = [one.column("shift_angstrom") for one in own]
    expected = [shifts[number % 2][number // 2] for number in (5, 2, 9, 9, 30)]
    np.testing.assert_array_equal(found.column("shift_angstrom"), expected)
    with pytest.raises(InputError, match="particles are of one half"):
        with_poses_of_halves(table.select(np.arange(0, 10, 2)), halved)


def test_refined_poses_make_maps_agree_with_each_other_and_with_the_truth(folder, halved):
    maps = backproject.run(settings(folder, halved)).maps
    given = backproject.run(replace(settings(folder, None), out=str(folder / "given"))).maps
    truth = read_truth(str(folder / "truth"), open_run(halved), num_particles=COUNT)
    mean = torch.from_numpy(np.ascontiguousarray(truth.mean_volume())).float()

    def agreement(volume):
        return float(shell_correlation(torch.from_numpy(volume).float(), mean)[1:].mean())

    assert agreement(maps.full) > agreement(given.full) + 0.02
    gained = maps.resolution.unmasked[2:] - given.resolution.unmasked[2:]
    assert float(gained.mean()) > 0.02
    assert maps.verdict.findings[0].startswith("With poses that each half has refined apart")
    files = {path.name for path in Path(folder, "map").iterdir()}
    assert "fsc_given_poses.csv" in files


def test_poses_that_were_refined_on_both_halves_are_named(folder, tmp_path):
    source = ParticleSource(particles=str(folder / "particles.star"))
    request = RunRequest(
        root=str(tmp_path / "again"),
        source=source,
        method="mfa",
        values={"train.epochs": 1, "mfa.components": 4, "resources.cpus": 1},
        poses_from=str(folder / "run"),
    )
    assert plain_em.fit(begin(request))
    again = open_run(str(tmp_path / "again"))
    assert f"refined by {folder}/run on" in (shared_poses(again.particles()) or "")
    assert shared_poses(open_run(str(folder / "run")).particles()) is None
    shown = dict(info.run(info.InfoSettings(path=again.root)).facts)
    assert shown["poses"] == f"refined by {folder}/run"
    for half in HALVES:
        root = f"{again.results('halves', 1)}/half{half}"
        assert plain_em.fit(prepare_half(again, half, root, epochs=1))
    found = backproject.run(replace(settings(folder, again.root), out=str(tmp_path / "map")))
    assert "the particles of both halves" in " ".join(found.maps.verdict.findings)
