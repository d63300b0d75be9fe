"""Rigid fits of a model into a map: known motions are found, mirror images are not taken."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from phantoms import write_mrc
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError
from raydrgn.io.mrc import read_volume
from raydrgn.occupancy import fitting
from raydrgn.occupancy.atomic_models import read_model
from raydrgn.occupancy.fitting import (
    RigidFit,
    fit_model,
    opposite_hand,
    opposite_sign,
    spread_rotations,
)
from raydrgn.occupancy.molmap import density_of_atoms

BOX, PIXEL = 24, 5.0
TURN = Rotation.from_rotvec(np.deg2rad(110) * np.array([0.6, -0.64, 0.48])).as_matrix()
SHIFT = np.array([31.0, -12.0, 47.0])
CARBON = np.full(400, 6)


@pytest.fixture(scope="module")
def atoms():
    """Atoms of a random chain, 23 Å from their centre on average, not in the middle of the map."""
    generator = np.random.default_rng(1)
    steps = generator.normal(size=(len(CARBON), 3))
    chain = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    chain -= chain.mean(axis=0)
    chain *= 23 / np.sqrt((chain**2).sum(axis=1).mean())
    return chain + BOX * PIXEL / 2 + np.array([13.0, -6.0, -11.0])


@pytest.fixture(scope="module")
def volume(atoms):
    """Density of the atoms, with noise of a third of its SD."""
    density = density_of_atoms(
        atoms, CARBON, resolution_angstrom=10.0, box=BOX, pixel_size_angstrom=PIXEL
    )
    noise = np.random.default_rng(2).normal(size=density.shape)
    return (density + 0.33 * density.std() * noise).astype(np.float32)


def moved_away(atoms):
    centre = atoms.mean(axis=0)
    return (atoms - centre) @ TURN.T + centre + SHIFT


def fit(atoms, volume):
    return fit_model(atoms, CARBON, volume, pixel_size_angstrom=PIXEL, resolution_angstrom=10.0)


@pytest.fixture(scope="module")
def found(atoms, volume):
    return fit(moved_away(atoms), volume)


def angle_deg(rotation):
    return np.rad2deg(Rotation.from_matrix(rotation).magnitude())


def test_a_known_motion_is_found(atoms, found):
    best = found.best
    assert angle_deg(best.rotation @ TURN) < 3
    np.testing.assert_allclose(best.shift_angstrom, -SHIFT, atol=0.4 * PIXEL)
    distances = np.linalg.norm(best.moved(moved_away(atoms)) - atoms, axis=1)
    assert np.sqrt((distances**2).mean()) < 0.4 * PIXEL
    assert found.warning() is None
    # as it is printed: angle and axis, and the shift of the centre
    turn = Rotation.from_rotvec(np.deg2rad(best.angle_deg) * best.axis).as_matrix()
    np.testing.assert_allclose(turn, best.rotation, atol=1e-6)


def test_a_model_that_fits_is_found_where_it_is(atoms, volume):
    best = fit(atoms, volume).best
    assert best.angle_deg < 4
    assert np.linalg.norm(best.shift_angstrom) < 0.3 * PIXEL


def test_a_mirrored_map_is_not_taken_for_the_map(atoms, volume, found):
    mirror = np.roll(volume[::-1], 1, axis=0)
    mirrored = fit(moved_away(atoms), mirror)
    assert np.linalg.det(mirrored.best.rotation) == pytest.approx(1)
    assert mirrored.best.score < 0.95 * found.best.score
    assert opposite_hand(found, mirrored) is None
    assert "raydrgn flip" in opposite_hand(mirrored, found)


def test_noise_fits_nowhere_in_particular(atoms):
    noise = np.random.default_rng(3).normal(size=(BOX,) * 3).astype(np.float32)
    assert "No fit stands out" in fit(atoms, noise).warning()


def test_a_map_of_opposite_sign_is_named(volume):
    assert opposite_sign(volume) is None
    noise = np.random.default_rng(3).normal(size=(BOX,) * 3).astype(np.float32)
    assert opposite_sign(noise) is None
    assert "the map has the opposite sign" in opposite_sign(-volume)


def test_rotations_are_spread_evenly():
    rotations = spread_rotations(2304)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    np.testing.assert_allclose(rotations.mean(axis=0), 0, atol=0.01)
    # from any rotation, the nearest one is no farther than the spacing of 19°
    others = Rotation.random(200, rng=0).as_matrix()
    cosines = (np.einsum("aij,bij->ab", others, rotations) - 1) / 2
    assert np.rad2deg(np.arccos(cosines.max(axis=1))).max() < 19


def write_pdb(path, positions):
    structure, model, chain = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A")
    for number, place in enumerate(positions, start=1):
        residue, atom = gemmi.Residue(), gemmi.Atom()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(number, " ")
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos = gemmi.Position(*place)
        residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.write_pdb(str(path))
    return str(path)


def test_the_command_moves_the_model_and_makes_masks_of_it(
    atoms, volume, found, tmp_path, monkeypatch
):
    density = write_mrc(tmp_path / "map.mrc", volume, pixel_size=PIXEL, volume=True)
    slight = replace(found.best, rotation=np.eye(3), shift_angstrom=np.array([0.2, 0.0, 0.0]))
    masks = []
    for name, positions, motion, expected in (
        ("away", moved_away(atoms), found.best, "rotated by 1"),
        ("here", atoms, slight, "not moved, it fits already"),
    ):
        monkeypatch.setattr(
            fitting, "fit_model", lambda *_, motion=motion, **__: RigidFit(best=motion, other=None)
        )
        model, out = write_pdb(tmp_path / f"{name}.pdb", positions), tmp_path / name
        words = ["occupancy", "masks", model, "--map", density, "-o", str(out), "--fit"]
        said = CliRunner().invoke(app, words)
        assert said.exit_code == 0, said.output
        assert f"model {expected}" in said.output
        [mask] = out.glob("masks/*.mrc")
        masks.append(read_volume(str(mask))[0] > 0)
        placed = read_model(str(out / "model" / f"{name}.pdb")).positions_angstrom
        assert np.linalg.norm(placed - atoms, axis=1).mean() < 0.4 * PIXEL
    assert (masks[0] & masks[1]).sum() > 0.9 * (masks[0] | masks[1]).sum()


def test_models_of_one_name_stay_two(atoms, volume, found, tmp_path, monkeypatch):
    density = write_mrc(tmp_path / "map.mrc", volume, pixel_size=PIXEL, volume=True)
    fit = RigidFit(best=found.best, other=None)
    monkeypatch.setattr(fitting, "fit_model", lambda *_, **__: fit)
    half, models = len(atoms) // 2, []
    for name, part in (("a", slice(half)), ("b", slice(half, None))):
        (tmp_path / name).mkdir()
        models.append(write_pdb(tmp_path / name / "model.pdb", moved_away(atoms)[part]))
    (tmp_path / "by.yaml").write_text("whole: A\n")
    out = str(tmp_path / "out")
    words = ["occupancy", "masks", *models, "--map", density, "--by", str(tmp_path / "by.yaml")]
    said = CliRunner().invoke(app, [*words, "-o", out, "--fit"])
    assert said.exit_code == 0, said.output
    placed = [read_model(f"{out}/model/{k}/model.pdb").positions_angstrom for k in (1, 2)]
    assert [len(part) for part in placed] == [half, len(atoms) - half]
    assert np.linalg.norm(np.concatenate(placed) - atoms, axis=1).mean() < 0.4 * PIXEL


def test_maps_in_the_place_of_models_cannot_be_moved(volume, tmp_path):
    density = write_mrc(tmp_path / "map.mrc", volume, pixel_size=PIXEL, volume=True)
    part = write_mrc(tmp_path / "part.mrc", volume, pixel_size=PIXEL, volume=True)
    words = ["occupancy", "masks", part, "--map", density, "-o", str(tmp_path / "out"), "--fit"]
    with pytest.raises(ConfigError, match="--fit moves atomic models"):
        raise CliRunner().invoke(app, words).exception
