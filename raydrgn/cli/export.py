"""``raydrgn export``: selections and runs back to other programs."""

from typing import TYPE_CHECKING, Annotated

import typer

from raydrgn.cli.console import console
from raydrgn.cli.options import Ctf, Datadir, HalfSizeShifts, Poses

if TYPE_CHECKING:
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.io.particles import ParticleTable

export = typer.Typer(
    help="Give selections and runs back to RELION, cryoSPARC and cryoDRGN.", no_args_is_help=True
)

Particles = Annotated[
    str,
    typer.Argument(help="Particles (.star, .cs, .parquet, .mrcs, .txt), or a run directory."),
]
Ind = Annotated[
    str | None,
    typer.Option(
        help="Particles to take: .pkl, .npy or text. Rows of the particle file, from 0; of a run, "
        "rows of the file it was trained from. They come in this order, repeated ones again."
    ),
]


@export.command("star")
def export_star(
    particles: Particles,
    out: Annotated[str, typer.Option("-o", "--out", help="STAR file to write.")],
    ind: Ind = None,
    poses: Poses = None,
    ctf: Ctf = None,
    datadir: Datadir = None,
    half_size_shifts: HalfSizeShifts = False,
) -> None:
    """Write a selection for RELION.

    From a .star file, or a run or table that was read from one, the original rows are written
    unchanged, with the optics groups they use; only poses or CTF that are others are replaced.
    From anything else a RELION 3.1 file is made anew.
    """
    from raydrgn.io import selection

    source, table = _source(
        particles, ind, poses=poses, ctf=ctf, datadir=datadir, half_size_shifts=half_size_shifts
    )
    count = selection.export_star(source, out, table=table)
    console.print(f"{count} particles → {out}", highlight=False)


@export.command("cs")
def export_cs(
    particles: Particles,
    out: Annotated[str, typer.Option("-o", "--out", help=".cs file to write, with its .csg.")],
    ind: Ind = None,
    poses: Poses = None,
    ctf: Ctf = None,
    datadir: Datadir = None,
) -> None:
    """Write a selection for cryoSPARC, from a .cs file or a run that was trained from one.

    Rows keep every field and their uid. Since uids must be unique, a particle that is asked for
    twice comes once. Take the .csg file in with cryoSPARC's Import Result Group.
    """
    from raydrgn.io import selection

    source, table = _source(particles, ind, poses=poses, ctf=ctf, datadir=datadir)
    count = selection.export_cs(source, out, table=table)
    console.print(f"{count} particles → {out}", highlight=False)


@export.command("indices")
def export_indices(
    particles: Particles,
    out: Annotated[str, typer.Option("-o", "--out", help=".pkl, .npy or .txt to write.")],
    ind: Ind = None,
    of: Annotated[
        str | None,
        typer.Option(
            help="Original .star or .cs file, of which PARTICLES is a selection that another "
            "program made; matched by image name or uid."
        ),
    ] = None,
) -> None:
    """Write the numbers of particles, rows of the original file from 0.

    Of a run or a .parquet these are the rows of the file that it was made from; of a RELION or
    cryoSPARC selection, rows of the file given with --of.
    """
    from raydrgn.io import cryodrgn, selection
    from raydrgn.io.sources import open_particles

    if of:
        numbers = selection.find_numbers(particles, of)
        if ind:
            numbers = numbers[cryodrgn.read_indices(ind)]
    else:
        source, table = _source(particles, ind)
        if table is None:
            table = open_particles(source, need_images=False)
        numbers = table.column("index")
    cryodrgn.write_indices(out, numbers)
    console.print(f"{len(numbers)} numbers → {out}", highlight=False)


@export.command("cryodrgn")
def export_cryodrgn(
    run: Annotated[str, typer.Argument(help="Run directory.")],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder to make.")],
) -> None:
    """Make a directory that cryoDRGN 4 opens: eval_vol, analyze and the rest work on it.

    Holds config.yaml, poses.pkl, ctf.pkl and ind.pkl in cryoDRGN's layout, and links to weights
    and latents, which are not copied.
    """
    from raydrgn.run.cryodrgn_export import export_run

    epochs = export_run(run, out)
    console.print(f"{len(epochs)} epochs → {out}", highlight=False)


def _source(
    particles: str,
    ind: str | None,
    *,
    poses: str | None = None,
    ctf: str | None = None,
    datadir: str | None = None,
    half_size_shifts: bool = False,
) -> tuple["ParticleSource", "ParticleTable | None"]:
    """Return where particles are; of a run, the table too, its rows chosen already.

    Raises:
        ConfigError: If poses or CTF are given for a run, which has its own.
    """
    from raydrgn.errors import ConfigError
    from raydrgn.io import cryodrgn, storage
    from raydrgn.io.particle_source import ParticleSource
    from raydrgn.io.selection import select_indices
    from raydrgn.run.reader import open_run

    source = ParticleSource(
        particles=particles,
        poses=poses,
        ctf=ctf,
        ind=ind,
        datadir=datadir,
        half_size_shifts=half_size_shifts,
    )
    if not storage.is_folder(particles):
        return source, None
    if poses or ctf:
        raise ConfigError(f"{particles} is a run and has its own poses and CTF.")
    table = open_run(particles).particles()
    return source, select_indices(table, cryodrgn.read_indices(ind)) if ind else table
