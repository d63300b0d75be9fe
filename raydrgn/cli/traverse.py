"""``raydrgn traverse``: paths through the latent space."""

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import traverse as workflow
from raydrgn.workflows.traverse import (
    TraverseDirectSettings,
    TraverseGraphSettings,
    TraversePcSettings,
    TraverseResult,
)

traverse = typer.Typer(
    help="Volumes along a path through the latent space of a run; of a file of latents, the path.",
    no_args_is_help=True,
)


@traverse.command("pc")
@command(TraversePcSettings)
def traverse_pc(settings: TraversePcSettings, executor: Executor, progress: Progress) -> None:
    """Go along a principal component, all others at the mean.

    Writes RUN/traverse.N/pcK: latents, volumes, a figure on the UMAP, and the number of particles
    around each point.
    """
    _end(workflow.run(settings, executor=executor, progress=progress))


@traverse.command("direct")
@command(TraverseDirectSettings)
def traverse_direct(
    settings: TraverseDirectSettings, executor: Executor, progress: Progress
) -> None:
    """Go along straight lines from anchor to anchor.

    Writes RUN/traverse.N/direct. A line may lead through regions without particles; points.csv and
    the figure have the number of particles around each point.
    """
    _end(workflow.run(settings, executor=executor, progress=progress))


@traverse.command("graph")
@command(TraverseGraphSettings)
def traverse_graph(settings: TraverseGraphSettings, executor: Executor, progress: Progress) -> None:
    """Go from particle to particle by the shortest path through near neighbours.

    Writes RUN/traverse.N/graph, with the particles in path_ind.txt. Neighbours are exact up to
    200,000 particles, and in up to 8 dimensions (a million: 5 minutes on one core); others
    are approximate, from pynndescent on one core, so that paths do not depend on their number.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    result(
        f"path of {len(found.path.z):,} particles, length {found.length:.3f}; straight "
        f"{found.distance:.3f}"
    )
    _end(found)


def _end(found: TraverseResult) -> None:
    """Print the result of a path."""
    result(f"{len(found.path.z):,} points → {found.folder.uri}")
    end_with(found.failures)
