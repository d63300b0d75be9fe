"""``halves`` on fits of simulated particles: states that are there, and states that are not."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import plain_em
from raydrgn.cli.main import app
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.halves.splitting import prepare_half
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.run.config import RunConfig
from raydrgn.run.mixture import read_mixture
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import halves
from raydrgn.workflows.halves import HalvesSettings

EPOCHS = 4


def fitted(folder, **simulation):
    simulate(str(folder), Simulation(num_particles=800, box=16, snr=0.5, **simulation))
    values = {**plain_em.SMALL, "train__epochs": EPOCHS}
    assert plain_em.fit(plain_em.prepare(folder / "particles.star", folder / "run", **values))
    return str(folder / "run")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run on particles in several states."""
    return fitted(tmp_path_factory.mktemp("several"), seed=1)


def test_states_that_are_there_are_reproduced_and_it_goes_on_where_it_was_stopped(several):
    settings = HalvesSettings(run=several, ksample=4)

    def stop(what, *_, **__):
        if what == "half 2: training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halves.run(settings, progress=stop)
    root = f"{several}/halves.{EPOCHS}"
    first = open_run(f"{root}/half1")
    written = Path(first.files.weights(EPOCHS))
    before = written.stat().st_mtime_ns
    found = halves.run(settings)
    assert written.stat().st_mtime_ns == before  # it was not trained again
    assert found.agreement is not None
    assert [state.judgement for state in found.agreement.found].count("reproduced") >= 3
    numbers = [set(open_run(f"{root}/half{k}").original_numbers(400).tolist()) for k in (1, 2)]
    assert numbers[0] == set(range(0, 800, 2))
    assert numbers[1] == set(range(1, 800, 2))
    roots = (several, f"{root}/half1", f"{root}/half2")
    seeds = [RunConfig.read(open_run(path).files.config).train.seed for path in roots]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]
    again = CliRunner().invoke(app, ["halves", several, "--ksample", "4"])
    assert again.exit_code == 0
    printed = " ".join(again.output.split())
    assert "The difference from the mean volume, of 4 states: reproduced in" in printed
    assert found.support is not None
    assert 2 <= found.support.components.supported <= 4
    assert found.support.states.supported >= 2
    assert found.support.summary in printed
    rows = (Path(root) / "number_of_components.csv").read_text().splitlines()
    assert rows[0] == "number of components,gain of half 2,gain of half 1"
    assert len(rows) == 6


def test_halves_of_too_few_particles_are_refused_before_any_fit(several, monkeypatch, tmp_path):
    monkeypatch.setattr("raydrgn.training.checks.MIN_PER_COMPONENT", 150)
    folder = tmp_path / "halves"
    with pytest.raises(InputError, match=r"^Half 1 of .*run: 400 particles are too few for 4 "):
        halves.run(HalvesSettings(run=several, ksample=4, out=str(folder)))
    assert not folder.exists()


def test_states_of_particles_in_one_state_are_not_reproduced(several, tmp_path):
    truth = several.removesuffix("run") + "truth/vol_000.mrc"
    run = fitted(tmp_path, seed=2, maps=truth)
    result = halves.run(HalvesSettings(run=run, ksample=4))
    assert result.agreement is not None
    judged = {state.judgement for state in result.agreement.found}
    assert judged <= {"no clear difference", "not reproduced"}
    assert result.support is not None
    assert result.support.components.supported == 0
    assert result.support.states.supported == 1


def test_halves_have_the_mask_of_the_run_where_its_file_is_gone(tmp_path):
    mask = tmp_path / "mask.mrc"
    ticks = np.indices((16,) * 3) - 8
    inside = (np.sqrt((ticks**2).sum(axis=0)) < 6).astype(np.float32)
    simulate(str(tmp_path / "data"), Simulation(num_particles=200, box=16, snr=0.5, seed=4))
    star = tmp_path / "data" / "particles.star"
    size = open_particles(ParticleSource(particles=str(star))).column("pixel_size_angstrom")[0]
    write_volume(str(mask), inside, pixel_size_angstrom=float(size))
    values = {**plain_em.SMALL, "train__epochs": 1, "mfa__mask": str(mask)}
    assert plain_em.fit(plain_em.prepare(star, tmp_path / "run", **values))
    run = open_run(str(tmp_path / "run"))
    half = prepare_half(run, 1, str(tmp_path / "half1"), epochs=1)
    assert half.config.mfa.mask == str(mask)
    mask.unlink()
    half = prepare_half(run, 1, str(tmp_path / "half1"), epochs=1)
    found, _ = read_volume(half.config.mfa.mask)
    np.testing.assert_allclose(found, read_mixture(run, 1).support.numpy(), atol=1e-6)
    np.testing.assert_allclose(found[4:12, 4:12, 4:12], inside[4:12, 4:12, 4:12], atol=1e-5)


def test_a_run_of_cryodrgn_is_refused(tmp_path):
    theirs = Path(__file__).parents[1] / "assets" / "cryodrgn" / "fourier"
    with pytest.raises(RunDirectoryError, match="is a run of cryoDRGN"):
        halves.run(HalvesSettings(run=str(theirs), ksample=2, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
