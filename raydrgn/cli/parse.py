"""``raydrgn parse``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.workflows import parse as workflow
from raydrgn.workflows.parse import ParseSettings


@command(ParseSettings)
def parse(settings: ParseSettings) -> None:
    """Read poses and CTF of a refinement, and write them for training.

    An option fills what the file lacks, or replaces what it has. The parquet table has all of it,
    the locations of the images included, and is enough to train from.
    """
    found = workflow.run(settings)
    result(f"{len(found.particles):,} particles → {', '.join(found.paths)}")
