"""``raydrgn downsample``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.options import Address, Datadir, DropBad, HalfSizeShifts, Ind, Tasks


def downsample(
    particles: Annotated[
        str, typer.Argument(help=".mrcs, .txt, .star, .cs or .parquet; a map with --is-volume.")
    ],
    box: Annotated[int, typer.Option("-D", "--box", help="New edge of the images, pixels; even.")],
    out: Annotated[
        str,
        typer.Option("-o", "--out", help=".mrcs; or .txt, .star, .parquet with stacks beside it."),
    ],
    chunk: Annotated[
        int, typer.Option(min=0, help="Images per stack: NAME.0.mrcs … and NAME.txt; 0: one stack.")
    ] = 0,
    ind: Ind = None,
    datadir: Datadir = None,
    is_volume: Annotated[bool, typer.Option("--is-volume", help="The input is a map.")] = False,
    float16: Annotated[
        bool, typer.Option("--float16", help="Half precision (MRC mode 12), half the size.")
    ] = False,
    drop_bad: DropBad = False,
    half_size_shifts: HalfSizeShifts = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace stacks that are in the way.")
    ] = False,
    workers: Tasks = None,
    address: Address = None,
) -> None:
    """Bring particle images, or a map, to a smaller box by Fourier cropping.

    The order of the particles is kept. Pixel size, image size and shifts in pixels follow in .star
    and .parquet outputs; other columns stay. The same command goes on where it was interrupted:
    what is finished is listed in OUT.downsample.json.
    """
    from raydrgn.inputs import downsampling as work
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.io.sources import open_particles
    from raydrgn.remote.session import single_core_tasks

    if is_volume:
        pixel_size = work.downsample_volume(particles, out, box=box)
        console.print(f"map of {box} px, {pixel_size:.4f} Å/px → {out}", highlight=False)
        return
    request = work.Downsampling(out=out, box=box, chunk=chunk, float16=float16, overwrite=overwrite)
    source = ParticleSource(
        particles=particles, ind=ind, datadir=datadir, half_size_shifts=half_size_shifts
    )
    table = open_particles(source)
    if drop_bad:
        table, dropped = work.without_bad(table)
        messages.print(f"left out {dropped} bad images", highlight=False)
    size = 4 * len(table) * table.single_box() ** 2
    with (
        single_core_tasks(workers, address, input_bytes=size) as allocation,
        metering("particles") as meter,
    ):
        small = work.downsample(
            table, request, allocation=allocation, progress=meter.callback("downsampling")
        )
    console.print(f"{len(small)} particles of {box} px → {out}", highlight=False)
