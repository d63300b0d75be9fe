"""What a simulation makes. Loads nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from raydrgn.errors import ConfigError
from raydrgn.settings import Setting, check_bounds

PHANTOM_NAMES = ("assembly", "hinge", "swing")
"""Built-in phantoms: one of several states, and two that move."""

POSE_BIASES = ("uniform", "preferred")
"""Distributions of orientations."""

MAX_JUNK = 0.9

MAX_ANGLE_ERROR_DEG = 60.0
"""Beyond it, rotation vectors of more than 180 degrees occur, and the RMS angle is less."""

MAX_SHIFT_ERROR = 1 / 8
"""As a fraction of the box; refined shifts must lie within the box, 8 SD away."""

MAX_DEFOCUS_ERROR_ANGSTROM = 100_000.0

MAX_B_FACTOR_ANGSTROM2 = 10_000.0
"""Leaves 37 % of the amplitude at 50 Å."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What to simulate."""

    num_particles: Annotated[int, Setting("Number of images.", flags=("--particles",), min=1)] = (
        6000
    )

    box: Annotated[int, Setting("Edge of the images, pixels; even.", min=4)] = 32

    snr: Annotated[float, Setting("Variance of the signal over that of the noise.", above=0)] = 0.1

    seed: Annotated[int, Setting("Seed of poses, defocus, states and noise.", min=0)] = 0

    maps: Annotated[
        str | None, Setting("Pattern of .mrc maps to take as states; put it in quotation marks.")
    ] = None

    phantom: Annotated[
        str,
        Setting(
            "Built-in phantom: assembly (states), hinge (motion) or swing (a domain that moves by "
            "several times its size); not used with --maps."
        ),
    ] = "assembly"

    junk: Annotated[
        float,
        Setting("Share of images without a particle: ice, and carbon edges.", min=0, max=MAX_JUNK),
    ] = 0.0

    pose_bias: Annotated[
        str,
        Setting(
            "Distribution of orientations: uniform, or preferred: 80 % of the particles are seen "
            "from about three directions, with an SD of 10 degrees on either axis."
        ),
    ] = "uniform"

    contrast_sd: Annotated[
        float,
        Setting(
            "SD of the particles' contrast: a factor of the signal, normal about 1 and at least "
            "0.05, which leaves the noise as it is.",
            metavar="SD",
            min=0,
            max=1,
        ),
    ] = 0.0

    b_factor_angstrom2: Annotated[
        float,
        Setting(
            "B-factor of the images, Å²: an envelope exp(-B s²/4) of the signal, which --snr is "
            "measured with.",
            flags=("--b-factor",),
            metavar="B",
            min=0,
            max=MAX_B_FACTOR_ANGSTROM2,
        ),
    ] = 0.0

    angle_error_deg: Annotated[
        float,
        Setting(
            "RMS angle between written and true orientations, degrees; each component of the "
            "rotation vector is normal with an SD of DEG/√3.",
            flags=("--angle-error",),
            metavar="DEG",
            min=0,
            max=MAX_ANGLE_ERROR_DEG,
        ),
    ] = 0.0

    shift_error_px: Annotated[
        float,
        Setting(
            "SD of the difference between written and true shifts, pixels along each axis.",
            flags=("--shift-error",),
            metavar="PX",
            min=0,
        ),
    ] = 0.0

    defocus_error_angstrom: Annotated[
        float,
        Setting(
            "SD of the difference between written and true defocus, Å; the same for U and V.",
            flags=("--defocus-error",),
            metavar="Å",
            min=0,
            max=MAX_DEFOCUS_ERROR_ANGSTROM,
        ),
    ] = 0.0

    chunk: Annotated[int, Setting("Images per stack; 0 writes a single one.", min=0)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.box % 2:
            raise ConfigError(f"--box must be even to have a centre pixel, got {self.box}.")
        if self.shift_error_px > MAX_SHIFT_ERROR * self.box:
            raise ConfigError(
                f"--shift-error must be at most {MAX_SHIFT_ERROR * self.box:g}, an eighth of --box "
                f"{self.box}, got {self.shift_error_px:g}."
            )
        if self.phantom not in PHANTOM_NAMES:
            raise ConfigError(
                f"--phantom {self.phantom!r} is unknown; known are {', '.join(PHANTOM_NAMES)}."
            )
        if self.pose_bias not in POSE_BIASES:
            raise ConfigError(
                f"--pose-bias {self.pose_bias!r} is unknown; known are {', '.join(POSE_BIASES)}."
            )

    @property
    def has_true_values(self) -> bool:
        """Whether particles have true values that the written files do not contain."""
        return any(
            (
                self.contrast_sd,
                self.angle_error_deg,
                self.shift_error_px,
                self.defocus_error_angstrom,
            )
        )
