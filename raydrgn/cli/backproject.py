"""``raydrgn backproject``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.options import Address, Ctf, Datadir, DropBad, HalfSizeShifts, Ind, Poses, Tasks


def backproject(
    particles: Annotated[
        str, typer.Argument(help="Particles: .mrcs, .txt, .star, .cs or .parquet.")
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder for maps, curves and pictures.")],
    poses: Poses = None,
    ctf: Ctf = None,
    ind: Ind = None,
    first: Annotated[
        int | None,
        typer.Option(min=2, help="Take this many particles from the start; 10000 make a check."),
    ] = None,
    datadir: Datadir = None,
    uninvert_data: Annotated[
        bool, typer.Option("--uninvert-data", help="Particles are dark in the images.")
    ] = False,
    reference: Annotated[
        str | None, typer.Option(help="Map of the refinement, to compare with.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Change the hand of the maps.")] = False,
    drop_bad: DropBad = False,
    half_size_shifts: HalfSizeShifts = False,
    workers: Tasks = None,
    address: Address = None,
) -> None:
    """Back-project particles with their poses, to see that images, poses and CTF fit.

    Writes map.mrc, half_map_a.mrc, half_map_b.mrc (even and odd particles), mask.mrc, fsc.csv,
    fsc.png, verdict.txt and backproject.png, a picture to judge at a glance, and says what to
    change: contrast, hand, shifts.
    """
    from raydrgn.inputs import backprojection as work
    from raydrgn.inputs.downsampling import without_bad
    from raydrgn.io import storage
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.io.sources import open_particles
    from raydrgn.remote.session import single_core_tasks

    request = work.Request(
        out=storage.absolute(out), invert=not uninvert_data, flip=flip, reference=reference
    )
    table = open_particles(
        ParticleSource(
            particles=particles,
            poses=poses,
            ctf=ctf,
            ind=ind,
            datadir=datadir,
            half_size_shifts=half_size_shifts,
        )
    )
    table = table.slice_rows(0, min(first or len(table), len(table)))
    if drop_bad:
        table, dropped = without_bad(table)
        messages.print(f"left out {dropped} bad images", highlight=False)
    work.check_folder(request, box=table.single_box())
    size = 4 * len(table) * table.single_box() ** 2
    with (
        single_core_tasks(workers, address, input_bytes=size) as allocation,
        metering("particles") as meter,
    ):
        result = work.back_project(
            table, request, allocation=allocation, progress=meter.callback("back-projecting")
        )
    work.write_result(result, request)
    for line in result.verdict.findings:
        console.print(line, highlight=False, soft_wrap=True)
    for line in result.verdict.problems:
        console.print(f"[bold red]![/] {line}", highlight=False, soft_wrap=True)
    console.print(f"{len(table)} particles → {out}", highlight=False)
