"""The autoencoder: names and sizes of cryoDRGN's network, sampling, loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phantoms import unchecked
from raydrgn.errors import ConfigError
from raydrgn.fourier.transforms import hartley_from_disc
from raydrgn.geometry.lattice import half_disc
from raydrgn.model.config import ModelConfig
from raydrgn.model.loss import kl_divergence, reconstruction_error
from raydrgn.model.vae import HeterogeneousVAE


def count(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("width", "encoder", "decoder"), [(1024, 16_326_672, 3_553_282), (256, 3.49e6, 0.30e6)]
)
def test_the_network_has_the_size_of_cryodrgn_s(width, encoder, decoder):
    # conventions.md, 2.11: D = 128, zdim 8, three layers each; the smaller one printed to 10⁴
    config = ModelConfig(encoder_width=width, decoder_width=width)
    vae = HeterogeneousVAE(config, box=128, num_pixels=2 * len(half_disc(128)))
    tolerance = 0 if width == 1024 else 5e3
    assert count(vae.encoder) == pytest.approx(encoder, abs=tolerance)
    assert count(vae.decoder) == pytest.approx(decoder, abs=tolerance)


def test_parameters_have_cryodrgn_s_names():
    # conventions.md, 2.4
    config = ModelConfig(zdim=2, encoder_width=4, decoder_width=4, encoder_layers=1,
                         decoder_layers=2)  # fmt: skip
    vae = HeterogeneousVAE(config, box=8, num_pixels=20)
    shapes = {name: tuple(t.shape) for name, t in vae.state_dict().items()}
    assert shapes == {
        "encoder.main.0.weight": (4, 20), "encoder.main.0.bias": (4,),
        "encoder.main.2.linear.weight": (4, 4), "encoder.main.2.linear.bias": (4,),
        "encoder.main.4.weight": (4, 4), "encoder.main.4.bias": (4,),
        "decoder.rand_freqs": (12, 3),
        "decoder.decoder.main.0.weight": (4, 26), "decoder.decoder.main.0.bias": (4,),
        "decoder.decoder.main.2.linear.weight": (4, 4), "decoder.decoder.main.2.linear.bias": (4,),
        "decoder.decoder.main.4.linear.weight": (4, 4), "decoder.decoder.main.4.linear.bias": (4,),
        "decoder.decoder.main.6.weight": (2, 4), "decoder.decoder.main.6.bias": (2,),
    }  # fmt: skip


def test_random_frequencies_have_the_width_asked_for_and_are_not_trained():
    torch.manual_seed(0)
    config = ModelConfig(encoding_sigma=0.5, encoding_dim=2000)
    decoder = HeterogeneousVAE(config, box=8, num_pixels=20).decoder
    assert not decoder.rand_freqs.requires_grad
    # 18,000 draws: the deviation is known to 0.5 %
    assert decoder.rand_freqs.std().item() == pytest.approx(0.5, rel=0.02)
    assert decoder.rand_freqs.mean().abs() < 0.02


@pytest.fixture
def vae():
    torch.manual_seed(0)
    config = ModelConfig(zdim=2, encoder_width=8, decoder_width=8)
    return HeterogeneousVAE(config, box=8, num_pixels=20)


def test_sampling_moves_the_latent_by_noise_times_the_deviation(vae, generator):
    hartley = torch.randn(3, 20, generator=generator)
    points = torch.rand(3, 5, 3, generator=generator) - 0.5
    noise = torch.randn(3, 2, generator=generator)
    found = vae(hartley, points, noise)
    mean, logvar = vae.encoder.encode(hartley)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.logvar, logvar)
    z = mean + noise * logvar.exp().sqrt()
    torch.testing.assert_close(found.predicted, vae.decoder.values(points, z))
    still = vae(hartley, points, torch.zeros(3, 2))
    torch.testing.assert_close(still.predicted, vae.decoder.values(points, mean))


def test_mean_and_log_variance_are_the_halves_of_the_encoder_s_outputs(vae, generator):
    hartley = torch.randn(3, 20, generator=generator)
    both = vae.encoder(hartley)
    mean, logvar = vae.encoder.encode(hartley)
    torch.testing.assert_close(torch.cat([mean, logvar], dim=-1), both)


# Loss ----------------------------------------------------------------------------------------


def test_the_error_is_that_of_the_hartley_values_of_the_whole_disc(generator):
    predicted, observed = torch.randn(2, 4, 9, 2, generator=generator).double()
    difference = hartley_from_disc(predicted) - hartley_from_disc(observed)
    expected = difference.square().mean(-1)
    found = reconstruction_error(predicted, observed)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_perfect_prediction_has_no_error(generator):
    values = torch.randn(4, 9, 2, generator=generator)
    assert reconstruction_error(values, values).tolist() == [0] * 4


def test_the_divergence_of_the_prior_is_zero():
    assert kl_divergence(torch.zeros(3, 5), torch.zeros(3, 5)).tolist() == [0] * 3


@given(mean=st.floats(-5, 5), logvar=st.floats(-5, 3))
def test_the_divergence_is_that_of_two_gaussians(mean, logvar):
    found = kl_divergence(*torch.tensor([[[mean, 0.0]], [[logvar, 0.0]]], dtype=torch.float64))
    p = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), math.exp(0.5 * logvar))
    q = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    expected = torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(found[0], expected, rtol=1e-10, atol=1e-12)
    assert found[0] >= -1e-12


# Configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zdim": 0}, "model.zdim must be at least 1, got 0"),
        ({"encoder_layers": 0}, "model.encoder_layers must be at least 1"),
        ({"encoder_width": -1}, "model.encoder_width must be at least 1"),
        ({"decoder_layers": 0}, "model.decoder_layers must be at least 1"),
        ({"decoder_width": 0}, "model.decoder_width must be at least 1"),
        ({"encoding": "fourier"}, "model.encoding is 'fourier'; it must be one of gaussian, geom"),
        ({"domain": "real"}, "model.domain is 'real'; it must be one of fourier, hartley"),
        ({"activation": "gelu"}, "model.activation is 'gelu'; it must be one of relu, leaky_relu"),
        ({"encoding_sigma": 0.0}, "model.encoding_sigma must be positive, got 0.0"),
        ({"encoding_dim": -1}, "model.encoding_dim must not be negative, got -1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        unchecked(ModelConfig, **values)
