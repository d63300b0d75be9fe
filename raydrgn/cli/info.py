"""``raydrgn info``."""

from raydrgn.cli.command import command
from raydrgn.cli.tables import show_facts
from raydrgn.workflows import info as workflow
from raydrgn.workflows.info import InfoSettings


@command(InfoSettings)
def info(settings: InfoSettings) -> None:
    """Show in one table what a file or a run contains, and what about it looks wrong."""
    found = workflow.run(settings)
    concerns = [("looks wrong", concern) for concern in found.concerns]
    show_facts(f"{settings.path}: {found.kind}", found.facts, highlighted=concerns)
