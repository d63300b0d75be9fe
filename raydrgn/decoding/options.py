"""What is done to decoded volumes before they are given out. Loads nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from raydrgn.errors import ConfigError
from raydrgn.settings import Setting, check_bounds


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeOptions:
    """What is done to volumes, in this order."""

    box: Annotated[int | None, Setting("Smaller box of volumes, pixels; even.", min=4)] = None
    """Smaller box to decode at; pixels grow accordingly."""

    flip: Annotated[bool, Setting("Change the handedness of volumes.", project="flip")] = False
    """Reverse the z axis."""

    invert: Annotated[bool, Setting("Change the sign of volumes.")] = False

    low_pass_angstrom: Annotated[
        float | None, Setting("Low-pass filter of volumes, Å.", flags=("--low-pass",), above=0)
    ] = None
    """Resolution beyond which frequencies are left out."""

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, box: int) -> None:
        """Check the options against a run's box.

        Raises:
            ConfigError: Naming the option.
        """
        if self.box is None:
            return
        if self.box % 2:
            raise ConfigError(f"--box must be even to have a centre pixel, got {self.box}.")
        if self.box > box:
            raise ConfigError(f"--box {self.box} is larger than the run's box of {box} px.")

    def check_crop(self, crop: int | None, box: int) -> None:
        """Check the edge of a cube that is cut out of the volumes of a run of some box.

        Raises:
            ConfigError: If it is odd, or larger than the volumes.
        """
        if crop is None:
            return
        if crop % 2:
            raise ConfigError(f"--crop must be even to have a centre voxel, got {crop}.")
        size = self.box or box
        if crop > size:
            raise ConfigError(f"--crop {crop} is larger than the volumes, which have {size} px.")

    def pixel_size(self, pixel_size_angstrom: float, box: int) -> float:
        """Return the pixel size of the volumes, given that of the run and its box."""
        return pixel_size_angstrom * box / (self.box or box)
