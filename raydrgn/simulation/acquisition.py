"""Poses and optics of simulated particles."""

from dataclasses import dataclass

import numpy as np

from raydrgn.geometry.rotations import random_rotations
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.shapes import Float

MAX_SHIFT_FRACTION = 0.05
DEFOCUS_RANGE_ANGSTROM = (10_000.0, 25_000.0)
ASTIGMATISM_ANGSTROM = 300.0
VOLTAGE_KV, SPHERICAL_ABERRATION_MM, AMPLITUDE_CONTRAST = 300.0, 2.7, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """Poses and optics of simulated particles."""

    rotations: Float[np.ndarray, "n 3 3"]
    shifts_fraction: Float[np.ndarray, "n 2"]
    ctf: Float[np.ndarray, "n 7"]
    """Columns of ``CTF_COLUMNS``."""


def draw_acquisition(num_particles: int, *, generator: np.random.Generator) -> Acquisition:
    """Draw poses uniformly, shifts up to 5 % of the box, defocus from 1 to 2.5 µm."""
    defocus = generator.uniform(*DEFOCUS_RANGE_ANGSTROM, size=num_particles)
    astigmatism = generator.uniform(0, ASTIGMATISM_ANGSTROM, size=num_particles)
    columns = {
        "defocus_u_angstrom": defocus + astigmatism / 2,
        "defocus_v_angstrom": defocus - astigmatism / 2,
        "defocus_angle_deg": generator.uniform(0, 180, size=num_particles),
        "voltage_kv": np.full(num_particles, VOLTAGE_KV),
        "spherical_aberration_mm": np.full(num_particles, SPHERICAL_ABERRATION_MM),
        "amplitude_contrast": np.full(num_particles, AMPLITUDE_CONTRAST),
        "phase_shift_deg": np.zeros(num_particles),
    }
    limit = MAX_SHIFT_FRACTION
    return Acquisition(
        rotations=random_rotations(num_particles, generator=generator).astype(np.float32),
        shifts_fraction=generator.uniform(-limit, limit, size=(num_particles, 2)).astype(
            np.float32
        ),
        ctf=np.stack([columns[name] for name in CTF_COLUMNS], axis=-1).astype(np.float32),
    )
