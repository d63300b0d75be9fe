"""The verdict of back-projection on right and wrong inputs."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from known_map import BOX, PIXEL_SIZE, blobs, particle_table, project, write_images
from raydrgn.data.preprocess import ImageCorrection
from raydrgn.errors import InputError
from raydrgn.inputs.backprojection import back_project
from raydrgn.inputs.comparison import MATCH
from raydrgn.inputs.diagnosis import find_pixel_size_factor, find_shift_factor
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.io.mrc import read_header, write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles


def shift_factor(table, volume):
    return find_shift_factor(
        table,
        torch.from_numpy(volume),
        pixel_size_angstrom=PIXEL_SIZE,
        invert=True,
        correction=ImageCorrection(),
    )


def verdict_with(known, tmp_path, reference=None, pixel_size=PIXEL_SIZE, table=None, **options):
    if reference is not None:
        place = str(tmp_path / "reference.mrc")
        write_volume(place, reference, pixel_size_angstrom=pixel_size)
        options["reference"] = place
    return back_project(table or known[1], BackprojectionOptions(**options)).verdict


def test_right_inputs_have_no_problems(known, tmp_path):
    verdict = verdict_with(known, tmp_path, known[0])
    assert verdict.problems == []
    text = verdict.text()
    assert "Resolution: 12.00 Å" in text
    assert "density is positive" in text
    assert "matches the reference as is" in text


def test_inverted_contrast_is_said_with_its_flag(known, tmp_path):
    verdict = verdict_with(known, tmp_path, uninvert_data=True)
    [problem] = verdict.problems
    assert "inverted" in problem
    assert "leave out --uninvert-data" in problem
    dark = known[1]
    header = read_header(dark.stacks[0])
    images = -np.fromfile(dark.stacks[0], dtype="<f4", offset=header.data_start).reshape(
        -1, BOX, BOX
    )
    stack = write_images(tmp_path / "dark.mrcs", images)
    dark = dark.with_columns({"stack": [stack] * len(dark)})
    [problem] = verdict_with(known, tmp_path, table=dark).problems
    assert "use --uninvert-data" in problem


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_other_hand_is_said_with_its_flag(axis, known, tmp_path):
    mirrored = np.ascontiguousarray(np.flip(known[0], axis))
    [problem] = verdict_with(known, tmp_path, mirrored).problems
    assert "mirror image" in problem
    assert "Use --flip" in problem
    if axis == 0:
        assert verdict_with(known, tmp_path, mirrored, flip=True).problems == []


def test_leaving_out_flip_is_the_remedy_where_it_was_given(known, tmp_path):
    [problem] = verdict_with(known, tmp_path, known[0], flip=True).problems
    assert "Leave out --flip" in problem


def test_a_reference_of_another_box_and_pixel_size_is_found(known, tmp_path):
    # The same density at 5 Å/px in a box of 48: the field of view is 240 Å instead of 192 Å.
    coarse = known[0]
    wide = ndimage.affine_transform(
        coarse.astype(np.float64),
        np.full(3, 5.0 / PIXEL_SIZE),
        offset=16 - 24 * 5.0 / PIXEL_SIZE,
        output_shape=(48, 48, 48),
        order=3,
    ).astype(np.float32)
    verdict = verdict_with(known, tmp_path, wide, pixel_size=5.0)
    assert verdict.problems == []
    assert verdict.comparison.score > 0.9


def test_a_reference_of_something_else_does_not_match(known, tmp_path):
    other = blobs(BOX, generator=np.random.default_rng(99))
    [problem] = verdict_with(known, tmp_path, other).problems
    assert "does not match" in problem
    assert "--half-size-shifts" in problem


def test_a_reference_of_other_composition_is_no_fault_of_the_pixel_size(known, tmp_path):
    # Two thirds of the density are the particles'; the rest only the reference has.
    more = 1.3 * blobs(BOX, generator=np.random.default_rng(7))
    verdict = verdict_with(known, tmp_path, known[0] + more)
    assert verdict.problems == []
    assert verdict.comparison.resolution_angstrom > 6 * PIXEL_SIZE
    assert "composition or conformation" in verdict.text()
    assert "check the pixel size" not in verdict.text()


@pytest.mark.parametrize("stated", [2.6, 5.4, 8.0])
def test_a_reference_with_a_wrong_pixel_size_is_measured(stated, known, consensus):
    factor = find_pixel_size_factor(
        consensus.full, known[0], consensus.resolution, reference_pixel_size_angstrom=stated
    )
    assert factor == pytest.approx(PIXEL_SIZE / stated, rel=0.015)


def test_a_reference_that_matches_is_named_where_another_pixel_size_fits_better(known, tmp_path):
    verdict = verdict_with(known, tmp_path, known[0], pixel_size=0.94 * PIXEL_SIZE)
    assert verdict.comparison.score >= MATCH
    assert any("1.06 times as large it agrees clearly better" in p for p in verdict.misfits)


def test_the_right_pixel_size_has_no_better_one(known, consensus):
    factor = find_pixel_size_factor(
        consensus.full, known[0], consensus.resolution, reference_pixel_size_angstrom=PIXEL_SIZE
    )
    assert factor is None


@pytest.mark.parametrize(("given", "expected"), [(0.5, 2), (2, 0.5), (-1, -1), (1, None)])
def test_shifts_of_another_unit_or_sign_are_measured(given, expected, known):
    volume, table = known
    wrong = table.with_columns({"shift_angstrom": given * table.column("shift_angstrom")})
    assert shift_factor(wrong, volume) == expected


def test_shifts_of_images_that_are_centred_already_are_measured(known, tmp_path):
    volume, table = known
    few = table.slice_rows(0, 200)
    still = np.zeros((200, 2), dtype=np.float32)
    centred = particle_table(
        tmp_path / "c.mrcs", project(volume, few.rotations.astype(np.float32), still),
        few.rotations, few.column("shift_angstrom") / PIXEL_SIZE,
    )  # fmt: skip
    assert shift_factor(centred, volume) == 0


def test_shifts_of_half_the_unit_have_their_remedy(known, tmp_path):
    wrong = known[1].with_columns({"shift_angstrom": known[1].column("shift_angstrom") / 2})
    problems = verdict_with(known, tmp_path, known[0], table=wrong).problems
    assert any("twice as large" in p and "--half-size-shifts" in p for p in problems)


def test_a_negative_reference_is_named(known, tmp_path):
    problems = verdict_with(known, tmp_path, -known[0]).problems
    assert any("negative" in problem for problem in problems)


def test_a_moved_reference_is_named(known, tmp_path):
    moved = np.roll(known[0], 4, axis=2)
    [problem] = verdict_with(known, tmp_path, moved).problems
    assert "(-24.0, 0.0, 0.0) Å" in problem


def test_poses_of_other_particles_give_no_structure(known, tmp_path):
    table = known[1]
    mixed = np.random.default_rng(1).permutation(len(table))
    wrong = table.with_columns({"rotation": table.rotations[mixed].reshape(-1, 9)})
    problems = verdict_with(known, tmp_path, known[0], table=wrong).problems
    assert any("does not match" in p or "do not agree" in p for p in problems)


def test_a_reference_without_pixel_size_is_refused(known, tmp_path):
    with pytest.raises(InputError, match="no pixel size in its header"):
        verdict_with(known, tmp_path, known[0], pixel_size=0.0)


def test_particles_without_poses_are_refused(tmp_path):
    images = np.random.default_rng(0).normal(size=(4, BOX, BOX)).astype(np.float32)
    table = open_particles(ParticleSource(particles=write_images(tmp_path / "p.mrcs", images)))
    with pytest.raises(InputError, match="has no poses"):
        back_project(table, BackprojectionOptions())


def test_one_particle_makes_no_halves(known):
    with pytest.raises(InputError, match="particles of at least two images"):
        back_project(known[1].select(np.array([0])), BackprojectionOptions())


def test_bad_images_are_named(known, tmp_path):
    images = np.random.default_rng(0).normal(size=(6, BOX, BOX)).astype(np.float32)
    images[3, 0, 0] = np.inf
    eye = np.tile(np.eye(3, dtype=np.float32), (6, 1, 1))
    table = particle_table(tmp_path / "bad.mrcs", images, eye, np.zeros((6, 2), np.float32))
    with pytest.raises(InputError, match=r"Particle 3 .*--drop-bad"):
        back_project(table, BackprojectionOptions())
