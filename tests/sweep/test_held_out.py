"""The score without a truth, on simulated particles whose truth is known."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from plain import SMALL, fit
from raydrgn.errors import ConfigError
from raydrgn.fourier.slices import SliceSampler
from raydrgn.io.mrc import read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.writer import RunWriter
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.sweep import half_sets
from raydrgn.sweep.consensus import consensus_map
from raydrgn.sweep.half_sets import agreement
from raydrgn.sweep.held_out import HeldOutImages
from raydrgn.sweep.networks import read_network
from raydrgn.sweep.scores import HeldOutScorer, Score
from raydrgn.training.held_out import without_held_out
from raydrgn.training.prepare_run import RunRequest, begin

PARTICLES, EPOCHS = 1500, 10


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A run on phantom images of 16 px, a third of them held out, before it is trained."""
    folder = tmp_path_factory.mktemp("planted")
    simulate(str(folder), Simulation(num_particles=PARTICLES, box=16, snr=1.0, seed=7))
    values = {**SMALL, "model.encoder_width": 32, "model.decoder_width": 32}
    run = begin(
        RunRequest(
            root=str(folder / "run"),
            source=ParticleSource(particles=str(folder / "particles.star")),
            values=values | {"train.epochs": EPOCHS, "train.held_out_fraction": 1 / 3},
        )
    )
    images = HeldOutImages.prepare(run.held_out, run.config)
    volume = consensus_map(run.table, run.config)
    labels = np.load(io.BytesIO((folder / "truth" / "labels.npy").read_bytes()))
    volumes = [read_volume(str(path))[0] for path in sorted((folder / "truth").glob("vol_*.mrc"))]
    return SimpleNamespace(
        run=run,
        images=images,
        volume=volume,
        errors_of_map=images.errors_of_map(volume),
        states=labels[run.held_out.column("index")],
        volumes=volumes,
    )


def true_errors(planted, states):
    """Return the errors of the true volumes of some states, one for each held-out particle."""
    samplers = [
        SliceSampler(torch.from_numpy(volume) / planted.run.config.data.scale)
        for volume in planted.volumes
    ]
    errors = np.zeros(len(states))
    for state in np.unique(states):

        def predict(batch, ctf, seen, state=state):
            points = planted.images.lattice.plane @ batch.rotations * planted.images.box
            return ctf[..., None] * samplers[state].at(points)

        here = states == state
        errors[here] = planted.images.errors(predict)[here]
    return errors


def test_held_out_particles_are_no_part_of_training_and_the_same_for_every_run(planted):
    table, held_out = planted.run.table, planted.run.held_out
    numbers = np.concatenate([table.column("index"), held_out.column("index")])
    assert len(held_out) == PARTICLES / 3
    assert sorted(numbers) == list(range(PARTICLES))
    other = begin(
        RunRequest(
            root=planted.run.root + "-other",
            source=planted.run.config.source,
            values={**SMALL, "train.seed": 9, "train.held_out_fraction": 1 / 3},
        )
    )
    np.testing.assert_array_equal(other.held_out.column("index"), held_out.column("index"))


def test_a_share_that_is_no_particle_is_refused(planted):
    with pytest.raises(ConfigError, match="of 1,000 particles is less than one"):
        without_held_out(planted.run.table, 1e-4)
    with pytest.raises(ConfigError, match=r"between 0 and 0\.5"):
        planted.run.config.with_values({"train.held_out_fraction": 0.9})


def test_what_may_be_seen_is_not_scored(planted):
    copied = planted.images.errors(lambda batch, ctf, seen: batch.coefficients * seen[..., None])
    nothing = planted.images.errors(lambda batch, ctf, seen: torch.zeros_like(batch.coefficients))
    np.testing.assert_allclose(copied, nothing, rtol=1e-6)


def test_every_coefficient_is_seen_once_and_scored_once(planted):
    seen_by = []
    planted.images.errors(lambda batch, ctf, seen: seen_by.append(seen) or batch.coefficients)
    first, second = seen_by[:2]
    assert (first ^ second).all()
    assert abs(first.float().mean() - 0.5) < 0.01
    assert not torch.equal(first[0], first[1])  # each image is divided in its own way


def test_one_map_explains_images_and_the_true_states_explain_more(planted):
    nothing = planted.images.errors(lambda batch, ctf, seen: torch.zeros_like(batch.coefficients))
    truth = true_errors(planted, planted.states)
    wrong = true_errors(planted, np.roll(planted.states, 1))
    assert Score(nothing - planted.errors_of_map).mean > 0
    gain, loss = Score(planted.errors_of_map - truth), Score(planted.errors_of_map - wrong)
    assert gain.mean > 5 * gain.standard_error
    assert loss.mean < 0


def test_the_map_of_all_particles_is_nearly_as_good_as_the_mean_of_the_true_volumes(planted):
    mean = np.mean([planted.volumes[state] for state in planted.states], axis=0)
    true_mean = planted.images.errors_of_map(
        (mean / planted.run.config.data.scale).astype(np.float32)
    )
    truth = true_errors(planted, planted.states)
    heterogeneity = (true_mean - truth).mean()
    assert abs((planted.errors_of_map - true_mean).mean()) < 0.3 * heterogeneity


def test_the_score_prefers_a_trained_network_to_others(planted):
    run = planted.run
    RunWriter(run.root, num_particles=len(run.table)).begin(
        run.config.to_yaml().encode(), run.table.to_bytes()
    )
    fit(run)
    scorer = HeldOutScorer(planted.images, planted.errors_of_map)
    early, late = scorer(run.root, 1), scorer(run.root, EPOCHS)
    truth = Score(
        100
        * (planted.errors_of_map - true_errors(planted, planted.states))
        / planted.errors_of_map.mean()
    )
    apart = Score(late.parts - early.parts)
    assert apart.mean > 5 * apart.standard_error
    assert late.mean < truth.mean
    collapsed = read_network(run.root, EPOCHS)
    for parameter in collapsed.encoder.parameters():
        parameter.data.zero_()
    network = read_network(run.root, EPOCHS)
    mask = np.ones((16, 16, 16), dtype=np.float32)
    assert agreement((network, network), planted.images, mask).mean() > 0.99
    assert agreement((network, collapsed), planted.images, mask).max() == 0
    half = agreement((network, read_network(run.root, 1)), planted.images, mask).mean()
    assert 0 < half < 0.9


def test_the_zero_frequency_is_no_agreement_of_half_sets(planted, monkeypatch):
    """Where it is all that two networks have in common, they agree as they do without it."""
    network = HeterogeneousVAE.__new__(HeterogeneousVAE)
    noise = [torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    mask, found = np.ones((16, 16, 16), np.float32), []
    for offset in (0.0, 2.0):
        differences = [v - v.mean((1, 2, 3), keepdim=True) + offset for v in noise]
        monkeypatch.setattr(half_sets, "_differences", lambda *_, left=differences: left.pop())
        found.append(agreement((network, network), planted.images, mask))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    assert found[1].mean() < 0.2
