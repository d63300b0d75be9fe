"""A decoder apart from its run: grey values, scale, offset, and what is refused."""

import pickle

import numpy as np
import pytest
import torch

from phantoms import fill_disk, hostile_archive, hostile_pickle
from raydrgn.errors import RunDirectoryError, StorageError
from raydrgn.fourier.transforms import fft_centred
from raydrgn.io import storage
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.model.volume import decode_volumes
from raydrgn.run.weights import DecoderState, read_decoder_tensors

CPU = torch.device("cpu")
CONFIG = ModelConfig(zdim=2, encoder_width=8, decoder_width=8)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return HeterogeneousVAE(CONFIG, box=8, num_pixels=20)


@pytest.fixture
def weights(tmp_path, vae):
    uri = str(tmp_path / "weights.1.pkl")
    torch.save({"epoch": 1, "model_state_dict": vae.state_dict()}, uri)
    return uri


def state_of(tensors, **changes):
    values = {"model": CONFIG, "box": 8, "pixel_size_angstrom": 2.0, "scale": 1.0, "offset": 0.0,
              "corners": False, "tensors": tensors} | changes  # fmt: skip
    return DecoderState(**values)


@pytest.mark.parametrize("place", ["local", "memory"])
def test_the_decoder_of_a_file_is_the_network_s(vae, weights, place):
    uri = weights
    if place == "memory":
        uri = "memory://weights/weights.1.pkl"
        storage.write_bytes(uri, storage.read_bytes(weights))
    decoder = state_of(read_decoder_tensors(uri)).build(CPU)
    assert not decoder.training
    points = torch.rand(1, 5, 3) - 0.5
    z = torch.randn(2, 2)
    assert torch.equal(decoder.values(points, z), vae.decoder.values(points, z))


def test_grey_values_are_those_of_the_images(weights):
    tensors = read_decoder_tensors(weights)
    z = np.array([[0.5, -1.0]], dtype=np.float32)
    plain = state_of(tensors)
    decoder = plain.build(CPU)
    expected = 3 * decode_volumes(decoder, torch.from_numpy(z), box=8)
    found = state_of(tensors, scale=3.0).volumes(decoder, z)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_an_offset_is_a_constant_in_every_coefficient(weights):
    tensors = read_decoder_tensors(weights)
    z = np.zeros((1, 2), dtype=np.float32)
    decoder = state_of(tensors).build(CPU)
    before, after = (state_of(tensors, offset=o).volumes(decoder, z) for o in (0.0, 4.0))
    difference = fft_centred(after - before, ndim=3)
    torch.testing.assert_close(difference, torch.full_like(difference, 4), rtol=0, atol=1e-5)


def test_a_state_can_be_shipped_to_another_process(weights):
    state = state_of(read_decoder_tensors(weights))
    again = pickle.loads(pickle.dumps(state))
    z = np.ones((1, 2), dtype=np.float32)
    first, second = (s.volumes(s.build(CPU), z) for s in (state, again))
    assert torch.equal(first, second)


def test_weights_of_another_network_are_refused(weights):
    wider = ModelConfig(zdim=2, decoder_width=16)
    state = state_of(read_decoder_tensors(weights), model=wider)
    with pytest.raises(
        RunDirectoryError, match=r"weights and configuration are not of one network \(size"
    ):
        state.build(CPU)


@pytest.mark.parametrize("keep", [0, 10, 2000, -1, -3000])
def test_a_truncated_archive_is_refused(tmp_path, weights, keep):
    content = storage.read_bytes(weights)
    (tmp_path / "short.pkl").write_bytes(content[:keep])
    with pytest.raises(RunDirectoryError, match=r"short\.pkl does not contain weights of a run"):
        read_decoder_tensors(str(tmp_path / "short.pkl"))


@pytest.mark.parametrize(
    "content", [{"epoch": 1}, [1, 2], {"model_state_dict": [1]}, {"model_state_dict": None}]
)
def test_other_archives_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pkl")
    with pytest.raises(RunDirectoryError, match="does not contain weights of a run"):
        read_decoder_tensors(str(tmp_path / "other.pkl"))


@pytest.mark.parametrize("make", [hostile_archive, hostile_pickle], ids=["archive", "bare pickle"])
def test_nothing_of_malicious_weights_runs(tmp_path, make):
    uri, mark = make(tmp_path, "evil.pkl")
    with pytest.raises(
        RunDirectoryError, match=r"evil\.pkl does not contain weights of a run"
    ) as told:
        read_decoder_tensors(uri)
    assert "weights_only" not in str(told.value)
    assert not mark.exists()


def test_a_missing_file_and_a_full_disk_are_the_storage_s_matter(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="does not exist"):
        read_decoder_tensors(str(tmp_path / "gone.pkl"))
    fill_disk(monkeypatch)
    with pytest.raises(StorageError, match="No room is left"):
        storage.write_bytes(str(tmp_path / "w.pkl"), b"x")
