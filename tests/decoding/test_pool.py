"""Volumes of latents in this process: options, pixel size, files."""

import mrcfile
import numpy as np
import pytest
import torch

from finished_run import make_run
from phantoms import fill_disk
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder, VolumeRequest
from raydrgn.errors import ConfigError, StorageError
from raydrgn.fourier.resample import low_pass
from raydrgn.fourier.transforms import fft_centred


def written(requests, state, options):
    with DecoderPool(state, options) as pool:
        return list(pool.write(requests))


Z = np.array([[0.5, -1.0], [2.0, 0.25], [0, 0]], dtype=np.float32)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("volumes") / "run", Z, box=12)
    return run.decoder(1)


def decode(state, **options):
    return VolumeDecoder(state, VolumeOptions(**options)).decode(Z)


def test_flip_reverses_z_and_invert_the_sign(state):
    plain = decode(state)
    assert plain.shape == (3, 12, 12, 12)
    np.testing.assert_array_equal(decode(state, flip=True), plain[:, ::-1])
    np.testing.assert_array_equal(decode(state, invert=True), -plain)
    np.testing.assert_array_equal(decode(state, flip=True, invert=True), -plain[:, ::-1])


def test_grey_values_of_a_smaller_box_are_larger_by_its_share(state):
    # conventions.md, 2.13: (D/d)³ times those of the full-size map at the same place
    small, whole = decode(state, box=6), decode(state)
    spectra = [fft_centred(torch.from_numpy(v), ndim=3) for v in (small, whole)]
    inner = torch.view_as_real(spectra[0][:, 2:5, 2:5, 2:5])
    outer = torch.view_as_real(spectra[1][:, 5:8, 5:8, 5:8])
    torch.testing.assert_close(inner, outer, rtol=0, atol=1e-4)


def test_a_box_that_is_asked_for_takes_the_place_of_that_of_the_options(state):
    with DecoderPool(state, VolumeOptions(box=8, low_pass_angstrom=16.0)) as pool:
        found = pool.volumes(Z, box=6)
    np.testing.assert_allclose(found, decode(state, box=6, low_pass_angstrom=16.0), atol=1e-6)


def test_a_low_pass_is_that_of_the_pixel_size(state):
    options = VolumeOptions(box=6, low_pass_angstrom=16.0)
    decoder = VolumeDecoder(state, options)
    assert decoder.pixel_size_angstrom == 4.0  # 12 px of 2 Å in 6 px
    expected = low_pass(
        torch.from_numpy(decode(state, box=6)), resolution_angstrom=16.0, pixel_size_angstrom=4.0
    )
    np.testing.assert_allclose(decoder.decode(Z), expected.numpy(), atol=1e-6)


def test_files_have_the_volumes_and_their_pixel_size(state, tmp_path, monkeypatch):
    monkeypatch.setattr("raydrgn.decoding.pool.LATENTS_PER_BATCH", 2)
    options = VolumeOptions(box=8)
    requests = [VolumeRequest(tuple(map(float, z)), str(tmp_path / f"{i}.mrc"))
                for i, z in enumerate(Z)]  # fmt: skip
    outcomes = written(requests, state, options)
    assert [len(outcome.item) for outcome in outcomes] == [2, 1]
    assert [uri for outcome in outcomes for uri in outcome.value] == [r.uri for r in requests]
    for request, expected in zip(requests, decode(state, box=8), strict=True):
        with mrcfile.open(request.uri) as mrc:
            np.testing.assert_allclose(mrc.data, expected, atol=1e-6)
            assert mrc.voxel_size.x == pytest.approx(3.0)  # 12 px of 2 Å in 8 px


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": 16}, "--box 16 is larger than the run's box of 12 px"),
        ({"box": 7}, "--box must be even to have a centre pixel, got 7"),
        ({"low_pass_angstrom": 0.0}, "--low-pass must be greater than 0, got 0"),
        ({"low_pass_angstrom": float("nan")}, "--low-pass must be a finite number"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(state, options, message):
    with pytest.raises(ConfigError, match=message):
        written([], state, VolumeOptions(**options))


def test_the_same_box_is_no_smaller_one(state):
    np.testing.assert_allclose(decode(state, box=12), decode(state), atol=1e-6)


def test_a_disk_that_fills_up_leaves_whole_volumes_only(state, tmp_path, monkeypatch):
    requests = [VolumeRequest((0.0, float(i)), str(tmp_path / f"{i}.mrc")) for i in range(4)]
    fill_disk(monkeypatch, after=2)
    with pytest.raises(StorageError, match=r"No room is left to write .*2\.mrc"):
        written(requests, state, VolumeOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.mrc", "1.mrc"]
    assert all(mrcfile.validate(p) for p in tmp_path.iterdir())
