"""``raydrgn relocate``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import message, result
from raydrgn.workflows import relocate as workflow
from raydrgn.workflows.relocate import RelocateSettings


@command(RelocateSettings)
def relocate(settings: RelocateSettings) -> None:
    """Point a run to where its particle images are now, after they have moved.

    Stacks are looked for by their names below the folder, as train does, and taken only if they
    hold the same images: their number, box and, of a sample, every pixel. Training then goes on as
    if nothing had moved. A run directory may be moved or renamed without this.
    """
    found = workflow.run(settings)
    if not found.is_compared:
        message("This run has no checksum of its images: number and box are the same.")
    result(f"{found.num_moved} of {found.num_stacks} stacks are at another place → {found.root}")
