"""``raydrgn filter``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, message, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import filter as workflow
from raydrgn.workflows.filter import FilterResult, FilterSettings, GroupsResult


@command(FilterSettings)
def filter_(settings: FilterSettings, executor: Executor, progress: Progress) -> None:
    """Select particles: those that all of the given methods keep.

    Writes into RUN/filter, or RUN/filter.NAME, the numbers of kept and of dropped particles in the
    original, unfiltered set, kept.ind.pkl and dropped.ind.pkl, for train --ind and export; a figure
    of both in the latent space, twenty images of each, the mean of a hundred volumes of each, and
    how far the methods agree. Of a file of latents it writes into NAME.filter beside it, without
    images and volumes; particles are numbered as in the file.

    Before that, --show, or --gmm without --drop, shows particles and mean volume of each cluster.

    A condition of --where can name cluster, component (of --gmm), z_norm (|z|), z_score (SD above
    its mean), z0 …, pc1 …, umap1, umap2, original, particle, columns of the run's particles such as
    defocus_u_angstrom, and what a run of --method mfa has estimated, such as null_probability.
    """
    run = workflow.run_groups if settings.only_shows else workflow.run
    found = run(settings, executor=executor, progress=progress)
    if found.images_error:
        message(found.images_error)
    result(*_lines(found))
    end_with(found.failures)


def _lines(found: FilterResult | GroupsResult) -> list[str]:
    if isinstance(found, GroupsResult):
        lines = [*found.groups.describe(), f"→ {found.folder.at('report.html')}"]
        return [*lines, *_next(found)]
    lines = [f"{method.name}: drops {int((~method.kept).sum()):,}" for method in found.methods]
    num_kept = int(found.kept.sum())
    lines.append(
        f"{num_kept:,} kept, {len(found.kept) - num_kept:,} dropped → "
        f"{found.folder.at('kept.ind.pkl')}, report.html"
    )
    return [*lines, *_next(found)]


def _next(found: FilterResult | GroupsResult) -> list[str]:
    commands = [f"  {line}" for line in found.commands]
    return ["next, for example:", *commands] if commands else []
