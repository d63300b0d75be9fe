"""``raydrgn evaluate``."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from raydrgn.cli.console import console

if TYPE_CHECKING:
    from raydrgn.evaluation.evaluation import Evaluation


def evaluate(
    run: Annotated[str, typer.Argument(help="Run directory, of raydrgn or cryoDRGN.")],
    truth: Annotated[str, typer.Option(help="Folder truth/ of the simulation.")],
    epoch: Annotated[int | None, typer.Option(help="Epoch; the last one by default.")] = None,
) -> None:
    """Compare a run on simulated particles with the truth.

    Prints and writes into RUN/evaluate.N: per-image FSC with and without a mask, beside that of
    the mean of the true volumes, and how well the latent space separates the states.
    """
    from raydrgn.evaluation import evaluation
    from raydrgn.run.reader import open_run

    show_evaluation(run, evaluation.evaluate(open_run(run), truth, epoch=epoch))


def show_evaluation(run: str, result: "Evaluation") -> None:
    """Print an evaluation as tables."""
    table = Table(title=f"{run}, epoch {result.epoch}: {result.images} images")
    for column in ("", "run", "mean of true volumes"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("per-image FSC", f"{result.fsc:.4f}", f"{result.fsc_of_mean:.4f}")
    table.add_row("… masked", f"{result.fsc_masked:.4f}", f"{result.fsc_of_mean_masked:.4f}")
    table.add_row("… area under curve", f"{result.fsc_auc:.4f}", "")
    separation = result.separation
    for name, value in (
        ("states: 10-neighbour accuracy", separation.neighbour_accuracy),
        ("states: adjusted Rand index, k-means", separation.rand_index),
        ("states: adjusted Rand index, mixture", separation.rand_index_mixture),
        ("motion: |Spearman| of latent and angle", separation.motion_order),
    ):
        if value is not None:
            table.add_row(name, f"{value:.4f}", "")
    console.print(table)
    if not separation.by_state:
        return
    states = Table(title="states")
    for column in ("state", "share", "recall", "precision", "FSC of its volume"):
        states.add_column(column, justify="right" if column != "state" else "left")
    fsc = {volume.name: f"{volume.fsc:.3f}" for volume in result.states}  # junk has none
    for state in separation.by_state:
        states.add_row(
            state.name,
            f"{100 * state.share:.1f} %",
            f"{state.recall:.3f}",
            f"{state.precision:.3f}",
            fsc.get(state.name, "–"),
        )
    console.print(states)
