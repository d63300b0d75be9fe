"""Data sets whose written poses and defocus differ from the true ones, which are in the truth."""

import mrcfile
import numpy as np
import pytest

from raydrgn.io.cryodrgn import read_ctf, read_poses
from raydrgn.io.mrc import read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.simulation.acquisition import Acquisition
from raydrgn.simulation.dataset import TRUE_VALUES, simulate
from raydrgn.simulation.ensemble import Ensemble
from raydrgn.simulation.images import ForwardModel
from raydrgn.simulation.options import Simulation

COUNT, BOX = 120, 16
ERRORS = {"angle_error_deg": 5.0, "shift_error_px": 0.5, "defocus_error_angstrom": 500.0}
SIGNAL = {"contrast_sd": 0.3, "b_factor_angstrom2": 300.0, "pose_bias": "preferred", "junk": 0.1}


def settings(**changes):
    return Simulation(num_particles=COUNT, box=BOX, snr=1e4, seed=3, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set with every option, with the table that ``simulate`` returned."""
    path = tmp_path_factory.mktemp("errors")
    return path, simulate(str(path), settings(**ERRORS, **SIGNAL))


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The same set with nothing written wrongly, and nothing else changed."""
    path = tmp_path_factory.mktemp("exact")
    return path, simulate(str(path), settings(**SIGNAL))


def true_table(path):
    return ParticleTable.read(str(path / "truth" / "particles.parquet"))


def test_errors_are_in_what_is_written_and_not_in_the_images(folder, exact):
    (path, table), (exact_path, exact_table) = folder, exact
    images, exact_images = (mrcfile.read(p / "particles.mrcs") for p in (path, exact_path))
    np.testing.assert_array_equal(images, exact_images)
    true = true_table(path)
    for name in true.table.column_names:
        if name != "stack":
            np.testing.assert_array_equal(true.column(name), exact_table.column(name))
    for name in ("rotation", "shift_angstrom", "defocus_u_angstrom", "defocus_v_angstrom"):
        assert (table.column(name) != true.column(name)).all(axis=-1).all()


def test_every_written_file_has_the_same_errors(folder):
    path, table = folder
    star = open_particles(ParticleSource(particles=str(path / "particles.star")))
    for name in ("shift_angstrom", *CTF_COLUMNS):
        np.testing.assert_allclose(star.column(name), table.column(name), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(star.rotations, table.rotations, atol=1e-6)
    poses = read_poses(str(path / "poses.pkl"))
    np.testing.assert_array_equal(poses.rotations, table.rotations)
    np.testing.assert_allclose(poses.shifts_fraction * 340, table.column("shift_angstrom"))
    defocus = read_ctf(str(path / "ctf.pkl"))[:, 2]
    np.testing.assert_array_equal(defocus, table.column("defocus_u_angstrom"))


def test_images_are_projections_with_the_true_values_times_the_contrast(folder):
    path, _ = folder
    true, contrast = true_table(path), np.load(path / "truth" / "contrast.npy")
    images = mrcfile.read(path / "particles.mrcs")
    volumes = [read_volume(str(p))[0] for p in sorted((path / "truth").glob("vol_*.mrc"))]
    labels, shown = (np.load(path / "truth" / f"{name}.npy") for name in ("labels", "shown"))
    ensemble = Ensemble(
        volumes=np.stack(volumes),
        pixel_size_angstrom=340 / BOX,
        state_names=[],
        labels=labels,
        shown=shown,
    )
    acquisition = Acquisition(
        rotations=true.rotations.copy(),  # Arrow's arrays cannot be written to
        shifts_fraction=true.column("shift_angstrom") / np.float32(340),
        ctf=np.stack([true.column(name) for name in CTF_COLUMNS], axis=-1),
        b_factor_angstrom2=SIGNAL["b_factor_angstrom2"],
    )
    projections = ForwardModel(ensemble, acquisition).clean(0, COUNT)
    is_junk = ~projections.any(axis=(1, 2))
    np.testing.assert_array_equal(is_junk, np.isnan(contrast))
    rows = ~is_junk
    found = (images * projections).sum((1, 2))[rows] / (projections**2).sum((1, 2))[rows]
    np.testing.assert_allclose(found, contrast[rows], atol=0.01)  # noise of 1 % of the signal
    assert found.std() == pytest.approx(0.3, rel=0.3)


def test_the_true_values_can_be_read_as_particles(folder):
    path, table = folder
    source = ParticleSource(particles=str(path / "truth" / "particles.parquet"))
    read = open_particles(source)
    assert read.stacks == table.stacks
    np.testing.assert_array_equal(read.rotations, true_table(path).rotations)


def test_contrast_is_1_where_only_poses_have_errors(tmp_path):
    simulate(str(tmp_path), settings(angle_error_deg=1.0))
    assert (np.load(tmp_path / "truth" / "contrast.npy") == 1).all()


def test_true_values_of_an_earlier_simulation_are_deleted(tmp_path):
    simulate(str(tmp_path), settings(shift_error_px=1.0))
    assert all((tmp_path / "truth" / name).exists() for name in TRUE_VALUES)
    simulate(str(tmp_path), settings())
    assert not any((tmp_path / "truth" / name).exists() for name in TRUE_VALUES)


def test_the_truth_of_an_earlier_simulation_is_no_part_of_the_new_one(tmp_path):
    """What a hinge has shown would else be taken for the states of two maps."""
    simulate(str(tmp_path), settings(phantom="hinge"))
    own = tmp_path / "truth" / "mask.mrc"
    own.write_bytes(b"of the user")
    maps = str(tmp_path / "truth" / "vol_00[01].mrc")  # read before they are replaced
    simulate(str(tmp_path), settings(maps=maps))
    found = {path.name for path in (tmp_path / "truth").iterdir()}
    assert found == {"labels.npy", "states.json", "vol_000.mrc", "vol_001.mrc", "mask.mrc"}
