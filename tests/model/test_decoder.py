"""Decoders of every encoding and domain: symmetry, slices and volumes of one function."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch

from raydrgn.fourier.transforms import fft_centred
from raydrgn.geometry.lattice import half_ball, half_disc, plane_coordinates
from raydrgn.geometry.rotations import from_euler
from raydrgn.model import volume
from raydrgn.model.config import Encoding, ModelConfig
from raydrgn.model.decoder import Decoder, FourierDecoder, HartleyDecoder, build_decoder
from raydrgn.model.volume import decode_slices, decode_volumes

BOX = 12
KINDS = list(itertools.product(get_args(Encoding), ("fourier", "hartley")))


@pytest.fixture(params=KINDS, ids=["-".join(kind) for kind in KINDS])
def decoder(request):
    """A decoder of every encoding and domain, with random weights."""
    encoding, domain = request.param
    torch.manual_seed(1)
    config = ModelConfig(
        zdim=3, decoder_layers=1, decoder_width=10, encoding=encoding, domain=domain
    )
    return build_decoder(config, BOX).eval()


@pytest.fixture
def z(generator):
    return torch.randn(2, 3, generator=generator)


@pytest.fixture
def points(generator):
    """Points off the plane z = 0, where a point and its mate are told apart by z."""
    return torch.rand(1, 20, 3, generator=generator) - 0.5


def test_it_is_what_callers_are_promised(decoder):
    assert isinstance(decoder, Decoder)
    kind = FourierDecoder if decoder.decoder.main[-1].out_features == 2 else HartleyDecoder
    assert type(decoder) is kind


def test_slices_are_decoded_in_passes_of_a_bounded_size(decoder, z, generator, monkeypatch):
    points = torch.rand(2, 20, 3, generator=generator) - 0.5
    whole, passes = decoder.values(points, z), []

    class Counted:
        def values(self, points, z):
            passes.append(points.shape[1] * len(z))
            return decoder.values(points, z)

    monkeypatch.setattr(volume, "ROWS_PER_PASS", 14)
    torch.testing.assert_close(decode_slices(Counted(), points, z), whole)
    assert passes == [14, 14, 12]


def test_volumes_are_decoded_in_passes_of_a_bounded_size(decoder, z, monkeypatch):
    whole, passes = decode_volumes(decoder, z, box=BOX), []

    class Counted:
        def values(self, points, z):
            passes.append(points.shape[1] * len(z))
            return decoder.values(points, z)

    monkeypatch.setattr(volume, "ROWS_PER_PASS", 401)
    torch.testing.assert_close(decode_volumes(Counted(), z, box=BOX), whole, rtol=0, atol=1e-6)
    assert set(passes[:-1]) == {400}
    assert sum(passes) == 2 * len(half_ball(BOX))


def test_values_are_those_of_a_real_volume(decoder, points, z):
    # v(−k) = conj v(k)
    here, there = decoder.values(points, z), decoder.values(-points, z)
    mates = here * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(there, mates, rtol=0, atol=1e-6)


def test_one_set_of_points_serves_all_latents(decoder, points, z):
    together = decoder.values(points, z)
    assert together.shape == (2, 20, 2)
    torch.testing.assert_close(
        decoder.values(points.expand(2, -1, -1), z), together, rtol=0, atol=1e-6
    )
    for i in range(2):
        alone = decoder.values(points, z[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)


def test_a_slice_is_the_plane_of_the_volume(decoder, z):
    # Unturned, the points of a slice are points of the ball: the volume's own coefficients.
    disc = half_disc(BOX)
    disc = disc[disc.abs().amax(-1) < BOX // 2]
    values = decoder.values(plane_coordinates(disc, BOX)[None], z)
    spectrum = fft_centred(decode_volumes(decoder, z, box=BOX), ndim=3)
    x, y = (disc + BOX // 2).unbind(1)
    expected = torch.view_as_real(spectrum[:, BOX // 2, y, x])
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4)


def test_the_volume_has_the_decoder_s_values_within_nyquist_and_none_beyond(decoder, z):
    ball = half_ball(BOX)
    ball = ball[ball.abs().amax(-1) < BOX // 2]
    values = decoder.values(ball[None] / BOX, z)
    spectrum = fft_centred(decode_volumes(decoder, z, box=BOX), ndim=3)
    x, y, zs = (ball + BOX // 2).unbind(1)
    found = torch.view_as_real(spectrum[:, zs, y, x])
    # the origin, last of the list, is its own mate; all else is as the decoder says
    torch.testing.assert_close(found[:, :-1], values[:, :-1], rtol=0, atol=1e-4)
    ticks = torch.arange(-(BOX // 2), BOX // 2)
    grid = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    beyond = sum(axis**2 for axis in grid) > (BOX // 2) ** 2
    assert spectrum[:, beyond].abs().max() < 1e-4


def test_corners_are_the_whole_cube(decoder, z):
    volume = decode_volumes(decoder, z, box=BOX, corners=True)
    corner = torch.tensor([[[-5, 5, -5]]])
    value = decoder.values(corner / BOX, z)[:, 0]
    at = fft_centred(volume, ndim=3)[:, 1, 11, 1]
    torch.testing.assert_close(torch.view_as_real(at), value, rtol=0, atol=1e-4)


def test_a_smaller_box_has_the_same_low_frequencies(decoder, z):
    small = fft_centred(decode_volumes(decoder, z, box=BOX, small_box=8), ndim=3)
    whole = fft_centred(decode_volumes(decoder, z, box=BOX), ndim=3)
    ticks = torch.arange(-3, 4)
    zs, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    inside = zs**2 + y**2 + x**2 < 16
    torch.testing.assert_close(
        small[:, 1:, 1:, 1:][:, inside], whole[:, 3:-2, 3:-2, 3:-2][:, inside], rtol=0, atol=1e-4
    )
    assert small.shape[-1] == 8


def test_volumes_do_not_depend_on_how_many_are_made_at_once(decoder, z, monkeypatch):
    together = decode_volumes(decoder, z, box=BOX)
    monkeypatch.setattr("raydrgn.model.volume.ROWS_PER_PASS", 200)
    for i in range(2):
        alone = decode_volumes(decoder, z[i : i + 1], box=BOX)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)


@pytest.mark.parametrize("turn", [(0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)])
def test_a_slice_turned_by_quarters_is_that_plane_of_the_volume(decoder, z, turn):
    # Quarter turns take lattice points to lattice points.
    rotation = torch.from_numpy(from_euler(90.0 * np.array(turn))).round().float()
    disc = half_disc(BOX)
    disc = disc[disc.abs().amax(-1) < BOX // 2]
    points = plane_coordinates(disc, BOX) @ rotation
    spectrum = fft_centred(decode_volumes(decoder, z, box=BOX), ndim=3)
    if isinstance(decoder, FourierDecoder):  # at z = 0 it is asked for one of each pair only
        points = points[points[:, 2].abs() > 0.5 / BOX]
    x, y, zs = ((points * BOX).round().long() + BOX // 2).unbind(1)
    expected = torch.view_as_real(spectrum[:, zs, y, x])
    torch.testing.assert_close(decoder.values(points[None], z), expected, rtol=0, atol=1e-4)


def test_values_beyond_the_range_of_half_precision_are_decoded_in_single(decoder, z):
    expected = decode_volumes(decoder, z, box=BOX)
    half = decode_volumes(decoder, z, box=BOX, amp_dtype=torch.float16)
    assert not torch.equal(half, expected)
    with torch.no_grad():
        decoder.decoder.main[-1].weight *= 1e7
    expected = decode_volumes(decoder, z, box=BOX)
    assert torch.equal(decode_volumes(decoder, z, box=BOX, amp_dtype=torch.float16), expected)
