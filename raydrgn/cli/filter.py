"""``raydrgn filter``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, message, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import filter as workflow
from raydrgn.workflows.filter import FilterSettings


@command(FilterSettings)
def filter_(settings: FilterSettings, executor: Executor, progress: Progress) -> None:
    """Select particles: those that all of the given methods keep.

    Writes into RUN/filter the numbers of kept and of dropped particles in the original, unfiltered
    set, kept.ind.pkl and dropped.ind.pkl, for train --ind and export; a figure of both in the
    latent space, twenty images of each, the mean of a hundred volumes of each, and how far the
    methods agree. Of a file of latents it writes into NAME.filter beside it, without images and
    volumes; particles are numbered as in the file.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    if found.images_error:
        message(found.images_error)
    for method in found.methods:
        result(f"{method.name}: drops {int((~method.kept).sum()):,}")
    num_kept = int(found.kept.sum())
    result(
        f"{num_kept:,} kept, {len(found.kept) - num_kept:,} dropped → "
        f"{found.folder.at('kept.ind.pkl')}"
    )
    end_with(found.failures)
