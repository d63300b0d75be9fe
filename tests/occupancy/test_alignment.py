"""Maps and models that are not in one frame are told from those that are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import rotate

from raydrgn.fourier.density import solvent_level
from raydrgn.io.mrc import read_volume
from raydrgn.occupancy.alignment import OPPOSITE_HAND, alignment, check_alignment
from raydrgn.occupancy.subunits import read_subunits

PIXEL = 6.55


@pytest.fixture(scope="module")
def six(real_maps):
    """Ten maps of a ribosome, and the density of six of its proteins."""
    volumes = np.stack([read_volume(str(path))[0] for path in real_maps])
    density = read_subunits(str(real_maps[0].parent / "masks")).density
    return volumes, density


def warning(volumes, density):
    return alignment(volumes, density, pixel_size_angstrom=PIXEL).warning


def test_a_few_proteins_of_a_ribosome_are_where_they_should_be(six):
    volumes, density = six
    assert warning(volumes, density) is None


def test_maps_of_the_other_hand_and_turned_maps_are_not(six):
    volumes, density = six
    assert "--flip" in warning(np.roll(volumes[:, ::-1], 1, axis=1), density)
    assert "not in one frame" in warning(np.rot90(volumes, 1, (2, 3)), density)
    assert "not in one frame" in warning(np.roll(volumes, 20, axis=1), density)


def test_what_no_turn_of_the_model_mends_is_not_to_be_fitted(six):
    volumes, _ = six
    whole = np.clip(volumes.mean(axis=0), 1, None)
    mirrored = warning(np.roll(volumes[:, ::-1], 1, axis=1), whole)
    assert "`raydrgn flip`" in mirrored
    assert "--fit" not in mirrored
    inverted = warning(-volumes, whole)
    assert "`raydrgn invert`" in inverted
    assert "--fit" not in inverted
    otherwise = warning(np.roll(volumes[:, :, :, ::-1], 1, axis=3), whole)
    assert otherwise.index("`raydrgn flip`") < otherwise.index("--fit")
    assert "--fit" in warning(np.rot90(volumes, 1, (1, 2)), whole)


def test_a_whole_model_is_missed_by_its_distance(six):
    volumes, _ = six
    whole = np.clip(volumes.mean(axis=0), 1, None)  # what is dense, as a model would have it
    assert warning(volumes, whole) is None
    assert "moved by (26, 0, -13) Å" in warning(np.roll(volumes, (-2, 4), axis=(1, 3)), whole)
    assert "rotated" in warning(np.rot90(volumes, 1, (1, 2)), whole)


@pytest.mark.parametrize("degrees", [50, 75])
def test_a_turned_model_is_missed_by_how_little_of_it_lies_in_density(six, degrees):
    volumes, density = six
    turned = rotate(density, degrees, axes=(0, 1), reshape=False, order=1)
    found = alignment(volumes, turned, pixel_size_angstrom=PIXEL)
    assert found.inside < 0.5
    text = f"{100 * found.inside:.0f} % of the model is where a map has density"
    assert text in (replace(found, detail=0.05, placement="").warning or "")
    assert replace(found, detail=0.2, placement="").warning is None  # parts are missing, no more
    assert found.warning  # of detail too little, or of density
    right = alignment(volumes, density, pixel_size_angstrom=PIXEL)
    assert right.inside > 0.6
    # whatever the maps' noise, blur or sharpening is
    noise = np.random.default_rng(0).normal(size=volumes.shape) * volumes.std()
    assert alignment(volumes + noise, density, pixel_size_angstrom=PIXEL).inside > 0.6


def test_the_level_of_the_solvent_is_between_the_two_densities():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 1, 9000), generator.normal(8, 1, 1000)])
    level = solvent_level(values)
    assert level == pytest.approx(4, abs=1)  # in the middle of peaks of the same width
    assert solvent_level(3 * values - 50) == pytest.approx(3 * level - 50, abs=1e-6)
    assert solvent_level(np.zeros(10)) == pytest.approx(0, abs=1)


@pytest.mark.parametrize(
    ("turned", "placement"),
    [
        (lambda v: np.roll(v[::-1], 1, axis=0), OPPOSITE_HAND),
        (lambda v: np.roll(v[:, :, ::-1], 1, axis=2), "mirrored"),
        (lambda v: np.roll(v.transpose(1, 0, 2)[::-1], 1, axis=0), "rotated by right angles"),
    ],
)
def test_placements_turn_about_the_voxel_that_is_the_origin(turned, placement):
    density = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    found = alignment(turned(density)[None], density, pixel_size_angstrom=4.0)
    assert found.placement == placement
    assert found.best == pytest.approx(1, abs=1e-5)  # one voxel off, noise is like nothing
    assert abs(found.detail) < 0.2  # but for the planes that stay


def test_the_volume_that_is_most_like_the_model_is_reported_as_one_of_those_compared(caplog):
    density = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    volumes = np.stack([density, 2 * density, np.full_like(density, np.nan)])
    with caplog.at_level("INFO", logger="raydrgn"):
        check_alignment(volumes, density, pixel_size_angstrom=4.0)
    assert "of 2 volumes that were compared, the one most like the model: corr" in caplog.text
