"""Options that several commands share."""

import math
from typing import Annotated

import typer


def positive(value: float | None) -> float | None:
    """Refuse a length that is none: zero, negative, infinite, or not a number."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value} is not a positive number")
    return value


Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join, or RAY_ADDRESS; starts Ray on this machine if unset."),
]
Datadir = Annotated[
    str | None, typer.Option(help="Folder of the stacks that a .star or .cs file names.")
]
Poses = Annotated[str | None, typer.Option(help="cryoDRGN's poses.pkl.")]
Ctf = Annotated[str | None, typer.Option(help="cryoDRGN's ctf.pkl.")]
Ind = Annotated[
    str | None,
    typer.Option(help="Particles to take: .pkl, .npy or text; numbers from 0, in this order."),
]
Tasks = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Tasks at a time, one core each; one per core by default, and none for small inputs.",
    ),
]
HalfSizeShifts = Annotated[
    bool,
    typer.Option(
        "--half-size-shifts",
        help="The .cs file is of a heterogeneous refinement and does not say so: its shifts are "
        "in pixels twice as large as those of the images.",
    ),
]
DropBad = Annotated[
    bool,
    typer.Option("--drop-bad", help="Leave out images that are not finite, or of one grey value."),
]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes.")]
RunFolder = Annotated[str, typer.Argument(help="Run directory, of raydrgn or cryoDRGN.")]
EpochArgument = Annotated[
    int | None, typer.Argument(help="Epoch; the last whole one by default.", show_default=False)
]
Out = Annotated[
    str | None, typer.Option("-o", "--out", help="Folder to write, instead of the one in RUN.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Delete what the folder holds and start anew; else finished pieces are kept.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="Change the hand of volumes.")]
Invert = Annotated[bool, typer.Option("--invert", help="Change the sign of volumes.")]
SmallBox = Annotated[int | None, typer.Option("--box", help="Smaller box of volumes, pixels.")]
LowPass = Annotated[float | None, typer.Option(help="Low-pass filter of volumes, Å.")]
PixelSize = Annotated[
    float | None,
    typer.Option(
        callback=positive, help="Pixel size at the run's box, Å, if the run does not say."
    ),
]
