"""Poses and optics of simulated particles: the true ones, and those that are written.

What is drawn for an option comes from a random stream of that option's own, so that all else stays
as it is without the option, and twice the SD makes errors of twice the size.
"""

from dataclasses import dataclass, replace

import numpy as np

from raydrgn.geometry.rotations import from_axis_angle, random_rotations
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.shapes import Float
from raydrgn.simulation.options import Simulation
from raydrgn.simulation.orientations import preferred_rotations

MAX_SHIFT_FRACTION = 0.05
DEFOCUS_RANGE_ANGSTROM = (10_000.0, 25_000.0)
ASTIGMATISM_ANGSTROM = 300.0
DEFOCUS_COLUMNS = ("defocus_u_angstrom", "defocus_v_angstrom")
MIN_CONTRAST = 0.05
VOLTAGE_KV, SPHERICAL_ABERRATION_MM, AMPLITUDE_CONTRAST = 300.0, 2.7, 0.1

STREAMS = ("contrast", "orientations", "angle error", "shift error", "defocus error")
"""Names of the random streams; new ones go to the end, which leaves the others as they are."""


def random_stream(seed: int, name: str) -> np.random.Generator:
    """Return a stream of random numbers that no other draw of a simulation is taken from."""
    key = (STREAMS.index(name),)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """Poses and optics of simulated particles."""

    rotations: Float[np.ndarray, "n 3 3"]
    shifts_fraction: Float[np.ndarray, "n 2"]
    ctf: Float[np.ndarray, "n 7"]
    """Columns of ``CTF_COLUMNS``."""

    contrast: Float[np.ndarray, " n"] | None = None
    """Factor of each particle's signal; 1 for all without it."""

    b_factor_angstrom2: float = 0.0
    """Of the envelope exp(−B s²/4) of all images."""


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


def with_options(acquisition: Acquisition, simulation: Simulation) -> Acquisition:
    """Return what the microscope sees: with the orientations, contrast and B-factor asked for."""
    count, seed = len(acquisition.rotations), simulation.seed
    rotations, contrast = acquisition.rotations, None
    if simulation.pose_bias == "preferred":
        drawn = preferred_rotations(count, generator=random_stream(seed, "orientations"))
        rotations = drawn.astype(np.float32)
    if simulation.contrast_sd:
        normal = random_stream(seed, "contrast").standard_normal(count)
        contrast = np.maximum(1 + simulation.contrast_sd * normal, MIN_CONTRAST).astype(np.float32)
    return replace(
        acquisition,
        rotations=rotations,
        contrast=contrast,
        b_factor_angstrom2=simulation.b_factor_angstrom2,
    )


def with_errors(acquisition: Acquisition, simulation: Simulation) -> Acquisition:
    """Return what a refinement would have found: the true poses and defocus with errors.

    A written rotation is E·R, where R is the true one and E a rotation in the frame of the image by
    an angle of mean square ``angle_error_deg``²; written shifts and defocus are the true ones plus
    the error. What has no error is passed on as it is.
    """
    rotations, shifts, ctf = acquisition.rotations, acquisition.shifts_fraction, acquisition.ctf
    count = len(rotations)

    def normal(name: str, *shape: int) -> np.ndarray:
        return random_stream(simulation.seed, name).standard_normal((count, *shape))

    if simulation.angle_error_deg:
        component_sd = np.deg2rad(simulation.angle_error_deg) / np.sqrt(3)
        turns = from_axis_angle(component_sd * normal("angle error", 3))
        rotations = (turns @ rotations).astype(np.float32)
    if simulation.shift_error_px:
        error = simulation.shift_error_px / simulation.box * normal("shift error", 2)
        shifts = (shifts + error).astype(np.float32)
    if simulation.defocus_error_angstrom:
        is_defocus = np.array([name in DEFOCUS_COLUMNS for name in CTF_COLUMNS])
        error = simulation.defocus_error_angstrom * normal("defocus error", 1)
        ctf = (ctf + error * is_defocus).astype(np.float32)
    return replace(acquisition, rotations=rotations, shifts_fraction=shifts, ctf=ctf)
