"""``raydrgn occupancy``: how much of each subunit there is in each of many volumes."""

import typer

occupancy = typer.Typer(
    help="How much of each subunit there is in each of many volumes.", no_args_is_help=True
)


@occupancy.callback()
def _group() -> None:
    """Keep the names of commands, however many there are."""
