"""Euler angles, pose vectors and matrices, against formulas and printed numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from phantoms import ANGLES_DEG, ROTATION
from raydrgn.geometry.rotations import (
    from_axis_angle,
    from_euler,
    orthogonality_error,
    random_rotations,
    to_axis_angle,
    to_euler,
)

angles = st.floats(-360, 360)


def closed_form(rot, tilt, psi):
    """RELION's matrix as conventions.md, 2.1, writes it."""
    cf, ct, cp = np.cos(np.deg2rad([rot, tilt, psi]))
    sf, st_, sp = np.sin(np.deg2rad([rot, tilt, psi]))
    return np.array(
        [
            [cp * ct * cf - sp * sf, cp * ct * sf + sp * cf, -cp * st_],
            [-sp * ct * cf - cp * sf, -sp * ct * sf + cp * cf, sp * st_],
            [st_ * cf, st_ * sf, ct],
        ]
    )


def test_the_test_vector_of_another_program():
    # conventions.md, 2.1, printed to eight digits
    np.testing.assert_allclose(from_euler(np.array(ANGLES_DEG)), ROTATION, atol=6e-9)


@given(rot=angles, tilt=angles, psi=angles)
def test_matrices_are_relion_s_closed_form(rot, tilt, psi):
    found = from_euler(np.array([rot, tilt, psi]))
    np.testing.assert_allclose(found, closed_form(rot, tilt, psi), atol=1e-14)


def test_the_viewing_direction_has_the_polar_angles_tilt_and_rot():
    tilt, rot = np.deg2rad(40), np.deg2rad(70)
    direction = [np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)]
    np.testing.assert_allclose(from_euler(np.array([70.0, 40.0, 12.0]))[2], direction, atol=1e-15)


@given(rot=angles, tilt=st.floats(0.01, 179.99), psi=angles)
def test_angles_come_back_within_their_ranges(rot, tilt, psi):
    found = to_euler(from_euler(np.array([rot, tilt, psi])))
    assert found[1] == pytest.approx(tilt, abs=1e-10)
    for given_angle, angle in ((rot, found[0]), (psi, found[2])):
        assert -180 <= angle <= 180
        # rot and psi lose digits as tilt nears the pole: 1e-16 / sin(0.01°) radians
        assert (angle - given_angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_at_the_poles_one_angle_says_it_all(tilt, dtype):
    matrix = from_euler(np.array([33.0, tilt, 50.0])).astype(dtype)
    found = to_euler(matrix)
    assert found[0] == 0
    assert found[1] == pytest.approx(tilt, abs=1e-4 if dtype == np.float32 else 1e-6)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(from_euler(found), matrix, atol=tolerance)


def test_batches_of_any_shape_are_kept():
    euler = np.random.default_rng(0).uniform(-180, 180, size=(2, 4, 3))
    matrices = from_euler(euler)
    assert matrices.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(matrices[1, 2], from_euler(euler[1, 2]))
    np.testing.assert_allclose(from_euler(to_euler(matrices)), matrices, atol=1e-12)


def test_a_pose_vector_is_the_inverse_of_its_rotation():
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    # Rodrigues' formula: v' = v cos a + (u × v) sin a + u (u·v)(1 − cos a)
    angle = np.linalg.norm(vectors, axis=1, keepdims=True)
    axis, point = vectors / angle, np.array([0.3, -0.7, 0.5])
    turned = (
        point * np.cos(angle)
        + np.cross(axis, point) * np.sin(angle)
        + axis * (axis @ point)[:, None] * (1 - np.cos(angle))
    )
    # R maps volume to image: a row vector times R is Rᵀ times the column
    found = np.einsum("j,bji->bi", point, from_axis_angle(vectors))
    np.testing.assert_allclose(found, turned, atol=1e-14)


def test_pose_vectors_come_back_also_where_there_is_no_turn():
    vectors = np.random.default_rng(1).uniform(-1.8, 1.8, size=(20, 3))  # shorter than π
    vectors[3] = 0
    matrices = from_axis_angle(vectors)
    np.testing.assert_array_equal(matrices[3], np.eye(3))
    np.testing.assert_allclose(to_axis_angle(matrices), vectors, atol=1e-12)


def test_random_rotations_are_uniform_on_so3():
    rotations = random_rotations(20_000, generator=np.random.default_rng(0))
    assert orthogonality_error(rotations).max() < 1e-12
    # E[R] = 0, E[R_ij²] = 1/3, E[tr²] = 1 for the uniform measure; five standard errors
    error = 5 / np.sqrt(len(rotations))
    np.testing.assert_allclose(rotations.mean(0), 0, atol=error)
    np.testing.assert_allclose((rotations**2).mean(0), 1 / 3, atol=error)
    assert np.trace(rotations, axis1=1, axis2=2).__pow__(2).mean() == pytest.approx(1, abs=error)


def test_random_rotations_repeat_with_their_seed():
    first, second = (random_rotations(3, generator=np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_orthogonality_error_is_zero_for_rotations_only():
    good = Rotation.random(5, rng=0).as_matrix()
    assert orthogonality_error(good).max() < 1e-15
    bad = np.stack([1.1 * good[0], -good[0], np.full((3, 3), np.nan), np.zeros((3, 3))])
    found = orthogonality_error(bad)
    assert found[0] == pytest.approx(0.21)  # 1.1² − 1
    assert found[1:3].tolist() == [np.inf, np.inf]  # mirrors, NaN
    assert found[3] == 1
