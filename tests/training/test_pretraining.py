"""Training that starts from the latents of a mixture of factor analysers."""

import math
import signal

import numpy as np
import pytest
import torch
from torch import distributed

import plain_em
from plain import SMALL, assemble, assert_same_run, fit, latents, step_losses, weights
from processes import run_group
from raydrgn.convergence.verdict import judge_latents
from raydrgn.errors import ConfigError, InputError, RaydrgnError, RunDirectoryError
from raydrgn.evaluation.evaluation import evaluate
from raydrgn.halves.splitting import require_own
from raydrgn.io.particle_source import ParticleSource
from raydrgn.remote.allocation import Allocation
from raydrgn.run.listing import summarise
from raydrgn.run.reader import open_run
from raydrgn.run.refined_poses import with_poses_of_halves
from raydrgn.run.status import find_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training import pretraining
from raydrgn.training.in_process import train_here
from raydrgn.training.mixture_latents import MixtureLatents
from raydrgn.training.prepare_run import RunRequest, begin, resume
from raydrgn.workflows import embed

ONE = Allocation(1, cpus=1, gpus=0)
SWING = Simulation(phantom="swing", num_particles=600, box=20, snr=0.5, seed=5)
NETWORK = {**SMALL, "model.encoder_width": 64, "model.decoder_width": 64}
del NETWORK["model.zdim"]


@pytest.fixture(scope="module", autouse=True)
def _fewer_steps():
    """Pre-train such a small network by fewer steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "STEPS", 800)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A set of particles, and a mixture fitted to it."""
    folder = tmp_path_factory.mktemp("data")
    simulate(str(folder), SWING)
    values = plain_em.SMALL | {"mfa__components": 3, "mfa__rotations": False}
    run = plain_em.prepare(folder / "particles.star", folder / "mfa", **values)
    assert plain_em.fit(run)
    return folder


def prepare(data, root, **values):
    given = {**NETWORK, "train.init": str(data / "mfa"), "train.epochs": 2, **values}
    source = ParticleSource(particles=str(data / "particles.star"))
    return begin(RunRequest(root=str(root), source=source, values=given))


@pytest.fixture(scope="module")
def started(data):
    """A run of two epochs that started from the mixture."""
    fit(prepare(data, data / "started"))
    return data / "started"


def wanted(data):
    mixture = MixtureLatents.of_run(str(data / "mfa"))
    return mixture.of_particles(mixture.run.particles(), zdim=3)


def test_latents_have_the_second_moment_of_the_prior(data):
    mean, logvar = wanted(data)
    np.testing.assert_allclose((mean**2 + np.exp(logvar)).mean(axis=0), 1, atol=0.1)


def test_the_encoder_gives_the_latents_of_the_mixture_and_is_held(data, started):
    found, (mean, _) = latents(started, 1), wanted(data)
    assert found.shape == (600, 3)  # as many dimensions as components
    assert np.sqrt(((found - mean) ** 2).mean() / mean.var()) < 0.3
    np.testing.assert_array_equal(latents(started, 2), found)
    separation = evaluate(open_run(str(started)), str(data / "truth")).separation
    assert separation.motion_order > 0.9  # 0.06 after six epochs from random weights
    first, second = weights(started, 1), weights(started, 2)
    for name, tensor in first.items():
        is_held = name.startswith("encoder.") or name == "decoder.rand_freqs"
        assert torch.equal(tensor, second[name]) == is_held, name
    assert "of their SD, and is frozen" in (started / "run.log").read_text()


@pytest.mark.clusters
def test_volumes_are_nearer_the_truth_than_after_as_many_epochs_from_random_weights(data, tmp_path):
    found = []
    for name, values in (("init", {}), ("fast", {"train.init": None, "model.zdim": 3})):
        fit(prepare(data, tmp_path / name, **values, **{"train.epochs": 20}))
        found.append(evaluate(open_run(str(tmp_path / name)), str(data / "truth")))
    ours, fast = found
    assert ours.fsc > max(fast.fsc, ours.fsc_of_mean) + 0.02
    assert ours.fsc_masked > fast.fsc_masked + 0.1


@pytest.mark.clusters
def test_two_workers_pretrain_as_one_does(data, tmp_path):
    run = prepare(data, tmp_path / "run")
    run_group(_pretrain_in_group, 2, run, str(tmp_path), world=2)
    alone = pretrained(run)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first[0], alone[0], rtol=0, atol=1e-5)
    assert torch.equal(first[0], second[0])
    torch.testing.assert_close(first[1] + second[1], alone[1], rtol=1e-4, atol=1e-4)


def pretrained(run, **options):
    """Take some steps of the pre-training, and then of an epoch; return weights and losses."""
    parts = assemble(run, **options)
    parts.loop.begin_with(run.targets[:, slice(*parts.plan.rows)])
    for done in parts.loop._pretraining:
        if done == 30:
            break
    encoder = parts.vae.encoder.requires_grad_(False)
    weights = torch.cat([p.detach().clone().flatten() for p in encoder.parameters()])
    return weights, step_losses(parts.loop, parts.plan, 5)


def _pretrain_in_group(rank, world, run, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
    )
    torch.save(pretrained(run, rank=rank, world=world), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_an_encoder_that_learns_badly_is_warned_of(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pretraining, "PASSES", 1)
    monkeypatch.setattr(pretraining, "STEPS", 5)
    fit(prepare(data, tmp_path, **{"train.epochs": 1}))
    assert "wider encoder (--enc-dim)" in caplog.text
    assert "wider encoder (--enc-dim)" in (tmp_path / "run.log").read_text()


def test_weights_that_the_last_step_has_spoiled_are_not_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "PASSES", 1)
    monkeypatch.setattr(pretraining, "STEPS", 5)

    def rate(step, num_steps):
        return math.inf if step + 1 == num_steps else 0.1

    monkeypatch.setattr(pretraining, "_share_of_rate", rate)
    with pytest.raises(RaydrgnError, match="weights that are not finite, so it was not kept"):
        fit(prepare(data, tmp_path, **{"train.epochs": 1}))
    assert not list((tmp_path / "state").glob("*.pt"))


class StopAt:
    """Asks for the end of training at some step of some work, once."""

    def __init__(self, phase, step):
        self.phase, self.step, self.shown = phase, step, []

    def __call__(self, what, done, total, **_):
        self.shown.append((what, done, total))
        if what == self.phase and done >= self.step:
            self.phase = None
            signal.raise_signal(signal.SIGTERM)


def test_stopped_in_the_pretraining_it_begins_that_anew(data, started, tmp_path):
    run, stop = prepare(data, tmp_path), StopAt("pre-training the encoder", 100)
    stopped = train_here(run, ONE, progress=stop)
    assert not stopped.finished
    assert not stopped.has_checkpoint
    steps = [done for what, done, _ in stop.shown if what == "pre-training the encoder"]
    assert steps == list(range(10, 101, 10))
    fit(run)
    assert_same_run(started, tmp_path, 2)


def test_stopped_in_an_epoch_it_is_not_pretrained_again(data, started, tmp_path):
    run = prepare(data, tmp_path)
    assert not train_here(run, ONE, progress=StopAt("training", 1)).finished
    fit(run)
    assert (tmp_path / "run.log").read_text().count("of their SD, and is frozen") == 1
    assert_same_run(started, tmp_path, 2)


def test_what_it_was_pretrained_on_is_deleted_after_the_first_epoch(data, started, tmp_path):
    assert not (started / "state" / "targets.npy").exists()
    assert not train_here(prepare(data, tmp_path), ONE, progress=StopAt("training", 600)).finished
    for checkpoint in (tmp_path / "state").glob("*.pt"):
        checkpoint.unlink()
    run = resume(RunRequest(root=str(tmp_path), source=None), find_run(str(tmp_path)))
    with pytest.raises(RunDirectoryError, match=r"began with .*weights\.6\.pkl\. Start it again"):
        train_here(run, ONE)


def test_steps_of_fixed_shapes_hold_the_encoder_too(data, monkeypatch, tmp_path):
    monkeypatch.setattr("raydrgn.training.fixed_step.FixedStep.compile", lambda self: None)
    plain = assemble(prepare(data, tmp_path))
    fixed = assemble(prepare(data, tmp_path, **{"resources.compile": "on"}))
    before = plain.vae.encoder.main[0].weight.clone()
    expected, found = (step_losses(parts.loop, parts.plan, 20) for parts in (plain, fixed))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for parts in (plain, fixed):
        assert torch.equal(parts.vae.encoder.main[0].weight, before)


def test_latents_are_taken_by_number_whatever_the_box(data):
    mixture = MixtureLatents.of_run(str(data / "mfa"))
    rows = np.array([40, 3, 599])
    some = mixture.run.particles().select(rows)
    other_box = some.with_columns({"box": np.full(3, 32), "slice": np.arange(3)})
    for table in (some, other_box):
        found = mixture.of_particles(table, zdim=2)
        np.testing.assert_array_equal(found, wanted(data)[:, rows, :2])
    with pytest.raises(InputError, match=r"no latents of particle 700 .*--ind"):
        mixture.check(some.with_columns({"index": np.array([40, 3, 700])}), zdim=2)
    with pytest.raises(InputError, match="another set: its particle 3 is image 4"):
        mixture.check(some.with_columns({"slice": np.array([40, 4, 599])}), zdim=2)


def test_refined_poses_that_are_not_taken_are_named(data, tmp_path):
    mixture = MixtureLatents.of_run(str(data / "mfa"))
    table = mixture.run.particles()
    off = table.column("shift_angstrom") + np.float32(5)
    [note] = mixture.poses_notes(table.with_columns({"shift_angstrom": off}))
    assert "Å (RMS), are not taken; `raydrgn train --poses-from" in note
    run = begin(
        RunRequest(
            root=str(tmp_path),
            source=ParticleSource(particles=str(data / "particles.star")),
            values={**NETWORK, "train.init": str(data / "mfa")},
            poses_from=str(data / "mfa"),
        )
    )
    assert "are not taken" not in run.note


def test_other_commands_know_of_it(data, started):
    opened = open_run(str(started))
    assert [origin.run for origin in summarise(str(started)).origins] == [str(data / "mfa")]
    findings = judge_latents(opened, [1, 2])
    [shifts] = [found for found in findings if found.criterion == "latent shifts"]
    assert "encoder is frozen" in shifts.text
    with pytest.raises(RunDirectoryError, match=r"raydrgn halves .*mfa"):
        require_own(opened)
    source = ParticleSource(particles=str(data / "particles.star"))
    with pytest.raises(RunDirectoryError, match=r"of its own particles.*does not know"):
        embed.run(embed.EmbedSettings(run=str(started), source=source, out=str(data / "embed")))
    assert not (data / "embed").exists()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            {"model.zdim": 4},
            ConfigError,
            "has 3 components with density, fewer.*choose 3",
        ),
        ({"train.init": "{}/started"}, RunDirectoryError, "is an autoencoder; .*train --load"),
        ({"train.init": "{}/begun"}, RunDirectoryError, "begun is not finished; .*--resume"),
        ({"train.init": "{}/nowhere"}, RunDirectoryError, "nowhere does not exist"),
        ({"train.load": "{}/started"}, ConfigError, "train.load and train.init are both given"),
        ({"train.held_out_fraction": 0.1}, ConfigError, "does not know those of others"),
    ],
)
def test_what_it_cannot_start_from_is_refused(data, started, tmp_path, values, error, message):
    if not (data / "begun").exists():
        star = data / "particles.star"
        run = plain_em.prepare(star, data / "begun", mfa__components=3, mfa__rotations=False)
        assert not train_here(run, ONE, progress=StopAt("training", 1300)).finished
    given = {k: v.format(data) if isinstance(v, str) else v for k, v in values.items()}
    with pytest.raises(error, match=message):
        prepare(data, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_an_autoencoder_has_no_poses_for_half_maps(started):
    table = open_run(str(started)).particles()
    with pytest.raises(RunDirectoryError, match="an autoencoder, which refines no poses"):
        with_poses_of_halves(table, str(started))
