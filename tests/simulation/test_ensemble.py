"""Which particle shows which volume: shares to the particle, motions, maps of one grid."""

import numpy as np
import pytest

from phantoms import write_mrc
from raydrgn.errors import ConfigError, InputError
from raydrgn.simulation.ensemble import FIELD_ANGSTROM, of_maps, of_phantom
from raydrgn.simulation.phantom import ASSEMBLY, HINGE, SWING


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def assembly():
    return of_phantom(ASSEMBLY, num_particles=1000, box=16, generator=rng())


def test_states_have_their_shares_to_the_particle(assembly):
    counts = np.bincount(assembly.labels)
    assert counts.tolist() == [round(1000 * state.share) for state in ASSEMBLY.states]
    assert (np.diff(assembly.labels) != 0).sum() > 500  # in random order


def test_particles_at_rest_show_their_state_and_moving_ones_a_frame(assembly):
    moving = np.array([ASSEMBLY.moving(state) for state in ASSEMBLY.states])[assembly.labels]
    np.testing.assert_array_equal(assembly.shown[~moving], assembly.labels[~moving])
    assert np.isnan(assembly.motion_deg[~moving]).all()
    states, frames = len(ASSEMBLY.states), ASSEMBLY.frame_angles()
    number = assembly.shown[moving] - states
    assert set(number.tolist()) == set(range(len(frames)))
    np.testing.assert_array_equal(assembly.motion_deg[moving], frames[number])
    assert len(assembly.volumes) == states + len(frames)
    assert assembly.volumes.shape[1:] == (16, 16, 16)
    assert assembly.pixel_size_angstrom == FIELD_ANGSTROM / 16


def test_volumes_are_those_of_the_states(assembly):
    # the sum of a volume is its number of atoms
    atoms = [len(ASSEMBLY.atoms(state, angle_deg=0)) for state in ASSEMBLY.states]
    sums = assembly.volumes.sum((1, 2, 3))
    np.testing.assert_allclose(sums[: len(atoms)], atoms, rtol=1e-4)
    mature = next(i for i, s in enumerate(ASSEMBLY.states) if ASSEMBLY.moving(s))
    np.testing.assert_allclose(sums[len(atoms) :], atoms[mature], rtol=1e-4)


@pytest.mark.parametrize("phantom", [HINGE, SWING], ids=["hinge", "swing"])
def test_one_moving_state_has_a_label_for_each_frame(phantom):
    found = of_phantom(phantom, num_particles=300, box=8, generator=rng())
    np.testing.assert_array_equal(found.shown, found.labels)
    np.testing.assert_array_equal(found.motion_deg, phantom.frame_angles()[found.labels])
    assert len(found.volumes) == phantom.num_frames == len(found.state_names)


def test_the_same_seed_draws_the_same_particles():
    first, second, other = (
        of_phantom(ASSEMBLY, num_particles=50, box=8, generator=rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.shown, second.shown)
    assert (first.shown != other.shown).any()


@pytest.fixture
def maps(tmp_path):
    """Three maps of 12 px of 2 Å, blobs at different places."""
    for i in range(3):
        volume = np.zeros((12, 12, 12), dtype=np.float32)
        volume[6, 6, 4 + i] = 1
        write_mrc(tmp_path / f"m{i}.mrc", volume, pixel_size=2.0, volume=True)
    return str(tmp_path / "m*.mrc")


def test_maps_are_brought_to_the_box_and_drawn_evenly(maps):
    found = of_maps(maps, num_particles=10, box=8, generator=rng())
    assert found.volumes.shape == (3, 8, 8, 8)
    assert found.pixel_size_angstrom == pytest.approx(3.0)  # 24 Å over 8 px
    np.testing.assert_allclose(found.volumes.sum((1, 2, 3)), 1, atol=1e-5)
    assert np.bincount(found.labels).tolist() == [3, 4, 3]
    assert found.state_names == ["m0.mrc", "m1.mrc", "m2.mrc"]
    np.testing.assert_array_equal(found.shown, found.labels)


def test_maps_that_do_not_say_their_pixel_size_are_taken_as_1_angstrom(tmp_path, caplog):
    volume = np.ones((8, 8, 8), dtype=np.float32)
    write_mrc(tmp_path / "m.mrc", volume, pixel_size=0.0, volume=True)
    found = of_maps(str(tmp_path / "*.mrc"), num_particles=2, box=8, generator=rng())
    assert found.pixel_size_angstrom == 1
    assert "has no pixel size in its header; 1 Å is taken" in caplog.text


def test_maps_of_other_grids_are_refused(maps, tmp_path):
    volume = np.zeros((12, 12, 12), dtype=np.float32)
    write_mrc(tmp_path / "m3.mrc", volume, pixel_size=2.5, volume=True)
    with pytest.raises(InputError, match=r"m3\.mrc has a box of 12 px of 2\.5 Å, but .*share one"):
        of_maps(maps, num_particles=2, box=8, generator=rng())


def test_a_pattern_that_nothing_matches_is_refused():
    with pytest.raises(InputError, match=r"No file matches --maps '/nowhere/\*\.mrc'; quote"):
        of_maps("/nowhere/*.mrc", num_particles=2, box=8, generator=rng())


def test_odd_boxes_are_refused(maps):
    for make, what in ((of_maps, maps), (of_phantom, ASSEMBLY)):
        with pytest.raises(ConfigError, match="even number of pixels"):
            make(what, num_particles=2, box=7, generator=rng())


def test_the_field_s_maps_are_an_ensemble(real_maps):
    pattern = str(real_maps[0].parent / "vol_*.mrc")
    found = of_maps(pattern, num_particles=20, box=16, generator=rng())
    assert found.volumes.shape == (10, 16, 16, 16)
    assert found.pixel_size_angstrom == pytest.approx(6.55 * 4, rel=1e-3)
    assert np.bincount(found.labels).tolist() == [2] * 10
