"""Training that starts from the weights of another run."""

import shutil
from pathlib import Path

import pytest
import torch

from plain import SMALL, assemble, fit, small_run, weights
from raydrgn.errors import RunDirectoryError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.training.initial_weights import find_weights
from raydrgn.training.prepare_run import RunRequest, begin

CRYODRGN = Path(__file__).parent.parent / "assets" / "cryodrgn"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def earlier(data):
    """A run of two epochs."""
    root = data / "earlier"
    run = small_run(data, root, **{"train.epochs": 2})
    fit(run)
    (root / "config.yaml").write_text(run.config.to_yaml())
    return root


@pytest.mark.parametrize(
    ("text", "epoch"), [("{}", 2), ("{}:1", 1), ("{}:2", 2), ("{}/weights.1.pkl", 1)]
)
def test_a_run_an_epoch_or_a_file_name_weights(earlier, text, epoch):
    _, uri = find_weights(text.format(earlier))
    assert uri == str(earlier / f"weights.{epoch}.pkl")


def test_an_epoch_that_is_not_there_is_refused(earlier):
    with pytest.raises(RunDirectoryError, match=r"no epoch 7; .*finished: 1, 2"):
        find_weights(f"{earlier}:7")
    with pytest.raises(RunDirectoryError, match="nowhere does not exist"):
        find_weights(str(earlier / "nowhere"))


def test_training_starts_from_these_weights_with_a_new_optimiser(data, earlier, tmp_path):
    # without any step of Adam that matters, the weights after an epoch are those at its start
    values = {"train.epochs": 1, "train.load": f"{earlier}:1", "train.learning_rate": 1e-12}
    run = small_run(data, tmp_path, **values)
    assert run.config.train.load == str(earlier / "weights.1.pkl")
    assert "starting from the weights" in run.note
    assert run.initial.optimiser == {}
    fit(run)
    theirs = weights(earlier, 1)
    for name, tensor in weights(tmp_path, 1).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-8)


def test_the_network_is_that_of_the_other_run(data, earlier, tmp_path):
    source = ParticleSource(particles=str(data / "particles.star"))
    request = RunRequest(root=str(tmp_path), source=source, values={"train.load": str(earlier)})
    assert begin(request).config.model.decoder_width == SMALL["model.decoder_width"]


def test_another_network_is_refused_by_its_first_difference(data, earlier, tmp_path):
    with pytest.raises(RunDirectoryError, match=r"encoder\.main\..* is .* there and .* here") as e:
        small_run(data, tmp_path, **{"train.load": str(earlier), "model.zdim": 3})
    assert "same box and the same network" in str(e.value)


def test_weights_of_cryodrgn_are_taken_with_their_network(data, tmp_path):
    """Its encoder gives for its own images what cryoDRGN has found (test_cryodrgn_run)."""
    theirs = tmp_path / "cryodrgn"
    shutil.copytree(CRYODRGN / "fourier", theirs)
    small_run(data, tmp_path / "unused")  # simulates the particles
    source = ParticleSource(particles=str(data / "particles.star"))
    values = {"train.load": f"{theirs}:2", "train.epochs": 1}
    request = RunRequest(root=str(tmp_path / "run"), source=source, values=values)
    run = begin(request)
    raw = torch.load(theirs / "weights.2.pkl", weights_only=True)["model_state_dict"]
    parts = assemble(run)
    parts.loop.load(run.initial)
    for name, tensor in parts.vae.state_dict().items():
        assert torch.equal(tensor, raw[name]), name
    fit(run)
    assert weights(tmp_path / "run", 1).keys() == raw.keys()
