"""Our own runs opened for reading; cryoDRGN's are in test_cryodrgn_run."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from phantoms import table_of
from raydrgn.data.config import ImageConfig
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import write_latents
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.manifest import FileRecord, Manifest
from raydrgn.run.reader import open_run

MODEL = ModelConfig(zdim=2, encoder_width=8, decoder_width=8)


@pytest.fixture
def root(tmp_path):
    """A run of two epochs, with the weights of an untrained network."""
    run = RunDirectory(str(tmp_path / "run"))
    config = RunConfig(
        source=ParticleSource(particles="/data/p.star"),
        data=ImageConfig(box=8, scale=2.5),
        pixel_size_angstrom=1.5,
        model=MODEL,
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config.to_yaml())
    table_of(6).write(run.particles)
    torch.manual_seed(0)
    vae = HeterogeneousVAE(MODEL, box=8, num_pixels=20)
    for epoch in (1, 2):
        torch.save({"epoch": epoch, "model_state_dict": vae.state_dict()}, run.weights(epoch))
        latents = np.full((6, 2), epoch, dtype=np.float32)
        write_latents(run.latents(epoch), latents, latents)
    return run.root


def test_what_a_run_says_of_itself(root):
    run = open_run(root)
    assert not run.is_foreign
    assert (run.box, run.pixel_size_angstrom, run.scale, run.offset) == (8, 1.5, 2.5, 0)
    assert run.model == MODEL
    assert len(run.particles()) == 6
    assert run.decoder(1).pixel_size_angstrom == 1.5


def test_relative_paths_are_those_of_the_user(root, monkeypatch):
    monkeypatch.chdir(root)
    assert open_run(".").files.root == root
    assert open_run("../run").files.root == root


def test_the_last_whole_epoch_is_taken(root):
    run = open_run(root)
    assert run.epoch(None) == 2
    assert run.epoch(1) == 1
    assert (run.latents(run.epoch(None)) == 2).all()


def test_an_epoch_that_is_not_there_is_refused_with_those_that_are(root):
    with pytest.raises(RunDirectoryError, match="no epoch 7; those that are finished: 1, 2"):
        open_run(root).epoch(7)


def test_a_run_without_epochs_is_refused_when_one_is_needed(root, tmp_path):
    for path in (tmp_path / "run").glob("*.[12].pkl"):
        path.unlink()
    run = open_run(root)
    with pytest.raises(RunDirectoryError, match="has no finished epoch yet"):
        run.epoch(None)
    with pytest.raises(RunDirectoryError, match="no epoch 1; those that are finished: none"):
        run.epoch(1)


def test_latents_of_another_dimension_are_refused(root):
    run = open_run(root)
    other = np.zeros((6, 3), dtype=np.float32)
    write_latents(run.files.latents(1), other, other)
    with pytest.raises(RunDirectoryError, match=r"z\.1\.pkl has 3 dimensions, but .* zdim is 2"):
        run.latents(1)


def test_a_place_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="is not a run directory: it is empty"):
        open_run(str(tmp_path))
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(RunDirectoryError, match=r"is not a run directory: it has no config\.yaml"):
        open_run(str(tmp_path))
    with pytest.raises(RunDirectoryError, match=r"other\.txt is not a run directory: it is a file"):
        open_run(str(tmp_path / "other.txt"))
    with pytest.raises(RunDirectoryError, match="gone does not exist; check the path of the run"):
        open_run(str(tmp_path / "gone"))


def test_a_configuration_of_another_version_is_refused_with_the_key(root, tmp_path):
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text() + "novelty: 1\n")
    with pytest.raises(ConfigError, match="Unknown key 'novelty'"):
        open_run(root)


# The end of training -----------------------------------------------------------------------------


def test_a_run_is_finished_when_all_epochs_of_its_configuration_are(root):
    run, record = open_run(root), FileRecord(1, "0")
    config = RunConfig.read(run.files.config)
    files = {"weights": record, "latents": record}
    storage.write_bytes(run.files.weights(None), b"weights of an earlier end")

    def with_epochs(wanted):
        text = config.with_values({"train.epochs": wanted}).to_yaml()
        storage.write_bytes(run.files.config, text.encode())

    with_epochs(2)
    assert not run.is_finished()  # nothing is recorded
    Manifest(epochs={1: files, 2: {"weights": record}}).write(run.files.manifest)
    assert not run.is_finished()
    Manifest(epochs={1: files, 2: files}).write(run.files.manifest)
    assert run.is_finished()
    with_epochs(40)  # it goes on
    assert not run.is_finished()


def test_a_run_of_cryodrgn_is_finished_when_its_last_weights_are_newest(root):
    run = replace(open_run(root), is_foreign=True)
    assert not run.is_finished()
    storage.write_bytes(run.files.weights(None), b"")
    os.utime(run.files.weights(2), (1000, 1000))
    os.utime(run.files.weights(None), (1000, 1000))
    assert run.is_finished()
    os.utime(run.files.weights(2), (2000, 2000))  # an epoch after the earlier end
    assert not run.is_finished()
