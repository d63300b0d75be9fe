"""How far a run is, from what it has recorded."""

import numpy as np
import pytest
import torch

from raydrgn.data.config import ImageConfig
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.reader import open_run
from raydrgn.run.recipe import TrainConfig
from raydrgn.run.status import find_run
from raydrgn.run.writer import RunWriter


def config_of(epochs):
    config = RunConfig(
        source=ParticleSource(particles="/data/p.star"),
        data=ImageConfig(box=8),
        train=TrainConfig(epochs=epochs),
        pixel_size_angstrom=1.0,
    )
    return config.to_yaml().encode()


def finish_epoch(writer, epoch):
    checkpoint = Checkpoint(
        position=Position(epoch + 1, 0),
        model={"decoder.weight": torch.full((3,), float(epoch))},
        optimiser={},
        sums=[0.0, 0.0, 0.0],
    )
    writer.save_checkpoint(checkpoint.to_bytes(), checkpoint.position)
    writer.save_latents(epoch, 0, *np.full((2, 5, 2), epoch, dtype=np.float32))


@pytest.fixture
def root(tmp_path):
    """A finished run of two epochs."""
    writer = RunWriter(str(tmp_path), num_particles=5)
    writer.begin(config_of(2), b"particles")
    for epoch in (1, 2):
        assert not open_run(str(tmp_path)).is_finished()
        finish_epoch(writer, epoch)
    writer.finish(2)
    return str(tmp_path)


def test_a_run_is_finished_when_its_last_epoch_is(root):
    status = find_run(root)
    assert status.is_finished
    assert status.count == "2 of 2 epochs done"
    assert open_run(root).is_finished()


def test_a_run_that_goes_on_is_not_finished_whatever_lies_there(root):
    """The weights of the earlier end must not look like an end."""
    run, writer = RunDirectory(root), RunWriter(root, num_particles=5)
    assert storage.exists(run.weights(None))
    writer.begin(config_of(4), None)
    assert not open_run(root).is_finished()
    assert not storage.exists(run.weights(None))
    assert not storage.exists(run.latents(None))
    assert storage.read_bytes(run.particles) == b"particles"
    assert run.epochs() == [1, 2]
    finish_epoch(writer, 3)
    assert not open_run(root).is_finished()
    finish_epoch(writer, 4)
    writer.finish(4)
    assert open_run(root).is_finished()
    assert storage.read_bytes(run.weights(None)) == storage.read_bytes(run.weights(4))
