"""What a fit learns, and that it goes on where it was stopped."""

import pickle
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import plain_em
from raydrgn.data.preprocess import with_background_sd, without_background
from raydrgn.errors import InputError
from raydrgn.evaluation.evaluation import evaluate
from raydrgn.io.particles import ParticleTable
from raydrgn.mfa.fit import FIRST_MIXTURE_EPOCH, Sample
from raydrgn.mfa.model import FactorModel
from raydrgn.run.directory import Position
from raydrgn.run.reader import open_run
from raydrgn.run.refined_poses import refined_particles
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training.sinks import DirectSink


def test_states_and_their_volumes_are_found(clean):
    found = evaluate(open_run(str(clean / "run")), str(clean / "truth"))
    assert found.fsc > found.fsc_of_mean + 0.04
    assert found.separation.neighbour_accuracy > 0.8


def test_the_noise_of_a_homogeneous_sample_is_no_component(clean, tmp_path):
    """At high SNR too, where the mean is far above the noise."""
    maps = str(clean / "truth" / "vol_000.mrc")
    simulate(str(tmp_path), Simulation(maps=maps, num_particles=1500, box=24, snr=1.0, seed=22))
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **plain_em.SMALL)
    assert plain_em.fit(run)
    norms = plain_em.tensors(tmp_path / "run", 6)["decoder.volumes"].norm(dim=1)
    assert norms[1:].max() < 0.01 * norms[0]


def test_one_preferred_view_shows_the_states(tmp_path):
    # Most of Fourier space is empty, and beside many images there are points of one.
    simulate(str(tmp_path), Simulation(box=24, snr=0.4, seed=21, num_particles=16_000))
    rotations, _ = pickle.loads((tmp_path / "poses.pkl").read_bytes())
    tilt = np.degrees(np.arccos(np.clip(rotations[:, 2, 2], -1, 1)))
    for degrees in (10, 20):
        ind, root = tmp_path / f"{degrees}.txt", tmp_path / f"within{degrees}"
        np.savetxt(ind, np.flatnonzero(tilt < degrees), fmt="%d")
        run = plain_em.prepare(tmp_path / "particles.star", root, ind=ind, **plain_em.SMALL)
        assert plain_em.fit(run)
        assert "orientations" not in (root / "run.log").read_text()
        opened = open_run(str(root))
        losses = [row["total"] for row in opened.losses()]
        assert losses[-1] < losses[0]
        assert opened.estimates(opened.epoch(None))["contrast"].std() < 0.2
    found = evaluate(opened, str(tmp_path / "truth"))
    assert (found.separation.neighbour_accuracy or 0) > 0.5  # 20 degrees, 500 images


def test_a_fit_is_refused_once_all_images_are_junk(clean):
    run = plain_em.prepare(clean / "particles.star", clean / "again", **plain_em.SMALL)
    fit = plain_em.assemble(run)[0]._fit
    fit.begin()
    kept = fit.model
    junk = replace(kept.priors, null_share=1 - 1e-12)
    fit.model = replace(kept, volumes=-9 * kept.volumes, priors=junk)
    with pytest.raises(InputError, match="All images have become junk"):
        fit.low_pass(1)
    fit.model = kept
    fit._sample = Sample(torch.empty(0, 4, 4), torch.empty(0, 4), torch.empty(0, 4))
    with pytest.raises(InputError, match="All images have become junk"):
        fit.mixture_pass(FIRST_MIXTURE_EPOCH)


def test_the_likelihood_rises_and_the_residual_is_noise(clean):
    rows = open_run(str(clean / "run")).losses()
    total = [row["total"] for row in rows]
    assert total[-1] < total[0]
    assert rows[-1]["reconstruction"] == pytest.approx(1, abs=0.05)
    assert all(row["kl"] > 0 for row in rows)


def test_errors_are_estimated(disturbed):
    run = open_run(str(disturbed / "run"))
    found = run.estimates(run.epoch(None))
    labels = np.load(disturbed / "truth" / "labels.npy")
    contrast = np.load(disturbed / "truth" / "contrast.npy")
    is_junk = np.isnan(contrast)
    null = found["null_probability"] > 0.5
    assert (null == is_junk).mean() > 0.99
    assert len(labels) == len(null)
    good = ~is_junk & ~null
    assert np.corrcoef(found["contrast"][good], contrast[good])[0, 1] > 0.5
    assert found["contrast"][good].std() < 0.25


def test_most_junk_is_known_before_components_begin(disturbed, tmp_path):
    run = plain_em.prepare(disturbed / "particles.star", tmp_path / "run", **plain_em.SMALL)
    loop, _ = plain_em.assemble(run)
    loop._fit.begin()
    is_junk = np.isnan(np.load(disturbed / "truth" / "contrast.npy"))
    null = loop._fit.estimates.null_probability.numpy() > 0.5
    assert (null & is_junk).sum() > 0.6 * is_junk.sum()
    assert (null & ~is_junk).sum() < 0.01 * (~is_junk).sum()


@pytest.mark.parametrize(("share", "is_normalised"), [(0.2, False), (0.2, True), (0.0, False)])
def test_junk_is_known_where_an_image_shows_little(tmp_path, share, is_normalised):
    options = Simulation(seed=3, num_particles=1500, box=24, snr=0.05, junk=share)
    simulate(str(tmp_path / "set"), options)
    if is_normalised:  # as particles are extracted: junk is no stronger than other images
        with mrcfile.open(tmp_path / "set" / "particles.mrcs", mode="r+") as stack:
            stack.data[:] = with_background_sd(without_background(stack.data), 1.0)
    values = plain_em.SMALL | {"train__epochs": 3}
    run = plain_em.prepare(tmp_path / "set" / "particles.star", tmp_path / "run", **values)
    assert plain_em.fit(run)
    null = open_run(str(tmp_path / "run")).estimates(3)["null_probability"] > 0.5
    is_junk = np.load(tmp_path / "set" / "truth" / "labels.npy") >= 7  # beyond the seven states
    assert is_junk.mean() == pytest.approx(share, abs=0.01)
    assert (null & is_junk).sum() >= 0.95 * is_junk.sum()
    assert (null & ~is_junk).mean() < 0.01


@pytest.mark.parametrize("contrast", [True, False])
def test_junk_is_not_looked_for_where_an_image_shows_next_to_nothing(tmp_path, contrast):
    simulate(str(tmp_path / "set"), Simulation(seed=3, num_particles=400, box=24, snr=0.004))
    values = plain_em.SMALL | {"train__epochs": 2, "mfa__contrast": contrast}
    run = plain_em.prepare(tmp_path / "set" / "particles.star", tmp_path / "run", **values)
    assert plain_em.fit(run)
    tensors = plain_em.tensors(tmp_path / "run", 2)
    model = FactorModel.from_tensors(tensors, box=24, device=torch.device("cpu"))
    assert model.priors.null_share == 0
    assert model.volumes.isfinite().all()
    assert not open_run(str(tmp_path / "run")).estimates(2)["null_probability"].any()


def test_refined_poses_are_nearer_to_the_truth(disturbed):
    run = open_run(str(disturbed / "run"))
    given, refined = run.particles(), refined_particles(run)
    truth = ParticleTable.read(str(disturbed / "truth" / "particles.parquet"))
    good = run.estimates(run.epoch(None))["null_probability"] < 0.5

    def errors(table):
        between = table.rotations[good] @ truth.rotations[good].transpose(0, 2, 1)
        angle = np.degrees(Rotation.from_matrix(between).magnitude())
        off = table.column("shift_angstrom")[good] - truth.column("shift_angstrom")[good]
        return np.sqrt((angle**2).mean()), np.sqrt((off**2).mean())

    angles, shifts = zip(errors(given), errors(refined), strict=True)
    assert angles[1] < 0.8 * angles[0]
    assert shifts[1] < 0.6 * shifts[0]


def test_volumes_are_the_mean_and_components_at_the_latents(clean):
    run = open_run(str(clean / "run"))
    state, z = run.decoder(6), run.latents(6)[:5]
    volumes = state.volumes(state.build(torch.device("cpu")), z)
    tensors = plain_em.tensors(clean / "run", 6)
    model = FactorModel.from_tensors(tensors, box=24, device=torch.device("cpu"))
    expected = model.volumes[0] + torch.tensordot(
        torch.from_numpy(z) / model.latent_scale(), model.volumes[1:], dims=1
    )
    torch.testing.assert_close(volumes, state.scale * expected, atol=1e-3, rtol=1e-3)
    small = state.volumes(state.build(torch.device("cpu")), z, small_box=12)
    assert small.shape == (5, 12, 12, 12)
    np.testing.assert_allclose(small.sum((1, 2, 3)), volumes.sum((1, 2, 3)), rtol=1e-3)


def test_few_images_of_a_large_box_are_fitted(tmp_path):
    """Most points of the Fourier grid are seen by one image or none."""
    simulate(str(tmp_path), Simulation(num_particles=60, box=48, snr=0.5, seed=1))
    values = {"train__epochs": 3, "mfa__components": 3}
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **values)
    assert plain_em.fit(run)
    opened = open_run(str(tmp_path / "run"))
    losses = [row["total"] for row in opened.losses()]
    assert losses == sorted(losses, reverse=True)
    assert (opened.estimates(3)["null_probability"] < 0.5).all()


class Stopping(DirectSink):
    """Asks to stop in the second epoch."""

    def is_interrupted(self):
        self.asked = getattr(self, "asked", 0) + 1
        return self.asked == 6  # after the first of the two passes of epoch 2


def test_a_run_goes_on_as_if_it_had_not_been_stopped(clean, tmp_path):
    values = {**plain_em.SMALL, "train__epochs": 3}
    run = plain_em.prepare(clean / "particles.star", tmp_path / "run", **values)
    loop, writer = plain_em.assemble(run, sink_class=Stopping)
    writer.begin(run.config.to_yaml().encode(), run.table.to_bytes())
    assert not loop.run(Position(1, 0))
    assert (tmp_path / "run" / "state" / "2.1.pt").exists()
    assert plain_em.fit(run)
    again, undisturbed = (plain_em.tensors(root, 3) for root in (tmp_path / "run", clean / "run"))
    for name, tensor in undisturbed.items():
        assert torch.equal(again[name], tensor), name
    one, other = (open_run(str(root)) for root in (tmp_path / "run", clean / "run"))
    np.testing.assert_array_equal(one.latents(3), other.latents(3))
    for name, values in other.estimates(3).items():
        np.testing.assert_array_equal(one.estimates(3)[name], values)
