"""``raydrgn evaluate``."""

from typing import Annotated

import typer
from rich.table import Table

from raydrgn.cli.console import console


def evaluate(
    run: Annotated[str, typer.Argument(help="Run directory, of raydrgn or cryoDRGN.")],
    truth: Annotated[str, typer.Option(help="Folder truth/ of the simulation.")],
    epoch: Annotated[int | None, typer.Option(help="Epoch; the last one by default.")] = None,
) -> None:
    """Compare a run on simulated particles with the truth.

    Prints and writes into RUN/evaluate.N: per-image FSC with and without a mask, beside that of
    the mean of the true volumes, and how well the latent space separates the states.
    """
    from raydrgn.analysis import evaluation
    from raydrgn.run.opened import open_run

    result = evaluation.evaluate(open_run(run), truth, epoch=epoch)
    table = Table(title=f"{run}, epoch {result.epoch}: {result.images} images")
    for column in ("", "run", "mean of true volumes"):
        table.add_column(column)
    table.add_row("per-image FSC", f"{result.fsc:.4f}", f"{result.fsc_of_mean:.4f}")
    table.add_row("… masked", f"{result.fsc_masked:.4f}", f"{result.fsc_of_mean_masked:.4f}")
    table.add_row("… area under curve", f"{result.fsc_auc:.4f}", "")
    for name, value in (
        ("states: 10-neighbour accuracy", result.neighbour_accuracy),
        ("states: Rand index, k-means", result.rand_index),
        ("states: Rand index, mixture", result.rand_index_mixture),
    ):
        if value is not None:
            table.add_row(name, f"{value:.4f}", "")
    console.print(table)
