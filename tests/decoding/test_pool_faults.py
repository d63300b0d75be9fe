"""Decoders on actors: the same volumes as one process makes, in order, whoever dies."""

import os
import sys
from functools import partial

import numpy as np
import pytest
import ray
import torch

from latents import decoder_state
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder, VolumeRequest
from raydrgn.fourier.transforms import ifft_centred
from raydrgn.io.mrc import read_volume
from raydrgn.remote.executor import Executor

Z = np.random.default_rng(0).normal(size=(19, 2)).astype(np.float32)


def mean_density(volumes):
    return volumes.mean(axis=(1, 2, 3))


def die_once(volumes, mark):
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return len(volumes)
    os._exit(1)


@pytest.fixture(scope="module", autouse=True)
def _functions_of_this_module_are_shipped():
    """Ship this module's functions whole; actors cannot import a test."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_volumes_come_in_order_of_their_latents():
    state = decoder_state()
    with DecoderPool(state, VolumeOptions()) as pool:
        volumes = pool.volumes(Z)
    alone = VolumeDecoder(state, VolumeOptions())
    for z, volume in zip(Z, volumes, strict=True):
        np.testing.assert_allclose(alone.decode(z[None])[0], volume, rtol=0, atol=1e-6)


def test_a_volume_from_half_the_ball_is_that_of_the_whole_ball():
    state = decoder_state(box=12)
    box, decoder = state.box, state.build(torch.device("cpu"))
    ticks = torch.arange(-box // 2, box // 2)
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    inside = points.square().sum(-1) < (box / 2) ** 2  # Nyquist itself is a matter of convention
    spectrum = torch.zeros(len(points), 2)
    with torch.inference_mode():
        values = decoder.values(points[inside][None] / box, torch.from_numpy(Z[:1]))[0]
    spectrum[inside] = values
    whole = ifft_centred(torch.view_as_complex(spectrum).reshape(box, box, box), ndim=3)
    half = torch.from_numpy(VolumeDecoder(state, VolumeOptions()).decode(Z[:1])[0]) / state.scale
    spectrum_half = torch.fft.fftn(torch.fft.ifftshift(half))
    spectrum_whole = torch.fft.fftn(torch.fft.ifftshift(whole))
    # In the plane kz = 0 a perceptron need not be Hermitian: there one of each pair is asked.
    below = torch.fft.ifftshift((inside & (points[:, 2] != 0)).reshape(box, box, box))
    torch.testing.assert_close(spectrum_half[below], spectrum_whole[below], rtol=0, atol=1e-4)


@pytest.mark.ray
def test_actors_make_what_one_process_makes(ray_session, tmp_path):
    state, options = decoder_state(), VolumeOptions(box=8, flip=True)
    with (
        DecoderPool(state, options) as alone,
        DecoderPool(state, options, Executor(workers=2)) as pool,
    ):
        np.testing.assert_allclose(pool.volumes(Z), alone.volumes(Z), rtol=0, atol=1e-6)
        found = {tuple(o.item): o.value for o in pool.apply(mean_density, Z)}
        wanted = {tuple(o.item): o.value for o in alone.apply(mean_density, Z)}
        assert found.keys() == wanted.keys()
        for rows, values in found.items():
            np.testing.assert_allclose(values, wanted[rows], rtol=0, atol=1e-6)
        requests = [
            VolumeRequest(tuple(map(float, z)), f"{tmp_path}/{i}.mrc") for i, z in enumerate(Z)
        ]
        assert all(outcome.error is None for outcome in pool.write(requests))
        volume, header = read_volume(f"{tmp_path}/18.mrc")
        np.testing.assert_allclose(volume, alone.volumes(Z[18:])[0], rtol=0, atol=1e-6)
        assert header.pixel_size_angstrom == pytest.approx(3.0 * 12 / 8)


@pytest.mark.ray
def test_what_a_dead_actor_held_is_made_again(ray_session, tmp_path):
    state = decoder_state()
    with DecoderPool(state, VolumeOptions(), Executor(workers=2)) as pool:
        outcomes = list(pool.apply(partial(die_once, mark=tmp_path / "died"), Z))
    assert (tmp_path / "died").exists()
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert sorted(row for outcome in outcomes for row in outcome.item) == list(range(len(Z)))


@pytest.mark.ray
def test_a_batch_that_fails_is_an_outcome_and_the_rest_goes_on(ray_session):
    def refuse_first(volumes):
        if len(volumes) < 8:  # the last batch has three
            raise ValueError("no")
        return 1

    with DecoderPool(decoder_state(), VolumeOptions(), Executor(workers=2)) as pool:
        outcomes = list(pool.apply(refuse_first, Z))
    assert sorted(outcome.error is None for outcome in outcomes) == [False, True, True]
