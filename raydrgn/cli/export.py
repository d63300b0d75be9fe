"""``raydrgn export``: selections and runs in the files of other programs."""

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.wording import counted
from raydrgn.workflows import export as workflow
from raydrgn.workflows.export import (
    ExportCryodrgnSettings,
    ExportCsSettings,
    ExportIndicesSettings,
    ExportStarSettings,
)

export = typer.Typer(
    help="Write selections and runs for RELION, cryoSPARC and cryoDRGN.", no_args_is_help=True
)


@export.command("star")
@command(ExportStarSettings)
def export_star(settings: ExportStarSettings) -> None:
    """Write a selection for RELION.

    PARTICLES may be a run directory; --ind are numbers in the original set, then. From a .star
    file, or a run or table that was read from one, the original rows are written unchanged, with
    the optics groups they use; only poses or CTF that are others are replaced.
    From anything else a RELION 3.1 file is made anew.
    """
    made = workflow.run_star(settings)
    result(f"{made.num_particles:,} particles → {made.out}")


@export.command("cs")
@command(ExportCsSettings)
def export_cs(settings: ExportCsSettings) -> None:
    """Write a selection for cryoSPARC, from a .cs file or a run that was trained from one.

    PARTICLES may be a run directory; --ind are numbers in the original set, then. Rows keep every
    field and their uid. Since uids must be unique, a particle that is listed twice is written once.
    Import the .csg file with cryoSPARC's Import Result Group.
    """
    made = workflow.run_cs(settings)
    result(f"{made.num_particles:,} particles → {made.out}")


@export.command("indices")
@command(ExportIndicesSettings)
def export_indices(settings: ExportIndicesSettings) -> None:
    """Write the numbers of particles, rows of the original file from 0.

    Of a run or a .parquet these are the rows of the file that it was made from; of a RELION or
    cryoSPARC selection, rows of the file given with --of.
    """
    made = workflow.run_indices(settings)
    result(f"{len(made.numbers):,} numbers → {made.out}")


@export.command("cryodrgn")
@command(ExportCryodrgnSettings)
def export_cryodrgn(settings: ExportCryodrgnSettings) -> None:
    """Make a directory that cryoDRGN 4 opens: eval_vol, analyze and the rest work on it.

    Has config.yaml, poses.pkl, ctf.pkl and ind.pkl in cryoDRGN's layout, and links to weights and
    latents, which are not copied. A folder with anything but an earlier export of the same run is
    refused.
    """
    made = workflow.run_cryodrgn(settings)
    result(f"{counted(len(made.epochs), 'epoch')} → {made.out}")
