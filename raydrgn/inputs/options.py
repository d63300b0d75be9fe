"""What downsampling and back-projection are to make. Loads nothing heavy."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from raydrgn.errors import ConfigError
from raydrgn.io.uri import Uri
from raydrgn.settings import Setting, check_bounds, check_map_name

LISTINGS = (".txt", ".star", ".parquet")
"""Suffixes of files that list stacks or particles, with the stacks beside them."""


@dataclass(frozen=True, kw_only=True)
class DownsamplingOptions:
    """What a downsampling makes."""

    box: Annotated[
        int, Setting("New edge of the images, pixels; even.", flags=("-D", "--box"), min=4)
    ]

    out: Annotated[
        Uri,
        Setting(
            ".mrcs; or .txt, .star or .parquet with stacks beside it; .mrc or .map with "
            "--is-volume.",
            flags=("-o", "--out"),
        ),
    ]

    chunk: Annotated[
        int, Setting("Images per stack: NAME.0.mrcs … and NAME.txt; 0: one stack.", min=0)
    ] = 0

    is_volume: Annotated[bool, Setting("The input is a map.")] = False

    float16: Annotated[bool, Setting("Half precision (MRC mode 12), half the size.")] = False

    overwrite: Annotated[bool, Setting("Replace stacks that another command wrote.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.box % 2:
            raise ConfigError(f"--box must be even to have a centre pixel, got {self.box}.")
        if self.is_volume:
            check_map_name(self.out)
        suffix = PurePosixPath(self.out).suffix
        if not self.is_volume and suffix not in (".mrcs", *LISTINGS):
            raise ConfigError(
                f"-o {self.out} should end in .mrcs, .txt, .star or .parquet, found "
                f"{suffix or 'no suffix'!r}; maps need --is-volume."
            )


@dataclass(frozen=True, kw_only=True)
class BackprojectionOptions:
    """How particles are back-projected, and what the map is compared with."""

    uninvert_data: Annotated[
        bool,
        Setting(
            "Particles are dark on a bright background: images keep their sign.",
            project="uninvert_data",
        ),
    ] = False

    flip: Annotated[
        bool, Setting("Change the handedness of the maps, by reversing z.", project="flip")
    ] = False

    reference: Annotated[Uri | None, Setting("Map of the refinement, to compare with.")] = None
