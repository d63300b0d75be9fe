"""The bench of scaling: what workers exchange, and what a run costs beside its steps."""

import pytest

from raydrgn.bench import scaling, worker_steps
from raydrgn.bench.run_parts import measure_parts
from raydrgn.bench.settings import ScalingSettings
from raydrgn.geometry.lattice import half_disc
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE


def num_parameters(model, box):
    vae = HeterogeneousVAE(model, box=box, num_pixels=2 * len(half_disc(box)))
    return sum(parameter.numel() for parameter in vae.parameters())


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_of_workers_double_up_to_the_most(most, expected):
    assert worker_steps.numbers_of_workers(most) == expected


def test_sizes_of_the_parts_are_those_of_parameters_and_points():
    model = ModelConfig(encoder_width=32, decoder_width=32)
    parts = measure_parts(model, box=16, num_particles=100)
    parameters = num_parameters(model, 16)
    assert parts.gradient_bytes == 4 * parameters
    assert parts.prepared_bytes == 8 * len(half_disc(16))
    # parameters and Adam's two moments, in single precision, and a little beside them
    assert 12 * parameters < parts.checkpoint_bytes < 12 * parameters + 40_000
    assert min(parts.prepared_per_s, parts.encoded_per_s, parts.checkpoint_s) > 0


@pytest.mark.ray
@pytest.mark.long
def test_two_workers_send_each_gradient_once(monkeypatch, ray_session):
    """A ring of n workers sends 2(n − 1)/n of the gradients from each; for two that is all."""
    monkeypatch.setattr(scaling, "ROUND_SECONDS", 0.1)
    settings = ScalingSettings(box=16, width=64, layers=1, batch_size=2, num_particles=50)
    rates = scaling.run(settings)
    one, two = rates.steps
    assert (one.workers, two.workers) == (1, 2)
    assert one.sent_bytes == pytest.approx(0, abs=1000)
    assert 0.95 < two.sent_bytes / rates.parts.gradient_bytes < 1.2
    assert min(two.compute_s, two.step_s, two.cpu_s) > 0
