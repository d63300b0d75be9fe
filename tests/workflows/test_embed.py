"""``embed``: the run's own latents again, and those of particles that it has not seen."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from plain import SMALL, fit, latents, small_run
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.particle_source import ParticleSource
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training.prepare_run import RunRequest, begin
from raydrgn.workflows import embed
from raydrgn.workflows.embed import EmbedSettings

EPOCHS = 3

Correlated = namedtuple("Correlated", "correlation")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Particles, and numbers of the first 150 of them."""
    folder = tmp_path_factory.mktemp("data")
    small_run(folder, folder / "unused")
    np.savetxt(folder / "first.txt", np.arange(150), fmt="%d")
    return folder


@pytest.fixture(scope="module")
def run(data):
    """A run on the first particles."""
    source = ParticleSource(particles=str(data / "particles.star"), ind=str(data / "first.txt"))
    values = {**SMALL, "train.epochs": EPOCHS}
    root = data / "run"
    fit(begin(RunRequest(root=str(root), source=source, values=values)))
    return root


def embedded(run, out, particles, **options):
    source = ParticleSource(particles=str(particles))
    return embed.run(EmbedSettings(run=str(run), source=source, out=str(out), **options))


def test_the_run_s_own_particles_have_its_latents_and_the_others_losses_like_theirs(
    data, run, tmp_path
):
    found = embedded(run, tmp_path / "out", data / "particles.star")
    mean, _ = read_latents(str(tmp_path / "out" / "z.pkl"))
    assert mean.shape == (203, 2)
    np.testing.assert_allclose(mean[:150], latents(run, EPOCHS), atol=1e-5)
    table = pq.read_table(tmp_path / "out" / "particles.parquet")
    assert table.column("original").to_pylist() == list(range(203))
    error = table.column("reconstruction").to_numpy()
    np.testing.assert_array_equal(error, found.encoded.reconstruction)
    assert 0.9 < error[150:].mean() / error[:150].mean() < 1.2


def test_an_earlier_epoch_is_taken_by_its_number(data, run, tmp_path):
    embedded(run, tmp_path / "out", data / "particles.star", epoch=1)
    mean, _ = read_latents(str(tmp_path / "out" / "z.pkl"))
    np.testing.assert_allclose(mean[:150], latents(run, 1), atol=1e-5)


def test_images_of_opposite_contrast_are_told_by_their_correlation(data, run, tmp_path, caplog):
    first = embedded(run, tmp_path / "own", data / "particles.star")
    assert not caplog.records
    other = embedded(run, tmp_path / "dark", data / "particles.star", opposite_contrast=True)
    assert "by -0." in caplog.text
    assert "opposite contrast" in caplog.text
    assert first.encoded.correlation.mean() > 0 > other.encoded.correlation.mean()
    assert "Leave out --opposite-contrast" in caplog.text


def test_images_that_correlate_with_nothing_are_told(data):
    noise = np.random.default_rng(0).normal(size=500) * 0.05
    assert "which is no correlation" in embed._disagreement(Correlated(noise), "run", "Give")
    assert embed._disagreement(Correlated(noise + 0.02), "run", "Give") is None


def test_images_that_are_not_the_run_s_are_refused(data, run, tmp_path):
    simulate(str(tmp_path / "larger"), Simulation(num_particles=20, box=24, snr=1.0))
    with pytest.raises(InputError, match=r"have 24 px, but .* have 16 px.*raydrgn downsample"):
        embedded(run, tmp_path / "out", tmp_path / "larger" / "particles.star")
    star = (data / "particles.star").read_text()
    size = next(line.split()[3] for line in star.splitlines() if line.startswith("1 opticsGroup1"))
    other = data / "other.star"
    other.write_text(star.replace(f" {size} ", f" {float(size) * 1.1:.4f} "))
    with pytest.raises(InputError, match="would take them for others"):
        embedded(run, tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_particles_of_one_optics_group_of_the_run_are_taken(data, tmp_path):
    star = (data / "particles.star").read_text()
    head, rows = star.split("_rlnOpticsGroup #11\n")
    optics = next(line for line in head.splitlines() if line.startswith("1 opticsGroup1"))
    size = optics.split()[3]
    other = optics.replace("1 opticsGroup1", "2 coarse").replace(size, f"{float(size) * 1.07:.4f}")
    lines = rows.strip().splitlines()
    coarse = [line.rsplit(maxsplit=1)[0] + " 2" for line in lines[:60]]
    head = head.replace(optics, f"{optics}\n{other}") + "_rlnOpticsGroup #11\n"
    (data / "mixed.star").write_text("\n".join([head + coarse[0], *coarse[1:], *lines[60:], ""]))
    (data / "coarse.star").write_text("\n".join([head + coarse[0], *coarse[1:], ""]))
    source = ParticleSource(particles=str(data / "mixed.star"))
    values = {**SMALL, "train.epochs": 1}
    root = tmp_path / "run"
    fit(begin(RunRequest(root=str(root), source=source, values=values)))
    embedded(root, tmp_path / "out", data / "coarse.star")
    mean, _ = read_latents(str(tmp_path / "out" / "z.pkl"))
    np.testing.assert_allclose(mean, latents(root, 1)[:60], atol=1e-5)


def test_a_run_without_an_encoder_of_raydrgn_is_refused(data, tmp_path):
    theirs = Path(__file__).parents[1] / "assets" / "cryodrgn" / "fourier"
    with pytest.raises(RunDirectoryError, match="is a run of cryoDRGN"):
        embedded(theirs, tmp_path / "out", data / "particles.star")
