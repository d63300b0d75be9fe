"""Contrast and hand are found against the map; particles that do not fit it stop the project."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from raydrgn.errors import InputError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.occupancy.subunits import read_subunits
from raydrgn.protocol.decisions import ProjectInputs
from raydrgn.protocol.ensemble import make_masks
from raydrgn.protocol.inputs import check_inputs, corrections, in_box
from raydrgn.protocol.project import Project
from raydrgn.remote.executor import IN_PROCESS
from raydrgn.remote.progress import silent
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

WORK = {"executor": IN_PROCESS, "progress": silent}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Particles of a rigid chiral object, and its map."""
    folder = tmp_path_factory.mktemp("data")
    simulate(str(folder), Simulation(num_particles=300, box=32, snr=5.0, seed=2))
    shown = np.load(folder / "truth" / "shown.npy")
    numbers, counts = np.unique(shown, return_counts=True)
    volumes = [read_volume(str(folder / "truth" / f"vol_{k:03d}.mrc")) for k in numbers]
    mean = sum(n * volume for n, (volume, _) in zip(counts, volumes, strict=True)) / len(shown)
    size = volumes[0][1].pixel_size_angstrom
    write_volume(str(folder / "map.mrc"), mean.astype(np.float32), pixel_size_angstrom=size)
    return folder


def project_of(data, root, **beside):
    source = ParticleSource(particles=str(data / "particles.star"), **beside)
    project = Project(str(root))
    project.decisions.begin(ProjectInputs(source=source, map=str(data / "map.mrc")).absolute())
    return project


@pytest.mark.parametrize(
    ("uninvert", "flip"), [(False, False), (True, False), (False, True)], ids=str
)
def test_one_wrong_flag_is_found_and_corrected(data, tmp_path, uninvert, flip):
    project = project_of(data, tmp_path / "p")
    check = check_inputs(project, uninvert_data=uninvert, flip=flip, drop_bad=False, **WORK)
    assert (check.result["uninvert_data"], check.result["flip"]) == (False, False)
    assert check.result["maps"] == ("corrected" if uninvert or flip else "as-given")
    assert "correlation" in check.result["why"]["hand"]


def test_what_follows_does_not_depend_on_how_contrast_was_given(data, tmp_path):
    """But on what was found: nothing is made again once the right flag is given."""
    project = project_of(data, tmp_path / "p")
    given = {"flip": False, "drop_bad": False, **WORK}
    wrong = check_inputs(project, uninvert_data=True, **given)
    right = check_inputs(project, uninvert_data=False, **given)
    assert wrong.folder != right.folder
    assert wrong.key == right.key
    assert right.key == project.records("check")[-1].key


@pytest.mark.parametrize("uninvert", [False, True])
def test_a_map_of_opposite_sign_is_refused_whatever_contrast_is_given(data, tmp_path, uninvert):
    density, header = read_volume(str(data / "map.mrc"))
    negative = str(tmp_path / "negative.mrc")
    write_volume(negative, -density, pixel_size_angstrom=header.pixel_size_angstrom)
    project = Project(str(tmp_path / "p"))
    source = ParticleSource(particles=str(data / "particles.star"))
    project.decisions.begin(ProjectInputs(source=source, map=negative).absolute())
    with pytest.raises(InputError, match=r"negative\.mrc .* opposite sign.*raydrgn invert"):
        check_inputs(project, uninvert_data=uninvert, flip=False, drop_bad=False, **WORK)


def test_particles_that_do_not_fit_the_map_stop_the_project_and_the_page_is_named(data, tmp_path):
    found = cryodrgn.read_poses(str(data / "poses.pkl"))
    rotations = Rotation.random(len(found.rotations), random_state=0).as_matrix()
    poses = tmp_path / "poses.pkl"
    cryodrgn.write_pickles(str(poses), (rotations, found.shifts_fraction))
    project = project_of(data, tmp_path / "p", poses=str(poses))
    with pytest.raises(
        InputError, match=r"do not fit the map.*backproject\.png.*given anew \(PARTICLES, --map"
    ):
        check_inputs(project, uninvert_data=False, flip=False, drop_bad=False, **WORK)
    assert set(yaml.safe_load((tmp_path / "p" / "project.yaml").read_text())) == {
        "inputs",
        "checksums",
        "decisions",
    }


def test_a_map_that_does_not_match_leaves_the_contrast_to_the_density():
    verdict = SimpleNamespace(comparison=None, skewness=-2.0)
    (uninvert, flip), why = corrections(verdict, uninvert_data=False, flip=True)
    assert (uninvert, flip) == (True, True)
    assert why["hand"] == "the map does not decide"
    assert "skewness of -2.0" in why["contrast"]
    unclear = SimpleNamespace(comparison=None, skewness=0.1)
    assert corrections(unclear, uninvert_data=True, flip=False)[0] == (True, False)


def test_masks_are_made_on_the_grid_of_the_volumes_whatever_the_map_s_field(data, tmp_path):
    density, header = read_volume(str(data / "map.mrc"))
    size = header.pixel_size_angstrom
    padded = str(tmp_path / "padded.mrc")  # as of another box, about the same atoms
    corner = (-8 * size,) * 3
    write_volume(padded, np.pad(density, 8), pixel_size_angstrom=size, origin_angstrom=corner)
    made = []
    for name, given in (("same", str(data / "map.mrc")), ("padded", padded)):
        project = Project(str(tmp_path / name))
        source = ParticleSource(particles=str(data / "particles.star"))
        model, by = (str(data / "truth" / file) for file in ("model.pdb", "subunits.yaml"))
        inputs = ProjectInputs(source=source, map=given, model=model, by=by)
        project.decisions.begin(inputs.absolute())
        project.decisions.make("pixel size, Å", size, by="program", why="of the particles")
        step = make_masks(project, 24, image_box=32, **WORK)
        subunits = read_subunits(step.at("subunits"))
        assert subunits.box == 24
        assert subunits.pixel_size_angstrom == pytest.approx(32 * size / 24, rel=1e-4)
        made.append(subunits)
    difference = abs(made[0].weights - made[1].weights)
    assert difference.sum() < 0.01 * made[0].weights.sum()  # voxels at the threshold


def test_images_are_downsampled_only_where_they_have_a_larger_box(data, tmp_path):
    project = project_of(data, tmp_path / "p")
    how = {"image_box": 32, "drop_bad": False, **WORK}
    source, made = in_box(project, 32, **how)
    assert (source.particles, made) == (str(data / "particles.star"), [])
    small, [step] = in_box(project, 16, **how)
    assert small.particles == step.at("particles.parquet")
    assert step.folder.endswith("particles.16")
