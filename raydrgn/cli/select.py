"""``raydrgn select``: particles chosen otherwise than by their latents."""

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.workflows import select as workflow
from raydrgn.workflows.select import SelectRandomSettings

select = typer.Typer(help="Select particles at random.", no_args_is_help=True)


@select.command("random")
@command(SelectRandomSettings)
def select_random(settings: SelectRandomSettings) -> None:
    """Draw particles at random, for --ind of train and export.

    Writes their numbers, ascending: rows of the particle file, for --ind of the same file; of a
    run, numbers in the original set. The same seed draws the same particles.
    """
    made = workflow.run_random(settings)
    result(f"{len(made.numbers):,} of {made.num_particles:,} particles → {made.out}")
