"""Every command on a run of ``train --method mfa``, and what of its settings is refused."""

import shutil

import mrcfile
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

import plain_em
from raydrgn.cli.main import app
from raydrgn.errors import InputError, RaydrgnError, RunDirectoryError
from raydrgn.io.sources import ParticleSource, open_particles
from raydrgn.mfa.support import read_mask
from raydrgn.run.reader import open_run
from raydrgn.run.refined import refined_particles, with_poses_from
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set with junk and errors, and the run directory of a fit."""
    folder = tmp_path_factory.mktemp("mfa")
    simulation = Simulation(
        num_particles=600, box=20, snr=0.6, seed=3, junk=0.2, angle_error_deg=3, shift_error_px=0.3
    )
    simulate(str(folder), simulation)
    run = plain_em.prepare(folder / "particles.star", folder / "run", **plain_em.SMALL)
    assert plain_em.fit(run)
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "RUN"),
        ("runs", "RUN"),
        ("volumes", "RUN", "-o", "OUT", "--particles", "0,5"),
        ("volumes", "RUN", "-o", "OUT", "--particles", "0,5", "--box", "10", "--flip"),
        ("analyze", "RUN", "-o", "OUT", "--ksample", "4", "--skip-umap"),
        ("traverse", "pc", "RUN", "-o", "OUT"),
        ("evaluate", "RUN", "--truth", "TRUTH", "-o", "OUT"),
        ("filter", "RUN", "-o", "OUT", "--null", "0.5"),
    ],
)
def test_commands_work_on_the_run(folder, tmp_path, arguments):
    places = {"RUN": folder / "run", "OUT": tmp_path / "out", "TRUTH": folder / "truth"}
    found = invoke(*(places.get(argument, argument) for argument in arguments))
    assert found.exit_code == 0, found.output


def test_null_particles_are_dropped(folder, tmp_path):
    found = invoke("filter", folder / "run", "-o", tmp_path / "f", "--null", 0.5, "--skip-volumes")
    assert found.exit_code == 0, found.output
    kept = np.load(tmp_path / "f" / "kept.ind.pkl", allow_pickle=True)
    labels = np.load(folder / "truth" / "labels.npy")
    junk = np.isin(labels, np.unique(labels)[-2:])
    assert junk[kept].mean() < 0.02
    assert len(kept) > 0.95 * (~junk).sum()


def test_convergence_is_that_of_the_likelihood(folder, tmp_path):
    out = tmp_path / "convergence"
    found = invoke("convergence", folder / "run", "-o", out)
    assert found.exit_code == 0, found.output
    assert "log-likelihood" in found.output
    assert "turn into each other" in found.output


def test_refined_poses_go_back_to_relion(folder, tmp_path):
    out = tmp_path / "refined.star"
    found = invoke("export", "star", folder / "run", "-o", out, "--refined")
    assert found.exit_code == 0, found.output
    written = open_particles(ParticleSource(particles=str(out)), need_images=False)
    expected = refined_particles(open_run(str(folder / "run")))
    between = written.rotations @ expected.rotations.transpose(0, 2, 1)
    assert np.degrees(Rotation.from_matrix(between).magnitude()).max() < 0.01
    shifts = written.column("shift_angstrom") - expected.column("shift_angstrom")
    np.testing.assert_allclose(shifts, 0, atol=1e-3)
    given = open_run(str(folder / "run")).particles()
    assert not np.allclose(given.rotations, expected.rotations, atol=1e-3)


def test_refined_poses_are_taken_by_number(folder):
    whole = open_run(str(folder / "run")).particles()
    rows = np.array([7, 3, 500])
    found = with_poses_from(whole.select(rows), str(folder / "run"))
    expected = refined_particles(open_run(str(folder / "run"))).select(rows)
    np.testing.assert_array_equal(found.rotations, expected.rotations)
    moved = whole.select(rows).with_columns({"index": np.array([7, 3, 900])})
    with pytest.raises(InputError, match="particle 900"):
        with_poses_from(moved, str(folder / "run"))
    other = whole.select(rows).with_columns({"slice": np.array([7, 4, 500])})
    with pytest.raises(InputError, match="another set: its particle 3 is image 4"):
        with_poses_from(other, str(folder / "run"))


def test_cryodrgn_cannot_read_it_and_that_is_said(folder, tmp_path):
    found = invoke("export", "cryodrgn", folder / "run", "-o", tmp_path / "out")
    assert isinstance(found.exception, RunDirectoryError)
    assert "mixture of factor analysers" in str(found.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "mfa", "--lr", "0.1"), "train.learning_rate is a setting of the method vae"),
        (("--method", "mfa", "--zdim", "4"), "use mfa.components"),
        (("--method", "mfa", "--recipe", "fast"), "A recipe is a choice of the method vae"),
        (("--components", "4"), "mfa.components is a setting of the method mfa"),
        (("--method", "pca"), "known methods: vae, mfa"),
        (("--method", "mfa", "--components", "100"), "`raydrgn train --components "),
        (("--method", "mfa", "--mask", "none.mrc"), "none.mrc does not exist"),
        (("--poses-from", "RUN", "--method", "vae", "--ind", "IND"), "particle"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    folder, tmp_path, options, message
):
    (tmp_path / "ind.txt").write_text("0 1 2 1000")
    places = {"RUN": folder / "run", "IND": tmp_path / "ind.txt"}
    given = [places.get(option, option) for option in options]
    found = invoke("train", folder / "particles.star", "-o", tmp_path / "run", *given)
    assert isinstance(found.exception, RaydrgnError), found.output
    assert message in str(found.exception)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_run_keeps_its_method(folder, tmp_path):
    root = shutil.copytree(folder / "run", tmp_path / "run")
    found = invoke("train", "-o", root, "--resume", "--method", "vae", "--epochs", "9")
    assert isinstance(found.exception, RunDirectoryError)
    assert "its method is mfa, not vae" in str(found.exception)


def test_a_mask_must_be_of_the_images_box(tmp_path):
    path = tmp_path / "mask.mrc"
    mrcfile.write(path, np.ones((8, 8, 8), np.float32))
    assert read_mask(str(path), box=8).all()
    with pytest.raises(InputError, match="8 px, but the images have 20 px"):
        read_mask(str(path), box=20)
    mrcfile.write(path, np.full((8, 8, 8), 3, np.float32), overwrite=True)
    with pytest.raises(InputError, match="values from 0 to 1"):
        read_mask(str(path), box=8)
