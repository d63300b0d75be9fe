"""``raydrgn occupancy``: how much of each subunit there is in each of many volumes."""

import typer

from raydrgn.cli.occupancy_classes import classes
from raydrgn.cli.occupancy_masks import masks
from raydrgn.cli.occupancy_pca import pca
from raydrgn.cli.occupancy_score import score

occupancy = typer.Typer(
    help="How much of each subunit there is in each of many volumes.", no_args_is_help=True
)
occupancy.command()(masks)
occupancy.command()(score)
occupancy.command()(classes)
occupancy.command()(pca)
