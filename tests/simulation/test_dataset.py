"""A simulated data set: files that other programs read, and the truth beside it."""

import json

import mrcfile
import numpy as np
import pytest

from phantoms import fill_disk
from raydrgn.errors import ConfigError, StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_ctf, read_poses
from raydrgn.io.mrc import read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.sources import open_particles
from raydrgn.simulation.dataset import TRUE_VALUES, Simulation, simulate
from raydrgn.simulation.options import PHANTOM_NAMES
from raydrgn.simulation.phantom import PHANTOMS


def small(**changes):
    return Simulation(**({"num_particles": 25, "box": 8, "snr": 0.5, "seed": 3} | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A simulated set in one stack, with the table that ``simulate`` returned."""
    path = tmp_path_factory.mktemp("sim")
    return path, simulate(str(path), small())


def test_every_file_is_there(folder):
    path, _ = folder
    assert {p.name for p in path.iterdir()} == {
        "particles.mrcs", "particles.star", "poses.pkl", "ctf.pkl", "truth",
    }  # fmt: skip
    names = {p.name for p in (path / "truth").iterdir()}
    assert {"labels.npy", "shown.npy", "motion_deg.npy", "states.json", "vol_000.mrc"} <= names
    assert not names & set(TRUE_VALUES)  # what is written is the truth
    assert mrcfile.validate(path / "particles.mrcs")
    with mrcfile.open(path / "particles.mrcs") as mrc:
        assert mrc.data.shape == (25, 8, 8)
        assert mrc.voxel_size.x == pytest.approx(340 / 8)


def test_star_file_and_pickles_say_the_same_as_the_table(folder):
    path, table = folder
    sources = [
        ParticleSource(particles=str(path / "particles.star")),
        ParticleSource(
            particles=str(path / "particles.mrcs"),
            poses=str(path / "poses.pkl"),
            ctf=str(path / "ctf.pkl"),
        ),
    ]
    for source in sources:
        read = open_particles(source)
        assert read.stacks == table.stacks
        np.testing.assert_allclose(read.rotations, table.rotations, atol=1e-6)
        for name in ("slice", "box", "pixel_size_angstrom", "shift_angstrom", *CTF_COLUMNS):
            np.testing.assert_allclose(read.column(name), table.column(name), rtol=1e-6)


def test_the_truth_is_of_these_particles(folder):
    path, _ = folder
    labels, shown, motion = (
        np.load(path / "truth" / f"{name}.npy") for name in ("labels", "shown", "motion_deg")
    )
    states = json.loads((path / "truth" / "states.json").read_text())
    assert len(labels) == len(shown) == len(motion) == 25
    assert labels.max() < len(states)
    volume, header = read_volume(str(path / "truth" / f"vol_{shown.max():03d}.mrc"))
    assert volume.shape == (8, 8, 8)
    assert header.pixel_size_angstrom == pytest.approx(340 / 8)
    moving = np.isfinite(motion)
    np.testing.assert_array_equal(shown[~moving], labels[~moving])


def test_the_same_seed_makes_the_same_files(folder, tmp_path):
    path, _ = folder
    simulate(str(tmp_path), small())
    for name in ("particles.mrcs", "poses.pkl", "ctf.pkl"):
        assert (tmp_path / name).read_bytes() == (path / name).read_bytes()
    simulate(str(tmp_path / "other"), small(seed=4))
    assert (tmp_path / "other" / "poses.pkl").read_bytes() != (path / "poses.pkl").read_bytes()


@pytest.mark.parametrize("chunk", [10, 25, 7])
def test_chunks_are_the_same_images_in_several_stacks(folder, tmp_path, chunk):
    path, whole = folder
    table = simulate(str(tmp_path), small(chunk=chunk))
    listed = (tmp_path / "particles.txt").read_text().split()
    counts = [len(mrcfile.read(tmp_path / name)) for name in listed]
    assert sum(counts) == 25
    assert set(counts[:-1]) <= {chunk}
    images = np.concatenate([mrcfile.read(tmp_path / name) for name in listed])
    np.testing.assert_array_equal(images, mrcfile.read(path / "particles.mrcs"))
    read = open_particles(ParticleSource(particles=str(tmp_path / "particles.txt")))
    for name in ("slice", "index"):
        np.testing.assert_array_equal(read.column(name), table.column(name))
    np.testing.assert_array_equal(table.rotations, whole.rotations)
    star = open_particles(ParticleSource(particles=str(tmp_path / "particles.star")))
    assert star.stacks == read.stacks


def test_stacks_of_an_earlier_simulation_do_not_stay(tmp_path):
    simulate(str(tmp_path), small(chunk=10))
    simulate(str(tmp_path), small(seed=4))
    left = sorted(path.name for path in tmp_path.glob("particles*"))
    assert left == ["particles.mrcs", "particles.star"]


def test_a_folder_elsewhere():
    table = simulate("memory://sim/a", small(chunk=10))
    assert table.stacks[0] == "memory://sim/a/particles.0.mrcs"
    read = open_particles(
        ParticleSource(particles="memory://sim/a/particles.txt", poses="memory://sim/a/poses.pkl")
    )
    np.testing.assert_array_equal(read.rotations, table.rotations)
    assert storage.exists("memory://sim/a/truth/labels.npy")


def test_shifts_are_up_to_5_percent_and_in_cryodrgn_s_fractions(folder):
    path, table = folder
    shifts = read_poses(str(path / "poses.pkl")).shifts_fraction
    assert np.abs(shifts).max() <= 0.05
    np.testing.assert_allclose(table.column("shift_angstrom"), shifts * 340, rtol=1e-5)
    assert (read_ctf(str(path / "ctf.pkl"))[:, 0] == 8).all()


def test_progress_reaches_the_end(tmp_path):
    seen = []
    simulate(str(tmp_path), small(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (25, 25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_particles": 0}, "--particles must be at least 1, got 0"),
        ({"snr": 0.0}, "--snr must be greater than 0, got 0"),
        ({"phantom": "ribosome"}, "'ribosome' is unknown; known are assembly, hinge, swing"),
        ({"junk": 1.0}, "--junk must be at most 0.9, got 1"),
        ({"pose_bias": "tilted"}, "--pose-bias 'tilted' is unknown; known are uniform, preferred"),
        ({"angle_error_deg": 61.0}, "--angle-error must be at most 60, got 61"),
        ({"shift_error_px": 1.5}, "--shift-error must be at most 1, an eighth of --box 8, got 1.5"),
    ],
)
def test_what_cannot_be_simulated_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("contrast_sd", "--contrast-sd"),
        ("b_factor_angstrom2", "--b-factor"),
        ("angle_error_deg", "--angle-error"),
        ("shift_error_px", "--shift-error"),
        ("defocus_error_angstrom", "--defocus-error"),
    ],
)
def test_errors_are_finite_and_not_negative(name, option):
    with pytest.raises(ConfigError, match=f"{option} must be at least 0, got -0.5"):
        small(**{name: -0.5})
    for value in (np.nan, np.inf):
        with pytest.raises(ConfigError, match=f"{option} must be a finite number, got {value}"):
            small(**{name: value})


def test_odd_boxes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--box must be even"):
        simulate(str(tmp_path), small(box=9))


def test_a_full_disk_leaves_whole_files_only(tmp_path, monkeypatch):
    fill_disk(monkeypatch, after=3)
    with pytest.raises(StorageError, match="No room is left"):
        simulate(str(tmp_path), small())
    for path in (tmp_path / "truth").iterdir():
        read_volume(str(path))
    assert not list(tmp_path.rglob("*.part"))


def test_every_phantom_has_its_name_among_the_settings():
    assert tuple(PHANTOMS) == PHANTOM_NAMES
