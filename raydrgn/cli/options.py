"""Options that several commands share."""

from typing import Annotated

import typer

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
Workers = Annotated[int, typer.Option(min=1, help="Worker processes.")]
