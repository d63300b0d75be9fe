"""Poses that are too far off for single steps are searched, and others are left alone."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import plain_em
from raydrgn.io.particles import ParticleTable
from raydrgn.mfa.concerns import search_note
from raydrgn.mfa.particles import Estimated
from raydrgn.mfa.search import PoseSearch, _evidence, _wide
from raydrgn.mfa.trials import PoseWidths, trials_within
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def far_off(tmp_path_factory):
    """A set whose rotations are 10 degrees off (RMS angle), and shifts 2 px (SD)."""
    folder = tmp_path_factory.mktemp("far_off")
    errors = {"angle_error_deg": 10.0, "shift_error_px": 2.0}
    simulate(str(folder), Simulation(num_particles=1200, box=24, snr=0.4, seed=21, **errors))
    return folder


def begun(folder, root, **values):
    """The fit of a run, before its passes at low frequency."""
    run = plain_em.prepare(folder / "particles.star", root, **plain_em.SMALL, **values)
    loop, _ = plain_em.assemble(run)
    loop._fit.begin()
    return run, loop._fit


def test_a_search_brings_poses_nearer_to_the_truth(far_off, tmp_path):
    run, fit = begun(far_off, tmp_path / "run")
    truth = ParticleTable.read(str(far_off / "truth" / "particles.parquet"))
    turned = Rotation.from_rotvec(fit.estimates.rotations.numpy()).as_matrix()
    pixel = truth.column("pixel_size_angstrom")[:, None]
    off = (run.table.column("shift_angstrom") - truth.column("shift_angstrom")) / pixel

    def angle(rotations):
        between = Rotation.from_matrix(rotations @ truth.rotations.transpose(0, 2, 1))
        return math.degrees(np.sqrt((between.magnitude() ** 2).mean()))

    assert angle(turned @ run.table.rotations) < 0.9 * angle(run.table.rotations)
    assert (off - fit.estimates.shifts_px.numpy()).std() < 0.35 * off.std()
    assert fit.pose_widths.shift_px == pytest.approx(2, rel=0.15)
    assert math.degrees(fit.pose_widths.rotation) == pytest.approx(10 / math.sqrt(3), rel=0.35)
    found = re.search(
        r"orientations by (\d) degrees and shifts by (\S+) px", search_note(fit.pose_widths)
    )
    assert float(found[2]) == pytest.approx(fit.pose_widths.shift_px, abs=0.05)


def test_exact_poses_are_not_searched(clean, tmp_path):
    _, fit = begun(clean, tmp_path / "run")
    assert fit.pose_widths == PoseWidths(None, None)
    assert search_note(fit.pose_widths) is None
    assert not fit.estimates.rotations.any()
    assert not fit.estimates.shifts_px.any()


def test_images_without_a_particle_do_not_count_as_wide_errors(generator):
    """A fifth of the images shows something else, which the mean fits badly in most positions."""
    trials = trials_within(4.0, 0.5, dim=2, device=CPU)
    sds = (0.25, 0.5, 1.0, 2.0, 4.0)
    good = -0.5 * (trials.square().sum(1) / 0.3**2).expand(400, -1)
    junk = 100 + 20 * torch.randn(100, len(trials), generator=generator)
    found = _evidence(torch.cat([20 + good, -junk]), trials, sds).tolist()
    assert _wide(found, sds, above=0.9, least=50) is None
    far = -0.5 * ((trials - torch.tensor([2.5, 0.0])).square().sum(1) / 0.3**2).expand(400, -1)
    found = _evidence(torch.cat([20 + far, -junk]), trials, sds).tolist()
    assert _wide(found, sds, above=0.9, least=50) == 2.0


@pytest.mark.parametrize("name", ["rotations", "shifts"])
def test_what_is_not_to_be_estimated_is_not_searched(far_off, tmp_path, name):
    _, fit = begun(far_off, tmp_path / "run", **{f"mfa__{name}": False})
    estimates = {"rotations": fit.estimates.rotations, "shifts": fit.estimates.shifts_px}
    assert not estimates.pop(name).any()


def test_a_motion_of_the_whole_volume_is_no_error_of_poses(far_off, tmp_path):
    run = plain_em.prepare(far_off / "particles.star", tmp_path / "run", **plain_em.SMALL)
    fit = plain_em.assemble(run)[0]._fit
    rows = torch.arange(len(run.table))
    given = torch.tensor(run.table.rotations)
    torch.manual_seed(0)
    errors = 0.05 * torch.randn(len(rows), 3)
    fit.estimates.rotations = errors + given @ torch.tensor([0.03, -0.02, 0.01])
    pose = torch.from_numpy(Rotation.from_rotvec(fit.estimates.rotations.numpy()).as_matrix())
    shifts = torch.randn(len(rows), 2)
    moved = (pose.float() @ given @ torch.tensor([0.8, -0.5, 0.3]))[:, :2]
    fit.estimates.shifts_px = shifts + moved
    search = PoseSearch(fit._particles, fit.estimates, fit._grids, new_mean=lambda sums: fit.model)
    search._centre(rows, given, PoseWidths(0.05, 1.0))
    left = (fit.estimates.rotations - errors).norm(dim=1)
    assert left.mean() < 0.15 * math.hypot(0.03, 0.02, 0.01)
    assert (fit.estimates.shifts_px - shifts).norm(dim=1).mean() < 0.1


def test_trials_fill_a_ball():
    found = trials_within(2.0, 1.0, dim=3, device=CPU)
    assert len(found) == 33  # points of whole numbers within 2 of the origin
    assert len(trials_within(0.9, 1.0, dim=2, device=CPU)) == 1
    assert len(trials_within(3.0, 1.5, dim=2, device=CPU)) == 13


@pytest.mark.clusters
def test_two_workers_search_as_one(far_off, tmp_path):
    values = {**plain_em.SMALL, "train__epochs": 1}
    one, two = (
        plain_em.prepare(far_off / "particles.star", tmp_path / name, **values)
        for name in ("one", "two")
    )
    assert plain_em.fit(one)
    plain_em.fit_group(two, 2)
    found = [open_run(str(tmp_path / name)).estimates(1) for name in ("one", "two")]
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, atol=1e-3)


def test_uncertain_shifts_take_nothing_from_the_noise(far_off, tmp_path):
    """Of volumes without density all of an image is noise, wherever the particle lies."""
    run = plain_em.prepare(far_off / "particles.star", tmp_path / "run", **plain_em.SMALL)
    fit = plain_em.assemble(run)[0]._fit
    priors = replace(fit.model.priors, shift_sd_px=2.0)
    fit.model = replace(fit.model, priors=priors, volumes=torch.zeros_like(fit.model.volumes))
    of_noise = [
        fit._accumulated(
            torch.arange(100), fit._all_points, Estimated(shifts=shifts), variance_weight=1.0
        )[0].residual
        for shifts in (False, True)
    ]
    torch.testing.assert_close(*of_noise, rtol=1e-5, atol=1e-3)
