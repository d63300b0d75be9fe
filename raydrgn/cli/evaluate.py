"""``raydrgn evaluate``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from raydrgn.cli.command import command
from raydrgn.cli.console import console, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import evaluate as workflow
from raydrgn.workflows.evaluate import EvaluateSettings

if TYPE_CHECKING:
    from raydrgn.evaluation.evaluation import Evaluation


@command(EvaluateSettings)
def evaluate(settings: EvaluateSettings, executor: Executor, progress: Progress) -> None:
    """Compare a run on simulated particles with the truth.

    Prints and writes into RUN/evaluate.N: per-image FSC with and without a mask, beside that of
    the mean of the true volumes, and how well the latent space separates the states.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    show_evaluation(settings.run, found.evaluation)
    result(f"→ {found.folder.uri}")


def show_evaluation(run: str, found: "Evaluation") -> None:
    """Print an evaluation as tables."""
    separation = found.separation
    rows = [
        ("per-image FSC", f"{found.fsc:.4f}", f"{found.fsc_of_mean:.4f}"),
        ("… masked", f"{found.fsc_masked:.4f}", f"{found.fsc_of_mean_masked:.4f}"),
        ("… area under curve", f"{found.fsc_auc:.4f}", ""),
    ]
    for name, value in (
        ("states: 10-neighbour accuracy", separation.neighbour_accuracy),
        ("states: adjusted Rand index, k-means", separation.rand_index),
        ("states: adjusted Rand index, mixture", separation.rand_index_mixture),
        ("motion: |Spearman| of latent and angle", separation.motion_order),
    ):
        if value is not None:
            rows.append((name, f"{value:.4f}", ""))
    title = f"{run}, epoch {found.epoch}: {found.images} images"
    _show_table(title, ("", "run", "mean of true volumes"), rows)
    fsc = {volume.name: f"{volume.fsc:.3f}" for volume in found.states}  # junk has none
    states = [
        (
            state.name,
            f"{100 * state.share:.1f} %",
            f"{state.recall:.3f}",
            f"{state.precision:.3f}",
            fsc.get(state.name, "–"),
        )
        for state in separation.by_state
    ]
    if states:
        _show_table(
            "states", ("state", "share", "recall", "precision", "FSC of its volume"), states
        )


def _show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print text as text: names with brackets are not markup."""
    table = Table(title=Text(title))
    for number, column in enumerate(head):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
