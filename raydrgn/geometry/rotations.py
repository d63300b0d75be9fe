"""Rotation matrices R, which map the frame of the volume to the frame of the image.

A point p = (x, y, 0) of the image plane lies at p @ R in the volume. All angles are in degrees, and
Euler angles are RELION's (rot, tilt, psi).
"""

import numpy as np
from scipy.spatial.transform import Rotation

from raydrgn.shapes import Float


def from_euler(euler_deg: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Return the matrices of RELION's (rot, tilt, psi): intrinsic Z-Y-Z, transposed.

    References:
        Heymann, Chagoyen & Belnap (2005), J. Struct. Biol. 151:196.
    """
    flat = np.asarray(euler_deg, dtype=np.float64).reshape(-1, 3)
    matrices = Rotation.from_euler("ZYZ", flat, degrees=True).as_matrix()
    return np.swapaxes(matrices, -1, -2).reshape(*euler_deg.shape[:-1], 3, 3)


def to_euler(rotations: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b 3"]:
    """Return RELION's (rot, tilt, psi) of the matrices, with tilt between 0 and 180.

    At tilt 0 or 180 only one of rot and psi is defined, and all of it is given to psi.
    """
    matrix = np.asarray(rotations, dtype=np.float64)
    sin_tilt = np.hypot(matrix[..., 2, 0], matrix[..., 2, 1])
    tilt = np.arctan2(sin_tilt, matrix[..., 2, 2])
    rot = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 0])
    psi = np.arctan2(matrix[..., 1, 2], -matrix[..., 0, 2])
    # float32 matrices have sin(tilt) of about 1e-7 at the poles, where rot and psi are one angle
    pole = sin_tilt < 1e-6
    at_pole = np.arctan2(matrix[..., 0, 1], matrix[..., 1, 1])
    rot, psi = np.where(pole, 0.0, rot), np.where(pole, at_pole, psi)
    return np.rad2deg(np.stack([rot, tilt, psi], axis=-1))


def from_axis_angle(vectors_rad: Float[np.ndarray, "b 3"]) -> Float[np.ndarray, "b 3 3"]:
    """Return the matrices of cryoSPARC's pose vectors: Rodrigues' rotation, transposed.

    The direction is the axis, the length the angle in radians; the zero vector is the identity.
    """
    matrices = Rotation.from_rotvec(np.asarray(vectors_rad, dtype=np.float64)).as_matrix()
    return np.swapaxes(matrices, -1, -2)


def to_axis_angle(rotations: Float[np.ndarray, "b 3 3"]) -> Float[np.ndarray, "b 3"]:
    """Return cryoSPARC's pose vectors of the matrices, in radians: ``from_axis_angle`` undone."""
    matrices = np.swapaxes(np.asarray(rotations, dtype=np.float64), -1, -2)
    return Rotation.from_matrix(matrices).as_rotvec()


def random_rotations(count: int, *, generator: np.random.Generator) -> Float[np.ndarray, "b 3 3"]:
    """Draw matrices uniformly from SO(3)."""
    return Rotation.random(count, rng=generator).as_matrix()


def orthogonality_error(rotations: Float[np.ndarray, "b 3 3"]) -> Float[np.ndarray, " b"]:
    """Return how far each matrix is from a rotation: max |R Rᵀ − 1|, or inf if det R is not +1."""
    matrix = np.asarray(rotations, dtype=np.float64)
    error = np.abs(matrix @ np.swapaxes(matrix, -1, -2) - np.eye(3)).max(axis=(-1, -2))
    improper = np.linalg.det(np.nan_to_num(matrix)) < 0
    return np.where(np.isfinite(error) & ~improper, error, np.inf)
