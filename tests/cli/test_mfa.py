"""Every command on a run of ``train --method mfa``, and what of its settings is refused."""

import pickle
import re
import shutil

import mrcfile
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

import plain_em
from raydrgn.cli.main import app
from raydrgn.convergence import epochs
from raydrgn.errors import ConfigError, InputError, RaydrgnError, RunDirectoryError
from raydrgn.io.sources import ParticleSource, open_particles
from raydrgn.mfa.support import ball, read_support
from raydrgn.run.reader import open_run
from raydrgn.run.refined_poses import refined_particles, with_poses_from
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
        ("analyze", "RUN", "-o", "OUT", "--ksample", "2", "--pc-points", "2", "--skip-umap"),
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


def test_that_no_image_is_junk_is_explained(folder, tmp_path, caplog):
    found = invoke("filter", folder / "run", "-o", tmp_path / "f", "--null", 1, "--skip-volumes")
    assert isinstance(found.exception, RaydrgnError)
    assert "above 1: 1 is the highest there is, and keeps all" in caplog.text
    caplog.clear()
    words = ("--method", "mfa", "--components", "2", "--epochs", "1", "--no-null-class")
    found = invoke("train", folder / "particles.star", "-o", tmp_path / "run", *words)
    assert found.exit_code == 0, found.output
    invoke("filter", tmp_path / "run", "--null", 0.5, "--skip-volumes")
    assert "of `raydrgn train --no-null-class`, did not look for such images" in caplog.text


def test_convergence_is_that_of_the_likelihood(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "umap_embedding", lambda z, seed: z[:, :2])  # seconds to compile
    out = tmp_path / "convergence"
    found = invoke("convergence", folder / "run", "-o", out)
    assert found.exit_code == 0, found.output
    assert "log-likelihood" in found.output
    assert "turn into each other" in found.output


def test_the_report_shows_what_the_fit_lowers(folder, tmp_path):
    # The squared error over the estimated variance of the noise rises while the fit improves.
    words = ("--ksample", 2, "--skip-umap", "--skip-volumes")
    found = invoke("analyze", folder / "run", "-o", tmp_path / "out", *words)
    assert found.exit_code == 0, found.output
    report = (tmp_path / "out" / "report.html").read_text()
    assert "negative log-likelihood for each Fourier point" in report
    assert "squared error" not in report


@pytest.mark.parametrize(
    ("value", "message"),
    [(0, "same latent: the images determine none"), (np.nan, "use an earlier epoch.")],
)
def test_latents_without_use_are_not_said_to_be_of_an_encoder(folder, tmp_path, value, message):
    root = shutil.copytree(folder / "run", tmp_path / "run")
    run = open_run(str(root))
    epoch = run.epoch(None)
    mean = np.full_like(run.latents(epoch), value)
    with open(run.files.latents(epoch), "wb") as file:
        pickle.dump(mean, file)
        pickle.dump(mean, file)
    found = invoke("analyze", root, "--skip-umap", "--skip-volumes")
    assert isinstance(found.exception, RunDirectoryError), found.output
    assert message in str(found.exception)
    assert not re.search("encoder|--beta|--lr", str(found.exception))


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


def test_refined_poses_of_other_particles_are_refused(folder):
    table, root = open_run(str(folder / "run")).particles(), str(folder / "run")
    defocus = table.column("defocus_u_angstrom")
    refined = defocus + 300 * np.random.default_rng(0).standard_normal(len(table))
    with_poses_from(table.with_columns({"defocus_u_angstrom": refined.astype(np.float32)}), root)
    other = table.with_columns({"defocus_u_angstrom": np.roll(defocus, 1)})
    for box in (20, 40):  # of another box, images are not compared
        boxes = np.full(len(table), box, dtype=np.int32)
        with pytest.raises(InputError, match=r"on other particles: .* by \d{4} Å \(median\)"):
            with_poses_from(other.with_columns({"box": boxes}), root)


def test_cryodrgn_cannot_read_it_and_that_is_said(folder, tmp_path):
    found = invoke("export", "cryodrgn", folder / "run", "-o", tmp_path / "out")
    assert isinstance(found.exception, RunDirectoryError)
    assert "mixture of factor analysers" in str(found.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "mfa", "--lr", "0.1"), "train.learning_rate is a setting of the method vae"),
        (("--method", "mfa", "--zdim", "4"), "use mfa.components (`raydrgn train --components`)"),
        (("--method", "mfa", "--recipe", "fast"), "A recipe is a choice of the method vae"),
        (("--components", "4"), "start a run with `raydrgn train --method mfa`"),
        (("--method", "pca"), "known methods: vae, mfa"),
        (
            ("--method", "mfa", "--components", "100"),
            "--components 60 -o RUN` fits",
        ),
        (("--method", "mfa", "--ind", "FEW"), "A mixture needs at least 10 particles"),
        (("--method", "mfa", "--mask", "none.mrc"), "none.mrc does not exist"),
        (("--poses-from", "RUN", "--method", "vae", "--ind", "IND"), "particle"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    folder, tmp_path, options, message
):
    (tmp_path / "ind.txt").write_text("0 1 2 1000")
    (tmp_path / "few.txt").write_text("0 1 2")
    places = {"RUN": folder / "run", "IND": tmp_path / "ind.txt", "FEW": tmp_path / "few.txt"}
    given = [places.get(option, option) for option in options]
    found = invoke("train", folder / "particles.star", "-o", tmp_path / "run", *given)
    assert isinstance(found.exception, RaydrgnError), found.output
    assert message in str(found.exception)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "0.1"), "train.learning_rate is a setting of the method vae, not of mfa"),
        (("--batch-size", "4"), "train.batch_size is a setting of the method vae, not of mfa"),
        (("--zdim", "4"), "use mfa.components (`raydrgn train --components`) instead"),
        (("--no-amp",), "train.amp is a setting of the method vae, not of mfa"),
        (("--recipe", "fast"), "leave out --recipe"),
    ],
)
def test_a_run_does_not_go_on_with_settings_that_it_ignores(folder, options, message):
    found = invoke("train", "-o", folder / "run", "--resume", *options)
    assert isinstance(found.exception, ConfigError), found.output
    assert message in str(found.exception)


def test_a_run_keeps_its_method(folder, tmp_path):
    root = shutil.copytree(folder / "run", tmp_path / "run")
    found = invoke("train", "-o", root, "--resume", "--method", "vae", "--epochs", "9")
    assert isinstance(found.exception, RunDirectoryError)
    assert "its method is mfa, not vae" in str(found.exception)


@pytest.mark.parametrize(
    ("value", "voxel", "message"),
    [
        (1.0, 5.0, "pixels of 17 Å, but the mask .* pixels of 5 Å"),
        (3.0, 17.0, "values from 3 to 3, but a mask is between 0 and 1"),
        (0.0, 17.0, "it is empty"),
    ],
)
def test_a_mask_that_does_not_fit_the_images_is_refused_early(
    folder, tmp_path, value, voxel, message
):
    path = tmp_path / "mask.mrc"
    mrcfile.write(path, np.full((20, 20, 20), value, np.float32), voxel_size=voxel)
    options = ("--method", "mfa", "--components", "2", "--mask", path)
    found = invoke("train", folder / "particles.star", "-o", tmp_path / "run", *options)
    assert isinstance(found.exception, InputError), found.output
    assert re.search(message, str(found.exception))
    assert not (tmp_path / "run").exists()


def test_a_mask_must_be_on_the_grid_of_the_images_and_leave_density(tmp_path):
    path, device = tmp_path / "mask.mrc", torch.device("cpu")
    values = np.full((8, 8, 8), 1.0005, np.float32)  # as rounding makes it
    mrcfile.write(path, values, voxel_size=3.0)
    found = read_support(str(path), box=8, device=device, pixel_size_angstrom=3.0)
    torch.testing.assert_close(found, ball(8, device=device))
    with pytest.raises(InputError, match=r"box of 20 px .* box of 8 px"):
        read_support(str(path), box=20, device=device)
    values[1:, 1:, 1:] = 0  # but for the faces of the box
    mrcfile.write(path, values, voxel_size=3.0, overwrite=True)
    with pytest.raises(InputError, match="no density would be left"):
        read_support(str(path), box=8, device=device)
